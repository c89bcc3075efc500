"""Variables of the ECS agent that this version knows and does not act upon, each with the reason.

The whole table is ecs-protocol 8.2; what is not here is honoured or read by a library.
"""

from dataclasses import dataclass

_CONTROL_GROUPS = "statistics are read from control groups, always"
_UPDATES = "berth never updates itself: a new image or package does"
_IMAGES = "image clean-up comes later"
_METADATA = "the metadata endpoint comes later"
_FIRELENS = "FireLens comes later"
_VOLUMES = "only Docker volumes and host paths are supported yet"
_ALWAYS = "berth always does this"
_NEVER = "berth never does this"
_STARTED = "whoever starts the agent's container chooses this: `docker run"
_MODES = "bridge and host network mode come later"
_WINDOWS = "Windows containers are not supported"
_GMSA = "gMSA credentials are not supported"
_DEVICES = "GPUs and accelerators come later"


@dataclass(frozen=True, slots=True)
class Ineffective:
    """A known variable without effect. ``holds``: the value that is true anyway; setting it is fine.

    ``json_keys``: what it is called in the JSON file (ecs-protocol 8.1).
    """

    name: str
    reason: str
    holds: str | None = None
    is_secret: bool = False
    json_keys: tuple[str, ...] = ()


INEFFECTIVE: tuple[Ineffective, ...] = (
    Ineffective("ECS_CHECKPOINT", _ALWAYS, holds="true",
                json_keys=("Checkpoint",)),
    Ineffective("ECS_UPDATES_ENABLED", _UPDATES, holds="false",
                json_keys=("UpdatesEnabled",)),
    Ineffective("ECS_UPDATE_DOWNLOAD_DIR", _UPDATES,
                json_keys=("UpdateDownloadDir",)),
    Ineffective("ECS_POLL_METRICS", _CONTROL_GROUPS, holds="false",
                json_keys=("PollMetrics",)),
    Ineffective("ECS_POLLING_METRICS_WAIT_DURATION", _CONTROL_GROUPS,
                json_keys=("PollingMetricsWaitDuration",)),
    Ineffective("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER", _NEVER, holds="0",
                json_keys=("TaskCleanupWaitDurationJitter",)),
    Ineffective("ECS_MANIFEST_PULL_TIMEOUT",
                "the manifest counts as a part of the pull: ECS_IMAGE_PULL_TIMEOUT",
                json_keys=("ManifestPullTimeout",)),
    Ineffective("ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT", _ALWAYS, holds="true",
                json_keys=("DependentContainersPullUpfront",)),
    Ineffective("ECS_DISABLE_IMAGE_CLEANUP", _IMAGES, holds="true",
                json_keys=("ImageCleanupDisabled",)),
    Ineffective("ECS_IMAGE_CLEANUP_INTERVAL", _IMAGES,
                json_keys=("ImageCleanupInterval",)),
    Ineffective("ECS_IMAGE_MINIMUM_CLEANUP_AGE", _IMAGES,
                json_keys=("MinimumImageDeletionAge",)),
    Ineffective("NON_ECS_IMAGE_MINIMUM_CLEANUP_AGE", _IMAGES,
                json_keys=("NonECSMinimumImageDeletionAge",)),
    Ineffective("ECS_NUM_IMAGES_DELETE_PER_CYCLE", _IMAGES,
                json_keys=("NumImagesToDeletePerCycle",)),
    Ineffective("NONECS_NUM_CONTAINERS_DELETE_PER_CYCLE", _IMAGES,
                json_keys=("NumNonECSContainersToDeletePerCycle",)),
    Ineffective("ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP", _IMAGES, holds="false",
                json_keys=("DeleteNonECSImagesEnabled",)),
    Ineffective("ECS_EXCLUDE_UNTRACKED_IMAGE", _IMAGES,
                json_keys=("ImageCleanupExclusionList",)),
    Ineffective("ECS_ENABLE_TASK_IAM_ROLE", _ALWAYS, holds="true",
                json_keys=("TaskIAMRoleEnabled",)),
    Ineffective("ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST", _MODES, holds="false",
                json_keys=("TaskIAMRoleEnabledForNetworkHost",)),
    Ineffective("ECS_TASK_METADATA_RPS_LIMIT", _METADATA,
                json_keys=("TaskMetadataSteadyStateRate", "TaskMetadataBurstRate")),
    Ineffective("ECS_ENABLE_TASK_ENI", _ALWAYS, holds="true",
                json_keys=("TaskENIEnabled",)),
    Ineffective("ECS_ENABLE_HIGH_DENSITY_ENI",
                "ENI trunking is not supported: each task has a network interface of the instance",
                holds="false",
                json_keys=("ENITrunkingEnabled",)),
    Ineffective("ECS_TASK_PIDS_LIMIT", "a limit of processes per task comes later", holds="0",
                json_keys=("TaskPidsLimit",)),
    Ineffective("ECS_PROPAGATE_TASK_MEMORY_LIMIT_CGROUPV2",
                "propagation of the task's limit comes later", holds="false"),
    Ineffective("ECS_ENABLE_CONTAINER_METADATA", _METADATA, holds="false",
                json_keys=("ContainerMetadataEnabled",)),
    Ineffective("ECS_DISABLE_TASK_METADATA_AZ", _METADATA, holds="false",
                json_keys=("TaskMetadataAZDisabled",)),
    Ineffective("ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE",
                "the execution role is not used for logs yet", holds="false",
                json_keys=("OverrideAWSLogsExecutionRole",)),
    Ineffective("ECS_SHARED_VOLUME_MATCH_FULL_CONFIG", _VOLUMES, holds="false",
                json_keys=("SharedVolumeMatchFullConfig",)),
    Ineffective("ECS_VOLUME_PLUGIN_CAPABILITIES", _VOLUMES, holds="[]",
                json_keys=("VolumePluginCapabilities",)),
    Ineffective("ECS_FSX_WINDOWS_FILE_SERVER_SUPPORTED", _WINDOWS, holds="false",
                json_keys=("FSxWindowsFileServerCapable",)),
    Ineffective("ECS_EBSTA_SUPPORTED", _VOLUMES, holds="false"),
    Ineffective("ECS_ENABLE_GPU_SUPPORT", _DEVICES, holds="false",
                json_keys=("GPUSupportEnabled",)),
    Ineffective("ECS_NVIDIA_RUNTIME", _DEVICES,
                json_keys=("NvidiaRuntime",)),
    Ineffective("ECS_ENABLE_INF_SUPPORT", _DEVICES, holds="false",
                json_keys=("InferentiaSupportEnabled",)),
    Ineffective("ECS_GMSA_SUPPORTED", _GMSA, holds="false",
                json_keys=("GMSACapable",)),
    Ineffective("CREDENTIALS_FETCHER_HOST", _GMSA),
    Ineffective("CREDENTIALS_FETCHER_HOST_DIR", _GMSA),
    Ineffective("CREDENTIALS_FETCHER_SECRET_NAME_FOR_DOMAINLESS_GMSA", _GMSA),
    Ineffective("ECS_DOMAIN_JOINED_LINUX_INSTANCE", _GMSA, holds="false"),
    Ineffective("ECS_EXTERNAL",
                "ECS Anywhere has no awsvpc network mode, and berth runs awsvpc tasks only", holds="false",
                json_keys=("External",)),
    Ineffective("ECS_ENABLE_RUNTIME_STATS", "profiling of a Go program; berth is none", holds="false",
                json_keys=("EnableRuntimeStats",)),
    Ineffective("ECS_ENABLE_PROMETHEUS_METRICS",
                "nothing of this kind is served; in the ECS agent it only reserves port 51680",
                holds="false",
                json_keys=("PrometheusMetricsEnabled",)),
    Ineffective("ECS_EXCLUDE_IPV6_PORTBINDING", _MODES,
                json_keys=("ShouldExcludeIPv6PortBinding",)),
    Ineffective("ECS_INSTANCE_IP_COMPATIBILITY",
                "an awsvpc task has the addresses of its own network interface, whatever the machine has",
                json_keys=("InstanceIPCompatibility",)),
    Ineffective("ECS_DYNAMIC_HOST_PORT_RANGE", _MODES,
                json_keys=("DynamicHostPortRange",)),
    Ineffective("ECS_ENABLE_FIRELENS_ASYNC", _FIRELENS,
                json_keys=("FirelensAsyncEnabled",)),
    Ineffective("ECS_PAUSE_LABELS", "extra labels of pause containers come later", holds="{}"),
    Ineffective("ECS_AGENT_HEALTHCHECK_HOST", "the health check asks BERTH_INTROSPECTION_ADDRESS"),
    Ineffective("ECS_ALTERNATE_CREDENTIAL_PROFILE",
                "a part of ECS Anywhere; AWS_PROFILE chooses a profile of the shared credentials file",
                holds="default"),
    Ineffective("ECS_LOG_DRIVER", f"{_STARTED} --log-driver`"),
    Ineffective("ECS_LOG_OPTS", f"{_STARTED} --log-opt`", is_secret=True),
    Ineffective("ECS_INIT_DOCKER_LOG_FILE_SIZE", f"{_STARTED} --log-opt max-size=…`"),
    Ineffective("ECS_INIT_DOCKER_LOG_FILE_NUM", f"{_STARTED} --log-opt max-file=…`"),
    Ineffective("ECS_AGENT_LABELS", f"{_STARTED} --label`"),
    Ineffective("ECS_AGENT_APPARMOR_PROFILE", f"{_STARTED} --security-opt apparmor=…`"),
    Ineffective("ECS_AGENT_PID_NAMESPACE_HOST", f"{_STARTED} --pid=host`, which berth always needs",
                holds="true"),
    Ineffective("ECS_AGENT_RUN_PRIVILEGED", f"{_STARTED} --privileged`, or the list of capabilities"),
    Ineffective("ECS_SKIP_LOCALHOST_TRAFFIC_FILTER",
                "berth never sends outside traffic to localhost: nothing to filter"),
    Ineffective("ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS", _NEVER, holds="false"),
    Ineffective("ECS_OFFHOST_INTROSPECTION_INTERFACE_NAME", _NEVER),
)  # fmt: skip

