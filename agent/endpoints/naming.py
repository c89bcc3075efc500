"""Which task somebody means: by ARN, by id, or by the first characters of an id. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.model.state import TaskState

SHORTEST_PREFIX = 4
SHORT_DOCKER_ID = 12


@dataclass(frozen=True, slots=True)
class NotOneTask:
    """No single task is meant. ``status``: the HTTP status that says so."""

    status: int
    message: str


def find_task(tasks: Sequence[TaskState], name: str) -> TaskState | NotOneTask:
    """The task of that ARN or id, or the only one whose id begins so."""
    if not name:
        return NotOneTask(400, "task is missing; expected an ARN, an id or the beginning of an id")
    for task in tasks:
        if name in {task.arn, task.task_id}:
            return task
    if len(name) < SHORTEST_PREFIX:
        return NotOneTask(400, f"task {name!r} is too short; expected at least {SHORTEST_PREFIX} characters")
    found = [task for task in tasks if task.task_id.startswith(name)]
    if len(found) == 1:
        return found[0]
    if not found:
        return NotOneTask(404, f"task {name!r} is not known to this agent")
    candidates = ", ".join(task.task_id for task in found)
    return NotOneTask(400, f"task {name!r} is ambiguous; it could be {candidates}")


def find_by_docker_id(tasks: Sequence[TaskState], docker_id: str) -> TaskState | NotOneTask:
    """The task with that container; up to twelve characters are a prefix, more must be the whole id."""
    is_prefix = len(docker_id) <= SHORT_DOCKER_ID
    found = [
        task
        for task in tasks
        for container in task.containers
        if container.container_id is not None
        and (
            container.container_id.startswith(docker_id) if is_prefix else container.container_id == docker_id
        )
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        return NotOneTask(404, f"no container has the id {docker_id!r}")
    return NotOneTask(400, f"the id {docker_id!r} is ambiguous")
