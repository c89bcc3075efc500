"""How a task moves: what a report, a stop or a made interface does to its record. Pure; never goes back."""

from dataclasses import replace
from datetime import datetime

from agent.adapters.local.records import ContainerRecord, Document, TaskRecord
from agent.model.report import ContainerReport, TaskReport
from agent.model.status import TaskStatus

_LADDER = (
    "PROVISIONING", "PENDING", "ACTIVATING", "RUNNING", "DEACTIVATING", "STOPPING",
    "DEPROVISIONING", "STOPPED",
)  # fmt: skip
_LONGEST_REASON = 1024  # Amazon ECS's limit for stoppedReason and a container's reason
STOPPED_BY_USER = "Task stopped by user"
ESSENTIAL_EXITED = "Essential container in task exited"


def asked_to_stop(task: TaskRecord, reason: str, now: datetime) -> TaskRecord:
    """A user wants its end. Unchanged if that was asked before, or is over."""
    if task.desired_status == "STOPPED":
        return task
    stopping = replace(
        task,
        desired_status="STOPPED",
        stop_code="UserInitiated",
        stopped_reason=(reason or STOPPED_BY_USER)[:_LONGEST_REASON],
        stopping_at=now,
    )
    return _counted(task, _risen(stopping, "STOPPING"))


def interface_made(task: TaskRecord) -> TaskRecord:
    """Its network interface exists: there is nothing left to provision."""
    return _counted(task, _risen(task, "PENDING"))


def interface_removed(task: TaskRecord, now: datetime) -> TaskRecord:
    """Its network interface is gone: the task is over."""
    if task.last_status != "DEPROVISIONING":
        return task
    return _counted(task, replace(_risen(task, "STOPPED"), stopped_at=now))


def reported(task: TaskRecord, definition: Document, report: TaskReport, now: datetime) -> TaskRecord:
    """What the agent says of it, taken over. After the agent has said STOPPED nothing changes it."""
    if task.is_done:
        return task
    by_name = {one.name: one for one in report.containers}
    told = replace(
        task,
        containers=tuple(_container(one, by_name.get(one.name)) for one in task.containers),
        pull_started_at=report.pull_started_at or task.pull_started_at,
        pull_stopped_at=report.pull_stopped_at or task.pull_stopped_at,
        started_at=report.started_at
        or task.started_at
        or (now if report.status is TaskStatus.RUNNING else None),
        execution_stopped_at=report.execution_stopped_at or task.execution_stopped_at,
    )
    if report.status is TaskStatus.STOPPED:
        told = _risen(_ended(told, definition, report, now), "DEPROVISIONING")
        told = replace(told, execution_stopped_at=told.execution_stopped_at or now)
    elif report.stopping_at is not None:
        told = _risen(_ended(told, definition, report, report.stopping_at), "STOPPING")
    else:
        told = _risen(told, report.status.value)
    return _counted(task, told)


def health_of(task: TaskRecord, definition: Document) -> str:
    """The task's health from its essential containers that have a health check."""
    checked = {
        one["name"]
        for one in definition["containerDefinitions"]
        if one.get("healthCheck") and one.get("essential", True)
    }
    seen = {one.health for one in task.containers if one.name in checked}
    if not seen or seen == {"HEALTHY"}:
        return "HEALTHY" if seen else "UNKNOWN"
    return "UNHEALTHY" if "UNHEALTHY" in seen else "UNKNOWN"


def _ended(task: TaskRecord, definition: Document, report: TaskReport, at: datetime) -> TaskRecord:
    """The stop code and reason, unless a user's stop came first."""
    ending = replace(task, desired_status="STOPPED", stopping_at=task.stopping_at or report.stopping_at or at)
    if task.stop_code is not None:
        return ending
    essential = {one["name"] for one in definition["containerDefinitions"] if one.get("essential", True)}
    has_exited = any(one.exit_code is not None for one in task.containers if one.name in essential)
    if has_exited:
        return replace(ending, stop_code="EssentialContainerExited", stopped_reason=ESSENTIAL_EXITED)
    reason = report.reason or next((one.reason for one in task.containers if one.reason), "")
    code = "TaskFailedToStart" if task.started_at is None else "EssentialContainerExited"
    fallback = "Task failed to start" if task.started_at is None else ESSENTIAL_EXITED
    return replace(ending, stop_code=code, stopped_reason=(reason or fallback)[:_LONGEST_REASON])


def _container(record: ContainerRecord, report: ContainerReport | None) -> ContainerRecord:
    if report is None or record.last_status == "STOPPED":
        return record
    return replace(
        record,
        last_status=max(record.last_status, report.status.value, key=_LADDER.index),
        runtime_id=report.runtime_id or record.runtime_id,
        exit_code=report.exit_code if report.exit_code is not None else record.exit_code,
        reason=report.reason[:_LONGEST_REASON] or record.reason,
        image_digest=report.image_digest or record.image_digest,
        health=report.health.value,
    )


def _risen(task: TaskRecord, status: str) -> TaskRecord:
    if _LADDER.index(status) <= _LADDER.index(task.last_status):
        return task
    return replace(task, last_status=status)


def _counted(before: TaskRecord, after: TaskRecord) -> TaskRecord:
    return replace(after, version=before.version + 1) if after != before else before