ONLY_IN_JSON: dict[str, str] = {
    "PlatformVariables": "it is about Windows",
    "ENIPauseContainerCleanupDelaySeconds": "a pause container is removed as soon as it has stopped",
    "OverrideAWSVPCLocalIPv4Address": "each task is given the next free address of the bridge",
    "PauseContainerImageName": "the pause image is berth's own: BERTH_PAUSE_PATH",
    "PauseContainerTag": "the pause image is berth's own: BERTH_PAUSE_PATH",
    "PauseContainerTarballPath": "the pause image is berth's own: BERTH_PAUSE_PATH",
    "NoIID": "the identity document is sent when the instance metadata service has one: "
             "AWS_EC2_METADATA_DISABLED",
    "RuntimeStatsLogFile": "profiling of a Go program; berth is none",
    "InstanceENIDNSServerList": _WINDOWS,
    "GMSADomainlessCapable": _GMSA,
    "CSIDriverSocketPath": _VOLUMES,
    "NodeStageTimeout": _VOLUMES,
    "NodeUnstageTimeout": _VOLUMES,
}  # fmt: skip
"""Fields of the JSON file that are no variable of the ECS agent and have no effect here, with the reason."""

OF_CONTAINERS = frozenset(
    {
        "ECS_CONTAINER_METADATA_URI",
        "ECS_CONTAINER_METADATA_URI_V4",
        "ECS_AGENT_URI",
        "ECS_CONTAINER_METADATA_FILE",
    }
)
"""Set inside tasks by the agent that runs them. Not ours to judge when berth itself runs in such a task."""
