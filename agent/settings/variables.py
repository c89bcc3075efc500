"""Every variable that berth honours, as a table; ``docs/settings.md`` is made from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from agent.settings.kinds import (
    ACCOUNT,
    API_ADDRESS,
    BACKEND_HOST,
    CLUSTER,
    DECIMAL,
    DOCKER_HOST,
    DRIVERS,
    DURATION,
    LOOPBACK,
    MEBIBYTES,
    NAME,
    NETWORK,
    NETWORKS,
    PATH,
    PORTS,
    PULL_BEHAVIOR,
    REGION,
    TEXT_MAP,
    TRUTH,
    URL,
    WHOLE,
    Kind,
    choice,
)
from agent.settings.logins import LOGINS

SOURCE_TREE = Path(__file__).resolve().parents[2]
"""Where the packages stand; the build puts plugins and pause images beside them."""


class Beyond(Enum):
    """What a value outside its limits becomes (ecs-protocol 8.1)."""

    REFUSED = "refused"
    NEAREST_LIMIT = "the nearest limit is used"
    DEFAULT = "the default is used"


@dataclass(frozen=True, slots=True)
class Machine:
    """What defaults depend on. ``exists`` tells whether a path exists; ``boot_id`` names this boot."""

    cores: int
    exists: Callable[[Path], bool]
    boot_id: str = ""


@dataclass(frozen=True, slots=True)
class Basis:
    """What a default may follow from: fields that stand before it in the table, the machine, what is set.

    ``named``: the first names of the variables that somebody has set, under whatever name.
    """

    values: Mapping[str, Any]
    machine: Machine
    named: frozenset[str]


@dataclass(frozen=True, slots=True)
class Computed:
    """A default that follows from something. ``of`` gives the text as it would be typed, or an empty one."""

    explanation: str
    of: Callable[[Basis], str]


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable. ``default`` None: absent unless set. ``low`` and ``high`` are inclusive.

    ``aliases`` are other names of the variable, ``json_keys`` its names in the JSON file. ``backend``: the
    only one for which it means something.
    """

    name: str
    field: str
    kind: Kind
    default: str | Computed | None
    meaning: str
    low: Any = None
    high: Any = None
    beyond: Beyond = Beyond.REFUSED
    aliases: tuple[str, ...] = ()
    json_keys: tuple[str, ...] = ()
    backend: str | None = None


def _first_existing(*paths: Path) -> Callable[[Basis], str]:
    def choose(basis: Basis) -> str:
        return str(next((path for path in paths if basis.machine.exists(path)), paths[-1]))

    return choose


def _by_backend(*, local: str, ecs: str) -> Callable[[Basis], str]:
    def choose(basis: Basis) -> str:
        return ecs if basis.values["backend"] == "ecs" else local

    return choose


def _above_data(basis: Basis) -> str:
    data: Path = basis.values["data_directory"]
    # the ECS agent's container has /var/lib/ecs/data of the machine as its /data (ecs-protocol 8.3)
    return "/var/lib/ecs" if data == Path("/data") else str(data.parent)


def _run_directory(basis: Basis) -> str:
    if not basis.values["in_container"]:
        return "/run/berth"
    # /run of a container ends with it, and the next container must know the addresses of the tasks
    return str(basis.values["data_directory"] / "boots" / (basis.machine.boot_id or "unknown"))


_LEVEL = choice("debug", "info", "warn", "error", "crit", "none")
_RUNTIME_TIMEOUT = Beyond.NEAREST_LIMIT


def _seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


