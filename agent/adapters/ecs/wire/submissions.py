"""From the full view of a task to what the cluster has not been told yet (ecs-protocol 1.6 and 1.8). Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.adapters.ecs.records import Told
from agent.model.report import ContainerReport, TaskReport
from agent.model.status import TaskStatus

LONGEST_REASON = 1024
LONGEST_ID = 255
"""Characters; longer ones are cut (ecs-protocol 1.6)."""

_ORDER = {"": 0, TaskStatus.PENDING.value: 1, TaskStatus.RUNNING.value: 2, TaskStatus.STOPPED.value: 3}


@dataclass(frozen=True, slots=True)
class News:
    """What there is to say. ``status`` empty: only containers have news. ``told``: what is known then."""

    status: str
    containers: tuple[dict[str, Any], ...]
    told: Told


def news(report: TaskReport, told: Told) -> News:
    """Compare the view with what was told. A status that was told is never told again, nor a lower one."""
    containers = tuple(each for each in report.containers if _is_news(each, told))
    status = task_status(report)
    has_digest = any(each.image_digest for each in report.containers)
    if _ORDER[status] <= _ORDER[told.status] or (status == TaskStatus.PENDING and not has_digest):
        status = ""
    statuses = {**told.containers, **{each.name: each.status.value for each in containers}}
    return News(
        status=status,
        containers=tuple(container_change(each) for each in containers),
        told=Told(status or told.status, statuses),
    )


def task_status(report: TaskReport) -> str:
    """The status in the cluster's sense: RUNNING only when no container is behind (ecs-protocol 4.4)."""
    is_behind = any(each.status is TaskStatus.PENDING for each in report.containers)
    if report.status is TaskStatus.RUNNING and is_behind:
        return TaskStatus.PENDING.value
    return report.status.value


def task_change(cluster: str, report: TaskReport, found: News) -> dict[str, Any]:
    """The body of a SubmitTaskStateChange that says all of the news with the task's own status."""
    change: dict[str, Any] = {
        "cluster": cluster,
        "task": report.task_arn,
        "status": found.told.status or TaskStatus.PENDING.value,
        "reason": _reason(report)[:LONGEST_REASON],
    }
    for name, moment in (
        ("pullStartedAt", report.pull_started_at),
        ("pullStoppedAt", report.pull_stopped_at),
        ("executionStoppedAt", report.execution_stopped_at),
    ):
        if moment is not None:
            change[name] = epoch(moment)
    if found.containers:
        change["containers"] = list(found.containers)
    return change


def containers_change(
    cluster: str, task: str, status: str, containers: tuple[dict[str, Any], ...]
) -> dict[str, Any]:
    """The body that says container news alone, with the status that the task is known to have."""
    return {
        "cluster": cluster,
        "task": task,
        "status": status or TaskStatus.PENDING.value,
        "reason": "",
        "containers": list(containers),
    }


def refusal(cluster: str, task: str, reason: str) -> dict[str, Any]:
    """The body that says that a task could not even be begun."""
    return {
        "cluster": cluster,
        "task": task,
        "status": TaskStatus.STOPPED.value,
        "reason": reason[:LONGEST_REASON],
    }


def attached(cluster: str, task: str, attachment: str) -> dict[str, Any]:
    """The body that says that a task's ENI has appeared: no status of the task (ecs-protocol 1.6)."""
    return {
        "cluster": cluster,
        "task": task,
        "attachments": [{"attachmentArn": attachment, "status": "ATTACHED"}],
    }


def machine_attached(cluster: str, attachment: str) -> dict[str, Any]:
    """The body of a SubmitAttachmentStateChanges for an ENI of the machine itself (ecs-protocol 1.9)."""
    return {"cluster": cluster, "attachments": [{"attachmentArn": attachment, "status": "ATTACHED"}]}


def merged(held: tuple[dict[str, Any], ...], newer: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """Container news that waited and those that came, one per container: the newest."""
    by_name = {each["containerName"]: each for each in (*held, *newer)}
    return tuple(by_name.values())


def container_change(container: ContainerReport) -> dict[str, Any]:
    """One container as the cluster is told of it."""
    change: dict[str, Any] = {"containerName": container.name, "status": container.status.value}
    if container.runtime_id is not None:
        change["runtimeId"] = container.runtime_id[:LONGEST_ID]
    if container.exit_code is not None:
        change["exitCode"] = container.exit_code
    if container.reason:
        change["reason"] = container.reason[:LONGEST_REASON]
    if container.image_digest:
        change["imageDigest"] = container.image_digest[:LONGEST_ID]
    return change


def epoch(moment: datetime) -> float:
    """Seconds since 1970, with milliseconds."""
    return round(moment.timestamp(), 3)


def _is_news(container: ContainerReport, told: Told) -> bool:
    if container.status is TaskStatus.PENDING and not container.image_digest:
        return False
    return _ORDER[container.status.value] > _ORDER.get(told.containers.get(container.name, ""), 0)


def _reason(report: TaskReport) -> str:
    """The agent's own words about the task. What a container says for itself is not said twice."""
    return "" if any(each.reason == report.reason for each in report.containers) else report.reason
