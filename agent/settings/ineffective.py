"""Variables of the ECS agent that this version knows and does not act upon, each with the reason."""

from dataclasses import dataclass

_ECS = "belongs to the real ECS protocol, which comes later"
_METRICS = "statistics come later"
_IMAGES = "image clean-up comes later"
_METADATA = "the metadata endpoint comes later"
_LOGINS = "logins to private registries come later"
_FIRELENS = "FireLens comes later"
_VOLUMES = "only Docker volumes and host paths are supported yet"
_ALWAYS = "berth always does this"
_NEVER = "berth never does this"
_CONTAINER = "the agent is no container of its own Docker, so this is not needed"
_MODES = "bridge and host network mode come later"
_PORTS = "an awsvpc task has all ports for itself; bridge and host network mode come later"
_WINDOWS = "Windows containers are not supported"
_DEVICES = "GPUs and accelerators come later"


@dataclass(frozen=True, slots=True)
class Ineffective:
    """A known variable without effect. ``holds``: the value that is true anyway; setting it is fine."""

    name: str
    reason: str
    holds: str | None = None
    is_secret: bool = False


INEFFECTIVE: tuple[Ineffective, ...] = (
    Ineffective("ECS_BACKEND_HOST", _ECS),
    Ineffective("ECS_RESERVED_PORTS", _PORTS),
    Ineffective("ECS_RESERVED_PORTS_UDP", _PORTS, holds="[]"),
    Ineffective("ECS_AVAILABLE_LOGGING_DRIVERS", "the local backend refuses log drivers that it lacks"),
    Ineffective("ECS_HOST_DATA_DIR", _CONTAINER),
    Ineffective("ECS_CHECKPOINT", _ALWAYS, holds="true"),
    Ineffective("ECS_ENGINE_AUTH_TYPE", _LOGINS),
    Ineffective("ECS_ENGINE_AUTH_DATA", _LOGINS, is_secret=True),
    Ineffective("ECS_UPDATES_ENABLED", _ECS, holds="false"),
    Ineffective("ECS_UPDATE_DOWNLOAD_DIR", _ECS),
    Ineffective("ECS_DISABLE_METRICS", _METRICS, holds="true"),
    Ineffective("ECS_POLL_METRICS", _METRICS, holds="false"),
    Ineffective("ECS_POLLING_METRICS_WAIT_DURATION", _METRICS),
    Ineffective("ECS_DISABLE_DOCKER_HEALTH_CHECK",
                "health checks of task definitions always run", holds="false"),
    Ineffective("ECS_DISABLE_PRIVILEGED", _ECS, holds="false"),
    Ineffective("ECS_SELINUX_CAPABLE", _ECS, holds="false"),
    Ineffective("ECS_APPARMOR_CAPABLE", _ECS, holds="false"),
    Ineffective("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER", _NEVER, holds="0"),
    Ineffective("ECS_MANIFEST_PULL_TIMEOUT",
                "the manifest counts as a part of the pull: ECS_IMAGE_PULL_TIMEOUT"),
    Ineffective("ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT", _ALWAYS, holds="true"),
    Ineffective("ECS_DISABLE_IMAGE_CLEANUP", _IMAGES, holds="true"),
    Ineffective("ECS_IMAGE_CLEANUP_INTERVAL", _IMAGES),
    Ineffective("ECS_IMAGE_MINIMUM_CLEANUP_AGE", _IMAGES),
    Ineffective("NON_ECS_IMAGE_MINIMUM_CLEANUP_AGE", _IMAGES),
    Ineffective("ECS_NUM_IMAGES_DELETE_PER_CYCLE", _IMAGES),
    Ineffective("NONECS_NUM_CONTAINERS_DELETE_PER_CYCLE", _IMAGES),
    Ineffective("ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP", _IMAGES, holds="false"),
    Ineffective("ECS_EXCLUDE_UNTRACKED_IMAGE", _IMAGES),
    Ineffective("ECS_ENABLE_TASK_IAM_ROLE", _ALWAYS, holds="true"),
    Ineffective("ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST", _MODES, holds="false"),
    Ineffective("ECS_TASK_METADATA_RPS_LIMIT", _METADATA),
    Ineffective("ECS_ENABLE_TASK_ENI", _ALWAYS, holds="true"),
    Ineffective("ECS_ENABLE_HIGH_DENSITY_ENI",
                "ENI trunking comes with the real ECS protocol", holds="false"),
    Ineffective("ECS_TASK_PIDS_LIMIT", "a limit of processes per task comes later", holds="0"),
    Ineffective("ECS_PROPAGATE_TASK_MEMORY_LIMIT_CGROUPV2",
                "propagation of the task's limit comes later", holds="false"),
    Ineffective("ECS_CONTAINER_INSTANCE_TAGS",
                "tags of the container instance come with the real ECS protocol"),
    Ineffective("ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM", _ECS, holds="none"),
    Ineffective("ECS_ENABLE_CONTAINER_METADATA", _METADATA, holds="false"),
    Ineffective("ECS_DISABLE_TASK_METADATA_AZ", _METADATA, holds="false"),
    Ineffective("ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE",
                "the execution role is not used for logs yet", holds="false"),
    Ineffective("ECS_SHARED_VOLUME_MATCH_FULL_CONFIG", _VOLUMES, holds="false"),
    Ineffective("ECS_VOLUME_PLUGIN_CAPABILITIES", _VOLUMES, holds="[]"),
    Ineffective("ECS_FSX_WINDOWS_FILE_SERVER_SUPPORTED", _WINDOWS, holds="false"),
    Ineffective("ECS_EBSTA_SUPPORTED", _VOLUMES, holds="false"),
    Ineffective("ECS_ENABLE_GPU_SUPPORT", _DEVICES, holds="false"),
    Ineffective("ECS_NVIDIA_RUNTIME", _DEVICES),
    Ineffective("ECS_ENABLE_INF_SUPPORT", _DEVICES, holds="false"),
    Ineffective("ECS_GMSA_SUPPORTED", "gMSA credentials are not supported", holds="false"),
    Ineffective("CREDENTIALS_FETCHER_HOST", "gMSA credentials are not supported"),
    Ineffective("CREDENTIALS_FETCHER_HOST_DIR", "gMSA credentials are not supported"),
    Ineffective("CREDENTIALS_FETCHER_SECRET_NAME_FOR_DOMAINLESS_GMSA", "gMSA credentials are not supported"),
    Ineffective("ECS_DOMAIN_JOINED_LINUX_INSTANCE", "gMSA credentials are not supported", holds="false"),
    Ineffective("ECS_ENABLE_SPOT_INSTANCE_DRAINING", _ECS, holds="false"),
    Ineffective("ECS_WARM_POOLS_CHECK", _ECS, holds="false"),
    Ineffective("ECS_EXTERNAL", _ECS, holds="false"),
    Ineffective("ECS_ENABLE_RUNTIME_STATS", "profiling of a Go program; berth is none", holds="false"),
    Ineffective("ECS_ENABLE_PROMETHEUS_METRICS", _METRICS, holds="false"),
    Ineffective("ECS_EXCLUDE_IPV6_PORTBINDING", _MODES),
    Ineffective("ECS_INSTANCE_IP_COMPATIBILITY", _ECS),
    Ineffective("ECS_DYNAMIC_HOST_PORT_RANGE", _MODES),
    Ineffective("ECS_ENABLE_FIRELENS_ASYNC", _FIRELENS),
    Ineffective("ECS_DETAILED_OS_FAMILY", _ECS),
    Ineffective("ECS_PAUSE_LABELS", "extra labels of pause containers come later", holds="{}"),
    Ineffective("ECS_AGENT_HEALTHCHECK_HOST", "the health check asks BERTH_INTROSPECTION_ADDRESS"),
    Ineffective("ECS_ALTERNATE_CREDENTIAL_PROFILE", _ECS, holds="default"),
    Ineffective("ECS_LOG_DRIVER", _CONTAINER),
    Ineffective("ECS_LOG_OPTS", _CONTAINER),
    Ineffective("ECS_INIT_DOCKER_LOG_FILE_SIZE", _CONTAINER),
    Ineffective("ECS_INIT_DOCKER_LOG_FILE_NUM", _CONTAINER),
    Ineffective("ECS_AGENT_LABELS", _CONTAINER),
    Ineffective("ECS_AGENT_APPARMOR_PROFILE", _CONTAINER),
    Ineffective("ECS_AGENT_PID_NAMESPACE_HOST", _CONTAINER),
    Ineffective("ECS_AGENT_RUN_PRIVILEGED", _CONTAINER),
    Ineffective("ECS_SKIP_LOCALHOST_TRAFFIC_FILTER",
                "berth never sends outside traffic to localhost: nothing to filter"),
    Ineffective("ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS", _NEVER, holds="false"),
    Ineffective("ECS_OFFHOST_INTROSPECTION_INTERFACE_NAME", _NEVER),
)  # fmt: skip

_SDK = "read by the AWS SDK, from the environment only"
_PROXY = "read by the HTTP clients, from the environment only"

FOR_LIBRARIES: tuple[Ineffective, ...] = (
    Ineffective("AWS_ACCESS_KEY_ID", _SDK, is_secret=True),
    Ineffective("AWS_SECRET_ACCESS_KEY", _SDK, is_secret=True),
    Ineffective("AWS_SESSION_TOKEN", _SDK, is_secret=True),
    Ineffective("HTTP_PROXY", _PROXY, is_secret=True),
    Ineffective("HTTPS_PROXY", _PROXY, is_secret=True),
    Ineffective("NO_PROXY", _PROXY),
)
"""Variables that act when they are in the environment and do nothing in a file."""

OF_CONTAINERS = frozenset(
    {
        "ECS_CONTAINER_METADATA_URI",
        "ECS_CONTAINER_METADATA_URI_V4",
        "ECS_AGENT_URI",
        "ECS_CONTAINER_METADATA_FILE",
    }
)
"""Set inside tasks by the agent that runs them. Not ours to judge when berth itself runs in such a task."""
