"""What a backend wants on this machine, as numbered snapshots."""

from dataclasses import dataclass

from agent.model.ids import TaskArn
from agent.model.spec import TaskSpec


@dataclass(frozen=True, slots=True)
class WantedTask:
    """A task that should be here. ``stop`` None: it should run; otherwise why it must stop."""

    spec: TaskSpec
    stop: str | None = None

    @property
    def arn(self) -> TaskArn:
        """The task's ARN."""
        return self.spec.arn


@dataclass(frozen=True, slots=True)
class DesiredTasks:
    """One snapshot. Only a ``complete`` one speaks about the tasks that it does not name."""

    sequence: int
    complete: bool
    tasks: tuple[WantedTask, ...]
