"""What a plan is in Docker's words: the JSON of a create call. Pure."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from agent.adapters.docker.overlay import log_wish, read_overlay, text_map, texts
from agent.adapters.docker.settings import DockerSettings
from agent.model.ids import TaskArn
from agent.model.observation import PAUSE_NAME
from agent.model.spec import ContainerSpec, HealthCheck, LinuxParameters, LogConfiguration, Pairs, TaskSpec
from agent.ports.runtime import ContainerPlan, PausePlan

Document = dict[str, Any]
"""A JSON object of the Docker API. It does not leave this package."""

TASK_LABEL = "com.amazonaws.ecs.task-arn"
CONTAINER_LABEL = "com.amazonaws.ecs.container-name"
FAMILY_LABEL = "com.amazonaws.ecs.task-definition-family"
REVISION_LABEL = "com.amazonaws.ecs.task-definition-version"
CLUSTER_LABEL = "com.amazonaws.ecs.cluster"

REGION_NAMES = frozenset({"AWS_REGION", "AWS_DEFAULT_REGION"})
CREDENTIALS_NAME = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"

MIB = 1 << 20
LEAST_MEMORY = 4 * MIB
"""Docker does not start containers with less (ecs-protocol 5.4)."""

PAUSE_MEMORY = 32 * MIB
"""The program itself needs next to nothing; the runtime's start of it needs about half of this."""

LONGEST_HOSTNAME = 64
"""What the kernel takes (``HOST_NAME_MAX``)."""

LONGEST_VOLUME_NAME = 255
"""Docker makes a directory of that name, and no file system takes a longer one."""

_LEAST_SHARES = 2
_MOST_SHARES = 262_144
_NANOSECONDS = 1_000_000_000
_NON_BLOCKING_BUFFER = "10m"


def pause_document(
    plan: PausePlan, settings: DockerSettings, cgroup_parent: str | None, image_id: str
) -> Document:
    """The create call of a pause container. ``cgroup_parent`` None: Docker's own place."""
    task = plan.task
    network = task.network
    name = network.private_dns_name
    hostname = short_hostname(name)
    addresses = [each.ip for each in (network.ipv4_addresses or network.ipv6_addresses)]
    names = dict.fromkeys(each for each in (hostname, name) if each)
    sysctls = {"net.ipv6.conf.all.disable_ipv6": "0"} if network.ipv6_addresses else {}
    ports: dict[str, Document] = {
        f"{port.container_port}/{port.protocol}": {}
        for each in task.containers
        for port in each.port_mappings
    }
    host: Document = {
        "NetworkMode": "none",
        "ExtraHosts": [f"{each}:{address}" for address in addresses for each in names],
        "Dns": list(network.dns_servers),
        "DnsSearch": list(network.dns_search),
        "Sysctls": sysctls,
        "Memory": PAUSE_MEMORY,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "LogConfig": {"Type": "none", "Config": {}},
        "CgroupParent": cgroup_parent,
    }
    document: Document = {
        "Image": image_id,
        "Hostname": hostname,
        "Labels": labels(task, PAUSE_NAME, settings),
        # Docker refuses these on a container that joins another's network, so they are shown on this one.
        "ExposedPorts": ports,
        "HostConfig": _without_absent(host),
    }
    return _without_absent(document)