VARIABLES: tuple[Variable, ...] = (
    Variable("BERTH_BACKEND", "backend", choice("ecs", "local"),
             Computed("`ecs` if `ECS_CLUSTER` is set, else `local`",
                      lambda basis: "ecs" if "ECS_CLUSTER" in basis.named else "local"),
             "Where orders come from. `local`: the control plane inside the agent. `ecs`: a cluster of "
             "Amazon ECS."),
    Variable("ECS_CLUSTER", "cluster", CLUSTER,
             Computed("`default`; for `ecs` the cluster that this machine has joined before",
                      _by_backend(local="default", ecs="")),
             "Name or ARN of the cluster that this machine belongs to. (The ECS agent joins `default` when "
             "none is named. berth does so only if that is written.)", json_keys=("Cluster", "ClusterArn")),
    Variable("AWS_DEFAULT_REGION", "region", REGION,
             Computed("`us-east-1`; for `ecs` the region that the instance metadata service names",
                      _by_backend(local="us-east-1", ecs="")),
             "The region in ARNs and in signatures.", aliases=("AWS_REGION",), json_keys=("AWSRegion",)),
    Variable("ECS_BACKEND_HOST", "backend_host", BACKEND_HOST, None,
             "Another endpoint of the Amazon ECS API than the region's own.", json_keys=("APIEndpoint",),
             backend="ecs"),
    Variable("BERTH_TLS_VERIFY", "tls_verify", TRUTH, "true",
             "Whether the certificates of Amazon ECS are verified. False: whoever is on the way there can "
             "give orders to this machine.", backend="ecs"),
    Variable("BERTH_ACCOUNT_ID", "account_id", ACCOUNT, "111122223333",
             "The account in ARNs of the local backend.", backend="local"),
    Variable("ECS_DATADIR", "data_directory", PATH, "/var/lib/berth",
             "Where state is kept: checkpoints, the local backend's store, the key pair, addresses in use."
             " (The ECS agent's `/data/` is a mount of its container; here it is `/var/lib/ecs/data`.)",
             json_keys=("DataDir",)),
    Variable("BERTH_IN_CONTAINER", "in_container", TRUTH, "false",
             "Whether the agent itself runs in a container; its image says so."),
    Variable("ECS_HOST_DATA_DIR", "host_data_directory", PATH,
             Computed("the directory that `ECS_DATADIR` is in; `/var/lib/ecs` for `/data`", _above_data),
             "In a container: the directory of the machine in which `ECS_DATADIR` is, under the same last "
             "name. Docker mounts it into the container that keeps the endpoint's sockets.",
             json_keys=("DataDirOnHost",)),
    Variable("BERTH_RUN_DIRECTORY", "run_directory", PATH,
             Computed("`/run/berth`; in a container `boots/` and the id of this boot in `ECS_DATADIR`",
                      _run_directory),
             "What is true until the machine is started anew: the addresses of running tasks. It must outlive"
             " the agent's container, and may end with the boot."),
    Variable("DOCKER_HOST", "docker_host", DOCKER_HOST, "unix:///var/run/docker.sock",
             "Where the Docker daemon listens.", json_keys=("DockerEndpoint",)),
    # --- this machine as an EC2 instance
    Variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", "metadata_endpoint", URL, None,
             "Another instance metadata service than http://169.254.169.254."),
    Variable("AWS_EC2_METADATA_DISABLED", "metadata_disabled", TRUTH, "false",
             "Never ask the instance metadata service."),
    Variable("ECS_CONTAINER_INSTANCE_TAGS", "instance_tags", TEXT_MAP, "{}",
             "Tags of the container instance.", json_keys=("ContainerInstanceTags",), backend="ecs"),
    Variable("ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM", "propagate_tags_from",
             choice("none", "ec2_instance"), "none",
             "Where further tags come from. `ec2_instance`: the tags of the EC2 instance, which "
             "`ECS_CONTAINER_INSTANCE_TAGS` go before.", json_keys=("ContainerInstancePropagateTagsFrom",),
             backend="ecs"),
    Variable("ECS_ENABLE_SPOT_INSTANCE_DRAINING", "spot_draining", TRUTH, "false",
             "Whether a notice that the instance will be taken away makes it DRAINING in the cluster.",
             json_keys=("SpotInstanceDrainingEnabled",), backend="ecs"),
    Variable("ECS_WARM_POOLS_CHECK", "warm_pools_check", TRUTH, "false",
             "Whether the agent waits to join the cluster until its Auto Scaling group takes the instance "
             "out of the warm pool.", json_keys=("WarmPoolsSupport",), backend="ecs"),
    # --- what this machine offers
    Variable("ECS_RESERVED_MEMORY", "reserved_memory", MEBIBYTES, "0",
             "MiB of this machine that tasks do not get.", json_keys=("ReservedMemory",)),
    Variable("ECS_INSTANCE_ATTRIBUTES", "instance_attributes", TEXT_MAP, "{}",
             "Attributes of your own on the container instance.", json_keys=("InstanceAttributes",)),
    Variable("BERTH_MAX_INTERFACES", "max_interfaces", WHOLE, "120",
             "How many network interfaces (so: awsvpc tasks) this machine takes.", low=1, high=4000,
             backend="local"),
    Variable("ECS_RESERVED_PORTS", "reserved_ports", PORTS, "[22,2375,2376,51678,51679]",
             "TCP ports of this machine that Amazon ECS must not give to tasks.",
             json_keys=("ReservedPorts",), backend="ecs"),
    Variable("ECS_RESERVED_PORTS_UDP", "reserved_ports_udp", PORTS, "[]",
             "UDP ports of this machine that Amazon ECS must not give to tasks.",
             json_keys=("ReservedPortsUDP",), backend="ecs"),
    Variable("ECS_AVAILABLE_LOGGING_DRIVERS", "logging_drivers", DRIVERS, '["json-file","none"]',
             "Log drivers that Amazon ECS may choose for tasks on this machine.",
             json_keys=("AvailableLoggingDrivers",), backend="ecs"),
    Variable("ECS_DISABLE_PRIVILEGED", "privileged_disabled", TRUTH, "false",
             "Tell Amazon ECS that this machine takes no privileged containers.",
             json_keys=("PrivilegedDisabled",), backend="ecs"),
    Variable("ECS_SELINUX_CAPABLE", "selinux_capable", TRUTH, "false",
             "Tell Amazon ECS that this machine has SELinux.", json_keys=("SELinuxCapable",), backend="ecs"),
    Variable("ECS_APPARMOR_CAPABLE", "apparmor_capable", TRUTH, "false",
             "Tell Amazon ECS that this machine has AppArmor.", json_keys=("AppArmorCapable",),
             backend="ecs"),
    Variable("ECS_DISABLE_DOCKER_HEALTH_CHECK", "health_check_disabled", TRUTH, "false",
             "Tell Amazon ECS that this machine runs no health checks of containers.",
             json_keys=("DisableDockerHealthCheck",), backend="ecs"),
    Variable("ECS_DETAILED_OS_FAMILY", "os_family", NAME, "LINUX",
             "The operating system of this machine as Amazon ECS shows it, such as `debian_12`.",
             backend="ecs"),
    Variable("ECS_DISABLE_METRICS", "metrics_disabled", TRUTH, "false",
             "Send no statistics to Amazon ECS.", json_keys=("DisableMetrics",), backend="ecs"),
    # --- patience
    Variable("ECS_CONTAINER_CREATE_TIMEOUT", "create_limit", DURATION, "4m",
             "How long creating a container may take.", low=_seconds(60), beyond=_RUNTIME_TIMEOUT,
             json_keys=("ContainerCreateTimeout",)),
    Variable("ECS_CONTAINER_START_TIMEOUT", "start_limit", DURATION, "3m",
             "How long starting a container may take.", low=_seconds(45), beyond=_RUNTIME_TIMEOUT,
             json_keys=("ContainerStartTimeout",)),
    Variable("ECS_CONTAINER_STOP_TIMEOUT", "stop_grace", DURATION, "30s",
             "How long a container has between being asked to end and being killed, unless its definition "
             "has a `stopTimeout`.", low=_seconds(1), beyond=_RUNTIME_TIMEOUT,
             json_keys=("DockerStopTimeout",)),
    Variable("ECS_IMAGE_PULL_TIMEOUT", "pull_limit", DURATION, "2h",
             "How long a whole image pull may take.", low=_seconds(1), json_keys=("ImagePullTimeout",)),
    Variable("ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", "pull_idle_limit", DURATION, "1m",
             "How long a pull may make no progress.", low=_seconds(60), beyond=_RUNTIME_TIMEOUT,
             json_keys=("ImagePullInactivityTimeout",)),
    Variable("BERTH_ATTACH_LIMIT", "attach_limit", DURATION, "1m",
             "How long attaching a task's network may take.", low=_seconds(1)),
    Variable("BERTH_DETACH_LIMIT", "detach_limit", DURATION, "30s",
             "How long detaching a task's network may take before it is tried again.", low=_seconds(1)),
    Variable("BERTH_REMOVE_LIMIT", "remove_limit", DURATION, "5m",
             "How long removing a container may take before it is tried again.", low=_seconds(1)),
    Variable("BERTH_INTERFACE_WAIT_LIMIT", "interface_wait_limit", DURATION, "5m",
             "How long a task's network interface may take to appear on this machine; after that the task "
             "is stopped with that reason.", low=_seconds(1)),
    Variable("BERTH_DEPENDENCY_WAIT_LIMIT", "dependency_wait_limit", DURATION, "24h",
             "How long a container waits for its `dependsOn`, unless the container it waits for has a "
             "`startTimeout`.", low=_seconds(1)),
    Variable("BERTH_UNAVAILABLE_LIMIT", "unavailable_limit", DURATION, "10m",
             "How long a task on its way up is tried again while Docker or the credentials do not answer.",
             low=_seconds(1)),
    Variable("BERTH_WATCHDOG_LIMIT", "watchdog_limit", DURATION, "2m",
             "After how long the agent ends itself, to be started again, when one of its own loops does not "
             "get on. Tasks are not touched. 0: never; a systemd unit's own watchdog still does."),
    Variable("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "retention", DURATION, "3h",
             "How long a stopped task's containers are kept, for their logs.", low=_seconds(1),
             beyond=Beyond.DEFAULT, json_keys=("TaskCleanupWaitDuration",)),
    # --- images
    Variable("ECS_IMAGE_PULL_BEHAVIOR", "pull_behavior", PULL_BEHAVIOR,
             Computed("`prefer-cached`; for `ecs` `default`",
                      _by_backend(local="prefer-cached", ecs="default")),
             "When an image is pulled. The local backend prefers images that are present: a laptop has no "
             "registry.", json_keys=("ImagePullBehavior",)),
    Variable("ECS_ENGINE_AUTH_TYPE", "registry_auth_type", choice("docker", "dockercfg"), None,
             "How the logins in `ECS_ENGINE_AUTH_DATA` are written.", json_keys=("EngineAuthType",)),
    Variable("ECS_ENGINE_AUTH_DATA", "registry_auth_data", LOGINS, None,
             'Logins to private registries. `docker`: `{"https://registry":{"username":…,"password":…}}`; '
             '`dockercfg`: `{"https://registry":{"auth":…}}`. Shown nowhere.',
             json_keys=("EngineAuthData",)),
    Variable("BERTH_PULL_SLOTS", "pull_slots", WHOLE, "3",
             "How many images are pulled at the same time.", low=1, high=100),
    Variable("BERTH_START_SLOTS", "start_slots", WHOLE,
             Computed("twice the cores", lambda basis: str(2 * basis.machine.cores)),
             "How many containers are started at the same time. More only adds latency.", low=1, high=1000),
    Variable("BERTH_PAUSE_PATH", "pause_path", PATH,
             Computed("`/usr/lib/berth/pause` if it exists, else `build/pause` of the source tree",
                      _first_existing(Path("/usr/lib/berth/pause"), SOURCE_TREE / "build/pause")),
             "Directory with `pause-<architecture>.tar` and `.json`."),
    # --- limits of tasks
    Variable("ECS_ENABLE_TASK_CPU_MEM_LIMIT", "task_limits", TRUTH, "true",
             "Whether a task's own cpu and memory are enforced by a control group.",
             json_keys=("TaskCPUMemLimit",)),
    Variable("ECS_CGROUP_PATH", "cgroup_path", PATH, "/sys/fs/cgroup",
             "Where control groups are mounted.", json_keys=("CgroupPath",)),
    Variable("ECS_CGROUP_CPU_PERIOD", "cgroup_cpu_period", DURATION, "100ms",
             "The period over which a task's cpu limit holds.", low=timedelta(milliseconds=8),
             high=timedelta(milliseconds=100), beyond=Beyond.DEFAULT, json_keys=("CgroupCPUPeriod",)),
    # --- network
    Variable("ECS_CNI_PLUGINS_PATH", "plugins_path", PATH,
             Computed("the first that exists of `/amazon-ecs-cni-plugins`, `/usr/lib/berth/cni` and "
                      "`build/cni` of the source tree",
                      _first_existing(Path("/amazon-ecs-cni-plugins"),
                                      Path("/usr/lib/berth/cni"), SOURCE_TREE / "build/cni")),
             "Directory with the CNI plugins `ecs-eni`, `ecs-bridge` and `ecs-ipam`.",
             json_keys=("CNIPluginsPath",)),
    Variable("BERTH_PLUGIN_HOST", "plugin_host", TRUTH, "true",
             "Run whole chains of plugins in a process kept ready, when the plugin directory offers one. "
             "False: one cold process per plugin."),
    Variable("ECS_AWSVPC_BLOCK_IMDS", "block_imds", TRUTH, "true",
             "Whether tasks are kept from the machine's own credentials at 169.254.169.254. (The ECS "
             "agent: false.)",
             # so it is spelled there
             json_keys=("AWSVPCBlockInstanceMetdata",)),
    Variable("ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES", "local_routes", NETWORKS, "[]",
             "Networks that tasks reach through this machine instead of through their network interface.",
             json_keys=("AWSVPCAdditionalLocalRoutes",)),
    Variable("BERTH_VPC_CIDR", "vpc_network", NETWORK, "10.211.0.0/16",
             "The addresses of the simulated VPC.", backend="local"),
    Variable("BERTH_VPC_NAMESPACE", "vpc_namespace", NAME, "berth-vpc",
             "Name of the network namespace that routes between the subnets of the simulated VPC.",
             backend="local"),
    Variable("BERTH_INSTANCE_INTERFACE", "instance_interface", TRUTH, "true",
             "Whether this machine has an interface in the simulated VPC, so that you can reach tasks from"
             " its shell.", backend="local"),
    # --- credentials and endpoints
    Variable("BERTH_ENDPOINT_PORT", "endpoint_port", WHOLE, "80",
             "The port on which the agent really listens for tasks. They find it at port 80 whatever it "
             "is; another one leaves port 80 of this machine to other programs.", low=1, high=65535),
    Variable("BERTH_SOCKET_KEEPER", "socket_keeper", choice("auto", "systemd", "container", "none"), "auto",
             "Who keeps the sockets of the credentials endpoint open while the agent restarts, so that tasks "
             "wait instead of being refused. `systemd`: the unit's file descriptor store. `container`: a "
             "small container that the agent makes. `auto`: `container` if the agent runs in a container, "
             "`systemd` if a unit with `Type=notify` started it, else `none`."),
    Variable("BERTH_SOCKET_KEEPER_PATIENCE", "socket_keeper_patience", DURATION, "5m",
             "How long the keeper's container stays without an agent, and so the longest that a task waits "
             "for one.", low=_seconds(1), high=_seconds(86400)),
    Variable("BERTH_CREDENTIALS_SOURCE", "credentials_source", choice("development", "sts"), "development",
             "Where role credentials come from. `development`: obviously fake, offline. `sts`: AssumeRole "
             "with the credentials of this machine."),
    Variable("BERTH_STS_ENDPOINT", "sts_endpoint", URL, None,
             "Another STS endpoint than the region's own."),
    Variable("BERTH_API_ADDRESS", "api_address", API_ADDRESS, "127.0.0.1:51670",
             "Where the ECS API of the local backend listens."),
    Variable("BERTH_INTROSPECTION_ADDRESS", "introspection_address", LOOPBACK, "127.0.0.1:51678",
             "Where the introspection API listens."),
    Variable("ECS_AUDIT_LOGFILE", "audit_file", PATH,
             Computed("`audit.log` in `ECS_DATADIR`",
                      lambda basis: str(basis.values["data_directory"] / "audit.log")),
             "Where each request for credentials is recorded.", json_keys=("CredentialsAuditLogFile",)),
    Variable("ECS_AUDIT_LOGFILE_DISABLED", "audit_disabled", TRUTH, "false",
             "Record no requests for credentials.", json_keys=("CredentialsAuditLogDisabled",)),
    # --- logs
    Variable("ECS_LOGLEVEL", "log_level", _LEVEL, "info",
             "What is logged to stderr, and to the log file unless `ECS_LOGLEVEL_ON_INSTANCE` says "
             "otherwise."),
    Variable("BERTH_LOG_CONSOLE", "log_console", choice("auto", "json", "console"), "auto",
             "How lines look on stderr. `auto`: `console` on a terminal, else `json`."),
    Variable("BERTH_LOG_LINES_PER_SECOND", "log_lines_per_second", WHOLE, "20",
             "How many lines of one event name are written per second in the long run; short bursts may be"
             " larger. What is left out is counted.", low=1, high=100000),
    Variable("ECS_LOGFILE", "log_file", PATH, None,
             "A log file beside stderr."),
    Variable("ECS_LOGLEVEL_ON_INSTANCE", "file_log_level", _LEVEL,
             Computed("as `ECS_LOGLEVEL`", lambda basis: str(basis.values["log_level"])),
             "What is logged to the log file."),
    Variable("ECS_LOG_OUTPUT_FORMAT", "log_format", choice("logfmt", "json"), "logfmt",
             "How lines look in the log file."),
    Variable("ECS_LOG_ROLLOVER_TYPE", "log_rollover", choice("size", "hourly", "none"), "size",
             "When a new log file is begun."),
    Variable("ECS_LOG_MAX_FILE_SIZE_MB", "log_file_size", DECIMAL, "5",
             "How large a log file grows, in MB of 10^6 bytes.", low=0.001, high=10000),
    Variable("ECS_LOG_MAX_ROLL_COUNT", "log_file_count", WHOLE, "24",
             "How many full log files are kept.", low=1, high=10000),
)  # fmt: skip
