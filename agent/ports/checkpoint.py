"""Where a task's state outlives the agent."""

from dataclasses import dataclass
from typing import Protocol

from agent.model.ids import TaskArn
from agent.model.state import TaskState


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was found at start. ``set_aside``: names of records that could not be read and were kept aside."""

    tasks: tuple[TaskState, ...]
    set_aside: tuple[str, ...] = ()


class CheckpointStore(Protocol):
    """One record per task."""

    async def load_all(self) -> Loaded:
        """Every readable record; unreadable ones are set aside, never deleted, never fatal."""

    async def save(self, task: TaskState) -> None:
        """Return only when it is on disk. Raise ``CheckpointFailed`` otherwise."""

    async def forget(self, arn: TaskArn) -> None:
        """Delete the record; fine if there is none. Raise ``CheckpointFailed``."""
