"""The telemetry channel's messages: metrics, health and status out, answers in (ecs-protocol 3). Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlencode

from agent.adapters.ecs.wire.envelope import Envelope, envelope
from agent.model.status import Health
from agent.model.usage import LinkUsage

Json = dict[str, Any]

MOST_TASKS = 10
"""How many tasks one message may be about (ecs-protocol 3.2)."""

LARGEST_LONG = 2**63 - 1
"""The largest number of a signed 64-bit integer; what is beyond stands in an overflow field."""

SIGNS_OF_LIFE = frozenset(
    {"HeartbeatMessage", "AckPublishMetric", "AckPublishHealth", "AckPublishInstanceStatus"}
)
"""What the other side says while all is well (ecs-protocol 3.1)."""

REFUSALS = frozenset(
    {"ServerException", "BadRequestException", "ResourceValidationException", "InvalidParameterException"}
)
"""What it says when a message of ours was wrong, or something of its own is (ecs-protocol 3.1)."""

STOP = "StopTelemetrySessionMessage"
"""It wants no more of this session."""

CONTAINER_RUNTIME = "ContainerRuntime"
"""The only part of the machine whose status an EC2 instance with Linux tells (ecs-protocol 3.5)."""

_LINK_COUNTERS: tuple[tuple[str, Callable[[LinkUsage], int]], ...] = (
    ("rxBytes", lambda link: link.rx_bytes),
    ("rxDropped", lambda link: link.rx_dropped),
    ("rxErrors", lambda link: link.rx_errors),
    ("rxPackets", lambda link: link.rx_packets),
    ("txBytes", lambda link: link.tx_bytes),
    ("txDropped", lambda link: link.tx_dropped),
    ("txErrors", lambda link: link.tx_errors),
    ("txPackets", lambda link: link.tx_packets),
)


@dataclass(frozen=True, slots=True)
class Instance:
    """Who speaks. ``cluster``: its name or ARN as configured. ``arn``: the container instance's."""

    cluster: str
    arn: str


@dataclass(frozen=True, slots=True)
class TaskLabel:
    """Which task. ``cluster_arn`` empty: not known."""

    arn: str
    family: str
    revision: str
    cluster_arn: str = ""


@dataclass(frozen=True, slots=True)
class LinkWindow:
    """A link's counters at some moments, and the bytes per second between them."""

    readings: tuple[LinkUsage, ...]
    rx_rates: tuple[float, ...]
    tx_rates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """What was measured of a container since the last message. Empty: unknown.

    ``cpu``: percent of the whole host (ecs-protocol B14). ``memory``: MiB. ``storage_read`` and
    ``storage_written``: bytes since the container's start, at each moment.
    """

    cpu: tuple[float, ...] = ()
    memory: tuple[int, ...] = ()
    storage_read: tuple[int, ...] = ()
    storage_written: tuple[int, ...] = ()
    link: LinkWindow | None = None


@dataclass(frozen=True, slots=True)
class ContainerMetrics:
    """One container. ``arn`` empty: it has none. ``link``: its task's; the pause container has none."""

    name: str
    window: Window
    arn: str = ""
    link: LinkWindow | None = None


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """The measured containers of a task."""

    task: TaskLabel
    containers: tuple[ContainerMetrics, ...]


@dataclass(frozen=True, slots=True)
class ContainerHealth:
    """What a container's health check says. ``output``: of its last run, or empty."""

    name: str
    health: Health
    since: datetime
    output: str = ""


@dataclass(frozen=True, slots=True)
class TaskHealth:
    """The containers of a task that have a health check."""

    task: TaskLabel
    containers: tuple[ContainerHealth, ...]


class RuntimeStatus(StrEnum):
    """How the container runtime is (ecs-protocol 3.5)."""

    OK = "OK"
    IMPAIRED = "IMPAIRED"


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """What the last check found at ``checked_at``. ``since``: when it found that for the first time."""

    status: RuntimeStatus
    since: datetime
    checked_at: datetime
    reason: str = ""


def telemetry_url(
    endpoint: str, instance: Instance, *, agent_version: str, agent_hash: str, docker_version: str
) -> str:
    """Where the telemetry channel connects to; keys in alphabetical order (ecs-protocol 3.1).

    The names of two keys differ from those of the control channel, and the version of Docker has no prefix.
    ``docker_version`` empty: unknown, and left out.
    """
    query = {
        "agentHash": agent_hash,
        "agentVersion": agent_version,
        "cluster": instance.cluster,
        "containerInstance": instance.arn,
    }
    if docker_version:
        query["dockerVersion"] = docker_version
    return f"{endpoint.rstrip('/')}/ws?{urlencode(query)}"


# -- out -----------------------------------------------------------------------------------------


def idle_message(instance: Instance, *, at: datetime, message_id: str) -> str:
    """There are no tasks, so there is nothing to measure (ecs-protocol 3.2)."""
    metadata = _metadata(instance, fin=True, messageId=message_id) | {"idle": True}
    return envelope("PublishMetricsRequest", {"metadata": metadata, "timestamp": seconds(at)})