def container_document(
    plan: ContainerPlan,
    settings: DockerSettings,
    cgroup_parent: str | None,
    image_environment: frozenset[str],
) -> Document:
    """The create call of an app container. ``image_environment``: names of variables that its image sets.

    What the backend has for Docker lies over what is computed here, and wins; only what the agent sets last
    lies over that (ecs-protocol 5.2). Raise ``CannotCreateContainer`` for what it may not ask for.
    """
    spec, task = plan.container, plan.task
    overlay = read_overlay(spec)
    config, host_config = overlay.config, overlay.host_config
    host: Document = {
        "NetworkMode": f"container:{plan.pause_id}",
        "CgroupParent": cgroup_parent,
        "CpuShares": shares(spec.cpu),
        "Memory": _memory(spec.memory),
        "MemoryReservation": _memory(spec.memory_reservation),
        "Binds": _binds(task, spec, host_config.pop("Binds", [])),
        "Ulimits": [{"Name": each.name, "Soft": each.soft, "Hard": each.hard} for each in spec.ulimits],
        "Privileged": spec.privileged,
        "ReadonlyRootfs": spec.read_only_root,
        "SecurityOpt": list(spec.security_options),
        "Sysctls": dict(spec.system_controls),
        "LogConfig": log_config(_log_wish(spec, host_config.pop("LogConfig", {}), settings), settings),
        **_linux(spec.linux),
    }
    document: Document = {
        "Image": spec.image,
        "Env": environment(task, spec, settings.region, image_environment, config.pop("Env", None)),
        "Labels": {
            **dict(spec.docker_labels),
            **text_map(spec, "Labels", config.pop("Labels", {})),
            **labels(task, spec.name, settings),
        },
        "Cmd": None if spec.command is None else list(spec.command),
        "Entrypoint": None if spec.entry_point is None else list(spec.entry_point),
        "WorkingDir": spec.working_directory,
        "User": spec.user,
        "Tty": spec.pseudo_terminal,
        "OpenStdin": spec.interactive,
        "Healthcheck": None if spec.health_check is None else _health_check(spec.health_check),
    }
    # An empty value of the backend counts: it takes away what the image or Docker would have.
    return {
        **_without_absent(document),
        **config,
        "HostConfig": {**_without_absent(host), **host_config},
    }


def labels(task: TaskSpec, container: str, settings: DockerSettings) -> dict[str, str]:
    """The labels by which a container is found again (ecs-protocol 5.1)."""
    return {
        **dict(settings.labels),
        TASK_LABEL: task.arn,
        CONTAINER_LABEL: container,
        FAMILY_LABEL: task.family,
        REVISION_LABEL: task.revision,
        CLUSTER_LABEL: settings.cluster,
    }


def own_filter(settings: DockerSettings) -> list[str]:
    """What Docker is asked for when only this agent's containers and volumes are wanted."""
    return [TASK_LABEL, f"{CLUSTER_LABEL}={settings.cluster}", *(f"{k}={v}" for k, v in settings.labels)]


def environment(
    task: TaskSpec,
    spec: ContainerSpec,
    region: str,
    image_environment: frozenset[str],
    instead: object = None,
) -> list[str]:
    """Variables as ``NAME=value``: the spec's in order, then what the agent adds (ecs-protocol 5.3).

    ``instead``: the overlay's list, which takes the place of the spec's. An entry without ``=`` takes the
    image's variable of that name away.
    """
    values: dict[str, str | None] = dict(spec.environment)
    if instead is not None:
        parts = (entry.partition("=") for entry in texts(spec, "Env", instead))
        values = {name: value if equals else None for name, equals, value in parts}
    if task.task_role is not None:
        values[CREDENTIALS_NAME] = f"/v2/credentials/{task.task_role.credentials_id}"
    if region and REGION_NAMES.isdisjoint(values) and REGION_NAMES.isdisjoint(image_environment):
        values.update({"AWS_REGION": region, "AWS_DEFAULT_REGION": region})
    return [name if value is None else f"{name}={value}" for name, value in values.items()]


def shares(cpu: int) -> int:
    """CPU units as the kernel's shares: at least 2 (also for 0, "no wish"), at most 262144."""
    return min(max(cpu, _LEAST_SHARES), _MOST_SHARES)


def volume_name(task: TaskSpec, volume: str) -> str:
    """The Docker name of a task's own volume: the same whenever it is asked for, never too long."""
    stripped = re.sub(r"[^A-Za-z0-9-]", "", volume)
    unique = hashlib.sha256(f"{task.arn}\nvolume\n{volume}".encode()).hexdigest()[:20]
    readable = f"ecs-{task.family}-{task.revision}-{stripped}"[: LONGEST_VOLUME_NAME - len(unique) - 1]
    return f"{readable}-{unique}"


def volume_labels(arn: TaskArn, settings: DockerSettings) -> dict[str, str]:
    """The labels by which a task's own volume is found again."""
    return {**dict(settings.labels), TASK_LABEL: arn, CLUSTER_LABEL: settings.cluster}


