"""Describe, list and stop tasks."""

from agent.adapters.local.errors import InvalidParameter
from agent.adapters.local.operations.desk import Desk, at_most, wants_tags
from agent.adapters.local.operations.paging import paged
from agent.adapters.local.progress import asked_to_stop
from agent.adapters.local.records import Document

_MOST_DESCRIBED = 100
_LONGEST_REASON = 1024


def describe_tasks(desk: Desk, wanted: Document) -> Document:
    """Tasks by id or ARN; the stopped ones for an hour."""
    cluster = desk.cluster(wanted)
    tasks: list[Document] = []
    failures: list[Document] = []
    for text in at_most("tasks", wanted["tasks"], _MOST_DESCRIBED):
        task = desk.task(cluster, text)
        if task is None:
            task_id = desk.node.identity.short_id("task", text)
            failures.append({"arn": desk.node.identity.task_arn(cluster, task_id), "reason": "MISSING"})
        else:
            tasks.append(desk.show_task(task, with_tags=wants_tags(wanted)))
    return {"tasks": tasks, "failures": failures}


def list_tasks(desk: Desk, wanted: Document) -> Document:
    """ARNs of tasks; of those that should run, unless asked otherwise."""
    cluster = desk.cluster(wanted)
    for field in ("serviceName", "daemonName"):
        if wanted.get(field):
            raise InvalidParameter(f"{field} {wanted[field]!r}: there are no services here")
    status = wanted.get("desiredStatus", "RUNNING")
    if status not in {"RUNNING", "PENDING", "STOPPED"}:
        raise InvalidParameter(f"desiredStatus {status!r}: expected RUNNING, PENDING or STOPPED")
    identity = desk.node.identity
    is_here = wanted.get("launchType") in {None, "EC2"} and _may_be_here(desk, cluster, wanted)
    found = desk.ledger.task_ids(cluster, status, wanted.get("family"), wanted.get("startedBy"))
    entries = [((one, 0), identity.task_arn(cluster, one)) for one in found] if is_here else []
    return paged("taskArns", entries, wanted)


def stop_task(desk: Desk, wanted: Document) -> Document:
    """Ask for a task's end. Asking again changes nothing."""
    cluster = desk.cluster(wanted)
    reason = wanted.get("reason", "")
    if len(reason) > _LONGEST_REASON:
        raise InvalidParameter(f"reason: {len(reason)} characters, expected at most {_LONGEST_REASON}")
    task = desk.task(cluster, wanted["task"])
    if task is None:
        raise InvalidParameter("The referenced task was not found.")
    stopping = asked_to_stop(task, reason, desk.ledger.now)
    if stopping != task:
        desk.ledger.save_task(stopping)
        desk.ledger.note(task.id, "stop.requested", stopping.stopped_reason or "")
    return {"task": desk.show_task(stopping, with_tags=True)}


def _may_be_here(desk: Desk, cluster: str, wanted: Document) -> bool:
    """Whether the request asks for tasks of any machine, or of this one."""
    text = wanted.get("containerInstance")
    instance = desk.instance(cluster)
    return text is None or (
        instance is not None and desk.node.identity.short_id("container-instance", text) == instance.id
    )
