"""Amazon ECS as the agent's backend: what the cluster wants, and what it is told."""

from collections.abc import AsyncIterator

from agent.adapters.ecs.assignments import Assignments
from agent.adapters.ecs.change import Change
from agent.adapters.ecs.credentials import DeliveredCredentials
from agent.adapters.ecs.outbox import Outbox
from agent.model.desired import DesiredTasks
from agent.model.report import TaskReport
from agent.model.status import TaskStatus


class EcsBackend:
    """Implements ``TaskStateBackend`` on what the control channel has brought and the API takes."""

    def __init__(
        self,
        assignments: Assignments,
        outbox: Outbox,
        credentials: DeliveredCredentials,
        tasks_changed: Change,
    ) -> None:
        self._assignments = assignments
        self._outbox = outbox
        self._credentials = credentials
        self._tasks_changed = tasks_changed

    async def desired(self) -> AsyncIterator[DesiredTasks]:
        """Yield what was wanted before a restart, then every change. Never ends."""
        seen: DesiredTasks | None = None
        while True:
            changed = self._tasks_changed.next
            wanted = self._assignments.wanted()
            if seen is None or (wanted.complete, wanted.tasks) != (seen.complete, seen.tasks):
                seen = wanted
                yield wanted
            await changed.wait()

    async def report(self, report: TaskReport) -> bool:
        """Tell what is news. Raise ``BackendUnavailable``, ``CheckpointFailed`` or ``ReportRejected``."""
        try:
            return await self._outbox.report(report)
        finally:
            if report.status is TaskStatus.STOPPED:
                # Delivered again while the task was on its way down: nobody will ask for it any more.
                await self._credentials.forget(report.task_arn)
