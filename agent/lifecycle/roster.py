"""What a snapshot of the backend's wishes means for the tasks that we know."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.model.desired import DesiredTasks, WantedTask
from agent.model.ids import TaskArn
from agent.model.status import Goal

ABSENT_REASON = "Task is no longer assigned to this container instance"


@dataclass(frozen=True, slots=True)
class Changes:
    """``accept``: tasks to take on (some with a stop order). ``stop``: goals to raise, and why."""

    accept: tuple[WantedTask, ...]
    stop: tuple[tuple[TaskArn, str], ...]


def diff(wanted: DesiredTasks, known: Mapping[TaskArn, Goal]) -> Changes:
    """Compare a snapshot with the goals of the tasks that we have.

    A task is accepted once, however often it is wanted. One that is merely missing is stopped only if the
    snapshot is complete. A goal never goes back.
    """
    accept: dict[TaskArn, WantedTask] = {}
    stop: dict[TaskArn, str] = {}
    for task in wanted.tasks:
        if task.arn not in known:
            accept.setdefault(task.arn, task)
        elif task.stop is not None and known[task.arn] < Goal.STOP:
            stop.setdefault(task.arn, task.stop)
    if wanted.complete:
        named = {task.arn for task in wanted.tasks}
        for arn, goal in known.items():
            if arn not in named and goal < Goal.STOP:
                stop[arn] = ABSENT_REASON
    return Changes(tuple(accept.values()), tuple(stop.items()))