def own_volumes(task: TaskSpec, spec: ContainerSpec) -> tuple[str, ...]:
    """The task's own (empty) volumes that a container mounts, each once, by their names in the spec."""
    empty = {volume.name for volume in task.volumes if volume.host_path is None}
    return tuple(dict.fromkeys(each.volume for each in spec.mount_points if each.volume in empty))


def log_config(wanted: LogConfiguration | None, settings: DockerSettings) -> Document:
    """Where output goes. Docker's files are bounded unless the spec bounds them itself."""
    driver = wanted.driver if wanted is not None else settings.default_log_driver
    options = dict(wanted.options) if wanted is not None else {}
    if driver == settings.default_log_driver and "max-size" not in options:
        options = {**dict(settings.default_log_options), **options}
    if options.get("mode") == "non-blocking":
        options.setdefault("max-buffer-size", _NON_BLOCKING_BUFFER)
    return {"Type": driver, "Config": options}


def short_hostname(name: str) -> str:
    """The name itself, or its first label when the kernel would refuse the whole."""
    return name if len(name) <= LONGEST_HOSTNAME else name.split(".", 1)[0][: LONGEST_HOSTNAME - 1]


def _health_check(check: HealthCheck) -> Document:
    return {
        "Test": list(check.command),
        "Interval": check.interval * _NANOSECONDS,
        "Timeout": check.timeout * _NANOSECONDS,
        "Retries": check.retries,
        "StartPeriod": check.start_period * _NANOSECONDS,
    }


def _linux(linux: LinuxParameters) -> Document:
    return {
        "Init": True if linux.init_process else None,
        "CapAdd": list(linux.add_capabilities),
        "CapDrop": list(linux.drop_capabilities),
        "ShmSize": None if linux.shared_memory_size is None else linux.shared_memory_size * MIB,
        "Tmpfs": {
            each.container_path: _options(f"size={each.size}m", each.mount_options) for each in linux.tmpfs
        },
        "Devices": [
            {
                "PathOnHost": each.host_path,
                "PathInContainer": each.container_path or each.host_path,
                "CgroupPermissions": each.permissions,
            }
            for each in linux.devices
        ],
    }


def _options(first: str, others: Iterable[str]) -> str:
    return ",".join((first, *others))


def _memory(mebibytes: int | None) -> int | None:
    return max(mebibytes * MIB, LEAST_MEMORY) if mebibytes else None


def _log_wish(spec: ContainerSpec, laid_over: object, settings: DockerSettings) -> LogConfiguration | None:
    """The spec's log configuration with the overlay's over it; options of another driver do not stay."""
    driver, options = log_wish(spec, laid_over)
    if driver is None and options is None:
        return spec.log_configuration
    before = spec.log_configuration or LogConfiguration(settings.default_log_driver)
    kept = dict(before.options) if driver in (None, before.driver) else {}
    return LogConfiguration(driver or before.driver, tuple({**kept, **(options or {})}.items()))


def _binds(task: TaskSpec, spec: ContainerSpec, laid_over: object) -> list[str]:
    """The mount points, then the overlay's, each once. Docker refuses two for the same place."""
    sources: Mapping[str, str] = {
        volume.name: volume.host_path if volume.host_path is not None else volume_name(task, volume.name)
        for volume in task.volumes
    }
    own = [
        f"{sources[each.volume]}:{each.container_path}{':ro' if each.read_only else ''}"
        for each in spec.mount_points
        if each.volume in sources
    ]
    return list(dict.fromkeys([*own, *texts(spec, "Binds", laid_over)]))


def unknown_volumes(task: TaskSpec, spec: ContainerSpec) -> Pairs:
    """Mount points, as (volume, path), that name no volume of the task."""
    known = {volume.name for volume in task.volumes}
    return tuple((each.volume, each.container_path) for each in spec.mount_points if each.volume not in known)


def _without_absent(document: Document) -> Document:
    # Docker takes the image's or its own value where a key is missing; an empty one would override it.
    return {key: value for key, value in document.items() if value not in (None, "", False, [], {})}