def metrics_messages(
    instance: Instance, tasks: Sequence[TaskMetrics], *, at: datetime, message_id: str
) -> tuple[str, ...]:
    """The parts of one report of metrics. No part for no tasks."""
    return tuple(
        envelope(
            "PublishMetricsRequest",
            {
                "metadata": _metadata(instance, fin=is_last, messageId=message_id) | {"idle": False},
                "taskMetrics": [
                    _label(each.task) | {"containerMetrics": [_container_metrics(c) for c in each.containers]}
                    for each in part
                ],
                "timestamp": seconds(at),
            },
        )
        for part, is_last in _parts(tasks)
    )


def health_messages(
    instance: Instance, tasks: Sequence[TaskHealth], *, at: datetime, message_id: str
) -> tuple[str, ...]:
    """The parts of one report of health (ecs-protocol 3.4). No part for no tasks."""
    return tuple(
        envelope(
            "PublishHealthRequest",
            {
                "metadata": _metadata(instance, fin=is_last, messageId=message_id),
                "tasks": [
                    _label(each.task) | {"containers": [_container_health(c) for c in each.containers]}
                    for each in part
                ],
                "timestamp": seconds(at),
            },
        )
        for part, is_last in _parts(tasks)
    )


def status_message(instance: Instance, status: InstanceStatus, *, at: datetime, request_id: str) -> str:
    """How the container runtime is (ecs-protocol 3.5)."""
    entry: Json = {
        "lastStatusChange": seconds(status.since),
        "lastUpdated": seconds(status.checked_at),
        "status": status.status.value,
        "type": CONTAINER_RUNTIME,
    }
    if status.reason:
        entry["statusReason"] = status.reason
    metadata = _metadata(instance, requestId=request_id)
    return envelope(
        "PublishInstanceStatusRequest", {"metadata": metadata, "statuses": [entry], "timestamp": seconds(at)}
    )


def stats_set(values: Sequence[float]) -> Json:
    """A ``CWStatsSet``. ``values`` must not be empty."""
    return {
        "min": _number(min(values)),
        "max": _number(max(values)),
        "sampleCount": len(values),
        "sum": _number(sum(values)),
    }


def counter_set(values: Sequence[int]) -> Json:
    """A ``ULongStatsSet``: what does not fit into a signed 64-bit integer overflows into another.

    ``values`` must not be empty.
    """
    found: Json = {"sampleCount": len(values)}
    for name, value in (("Min", min(values)), ("Max", max(values)), ("Sum", sum(values))):
        fitting = min(value, LARGEST_LONG)
        found[name.lower()] = fitting
        found[f"overflow{name}"] = min(value - fitting, LARGEST_LONG)
    return found


def seconds(at: datetime) -> float:
    """A time on the wire: seconds since 1970, with milliseconds (ecs-protocol 3.2)."""
    return _number(round(at.timestamp(), 3))


# -- in ------------------------------------------------------------------------------------------


def text_of(message: Envelope) -> str:
    """What an answer says beside its type, at most 500 characters."""
    said = message.message.get("message")
    return said[:500] if isinstance(said, str) else ""


# -- inside --------------------------------------------------------------------------------------


def _metadata(instance: Instance, **more: object) -> Json:
    return {"cluster": instance.cluster, "containerInstance": instance.arn, **more}


def _label(task: TaskLabel) -> Json:
    label: Json = {
        "taskArn": task.arn,
        "taskDefinitionFamily": task.family,
        "taskDefinitionVersion": task.revision,
    }
    return _with(label, clusterArn=task.cluster_arn)


def _container_metrics(container: ContainerMetrics) -> Json:
    window = container.window
    storage: Json = {}
    if window.storage_read and window.storage_written:
        storage = {
            "readSizeBytes": counter_set(window.storage_read),
            "writeSizeBytes": counter_set(window.storage_written),
        }
    return _with(
        {"containerName": container.name},
        containerArn=container.arn,
        cpuStatsSet=stats_set(window.cpu) if window.cpu else None,
        memoryStatsSet=stats_set(window.memory) if window.memory else None,
        networkStatsSet=_link(container.link) if container.link else None,
        storageStatsSet=storage,
    )


def _link(window: LinkWindow) -> Json:
    sets: Json = {
        name: counter_set([counter(each) for each in window.readings]) for name, counter in _LINK_COUNTERS
    }
    return _with(
        sets,
        rxBytesPerSecond=stats_set(window.rx_rates) if window.rx_rates else None,
        txBytesPerSecond=stats_set(window.tx_rates) if window.tx_rates else None,
    )


def _container_health(container: ContainerHealth) -> Json:
    return _with(
        {
            "containerName": container.name,
            "healthStatus": container.health.value,
            "statusSince": seconds(container.since),
        },
        statusMessage=container.output,
    )


T = TypeVar("T")


def _parts(tasks: Sequence[T]) -> list[tuple[Sequence[T], bool]]:
    """Groups of tasks, each with whether it is the last one."""
    starts = range(0, len(tasks), MOST_TASKS)
    return [(tasks[start : start + MOST_TASKS], start + MOST_TASKS >= len(tasks)) for start in starts]


def _with(always: Mapping[str, Any], **known: object) -> Json:
    """An object with those further fields that are neither None nor empty."""
    return {**always, **{name: value for name, value in known.items() if value}}


def _number(value: float) -> float:
    """A whole number is written without a point."""
    return int(value) if value == int(value) else value
