"""Where orders come from and reports go."""

from collections.abc import AsyncIterator
from typing import Protocol

from agent.model.desired import DesiredTasks
from agent.model.report import TaskReport


class TaskStateBackend(Protocol):
    """The only thing that knows the backend's wire format."""

    def desired(self) -> AsyncIterator[DesiredTasks]:
        """Yield the newest snapshot first, then every change. Never ends; reconnects by itself."""

    async def report(self, report: TaskReport) -> bool:
        """Return once accepted. Saying the same twice is fine.

        True: the backend itself has just taken it. False: there was nothing to ask it for.

        Raise ``BackendUnavailable`` to be asked again later (or ``CheckpointFailed``, if it cannot be written
        down what was told), ``ReportRejected`` if it never will be accepted.
        """
