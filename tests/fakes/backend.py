"""A backend in memory that can also be late, absent, repetitive and forgetful, as real ones are."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from agent.model.desired import DesiredTasks, WantedTask
from agent.model.errors import BackendUnavailable, ReportRejected
from agent.model.ids import TaskArn
from agent.model.report import TaskReport
from agent.model.spec import TaskSpec
from agent.model.status import TaskStatus

_RANK = {TaskStatus.PENDING: 0, TaskStatus.RUNNING: 1, TaskStatus.STOPPED: 2}


class FakeBackend:
    """Implements ``TaskStateBackend``. The test plays the control plane with ``want`` and ``ask_to_stop``.

    What may go wrong is set by attributes, at any time:
    ``is_unavailable``: reports raise ``BackendUnavailable`` and no snapshot comes until it is False again.
    ``copies``: how often every snapshot is delivered.
    ``is_reordered``: after each new snapshot the one before it is delivered once more, and tasks come backwards.
    ``is_complete``: whether snapshots claim to name every task.
    ``hidden``: tasks that snapshots leave out although they are wanted.
    """

    def __init__(self) -> None:
        self.copies = 1
        self.is_reordered = False
        self.is_complete = True
        self.hidden: set[TaskArn] = set()
        self.reports: list[TaskReport] = []
        self._is_unavailable = False
        self._wanted: dict[TaskArn, WantedTask] = {}
        self._stopped: set[TaskArn] = set()
        self._latest: dict[TaskArn, TaskReport] = {}
        self._sequence = 0
        self._changed = asyncio.Event()

    # -- the port ------------------------------------------------------------------------------

    async def desired(self) -> AsyncIterator[DesiredTasks]:
        """Yield the newest snapshot, then one after every change."""
        seen = -1
        before: DesiredTasks | None = None
        while True:
            changed = self._changed
            if self._is_unavailable or self._sequence == seen:
                await changed.wait()
                continue
            snapshot = self._snapshot()
            seen = snapshot.sequence
            for _ in range(self.copies):
                yield snapshot
            if self.is_reordered and before is not None:
                yield before
            before = snapshot

    async def report(self, report: TaskReport) -> bool:
        """Keep the report. Raise ``BackendUnavailable`` while unavailable, ``ReportRejected`` if unknown."""
        await asyncio.sleep(0)
        if self._is_unavailable:
            raise BackendUnavailable("the fake backend is switched off")
        if report.task_arn not in self._wanted and report.task_arn not in self._stopped:
            raise ReportRejected(f"{report.task_arn}: no such task was ever assigned")
        self.reports.append(report)
        held = self._latest.get(report.task_arn)
        if held is not None and _RANK[report.status] < _RANK[held.status]:
            return True
        self._latest[report.task_arn] = report
        if report.status is TaskStatus.STOPPED and report.task_arn in self._wanted:
            del self._wanted[report.task_arn]
            self._stopped.add(report.task_arn)
            self.announce()
        return True

    # -- the test's side -----------------------------------------------------------------------

    @property
    def is_unavailable(self) -> bool:
        """Whether the backend is switched off."""
        return self._is_unavailable

    @is_unavailable.setter
    def is_unavailable(self, value: bool) -> None:
        self._is_unavailable = value
        self.announce()

    def want(self, spec: TaskSpec) -> TaskArn:
        """Assign a task; the next snapshot names it."""
        self._wanted[spec.arn] = WantedTask(spec)
        self.announce()
        return spec.arn

    def ask_to_stop(self, arn: TaskArn, reason: str = "Task stopped by user") -> None:
        """Ask for the task's end. Raise ``KeyError`` if it is not assigned."""
        self._wanted[arn] = replace(self._wanted[arn], stop=reason)
        self.announce()

    def forget(self, arn: TaskArn) -> None:
        """Lose the task: later snapshots do not name it, and reports about it are rejected."""
        self._wanted.pop(arn, None)
        self._stopped.discard(arn)
        self.announce()

    def announce(self) -> None:
        """Deliver a new snapshot, also if nothing changed."""
        self._sequence += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def latest(self, arn: TaskArn) -> TaskReport | None:
        """The report that stands for the task. Statuses never go back, whatever was reported later."""
        return self._latest.get(arn)

    def statuses(self, arn: TaskArn) -> tuple[TaskStatus, ...]:
        """Every status that was accepted for the task, in order, repeats left out."""
        told: list[TaskStatus] = []
        for report in self.reports:
            if report.task_arn == arn and (not told or told[-1] is not report.status):
                told.append(report.status)
        return tuple(told)

    def _snapshot(self) -> DesiredTasks:
        tasks = tuple(task for arn, task in self._wanted.items() if arn not in self.hidden)
        if self.is_reordered:
            tasks = tasks[::-1]
        return DesiredTasks(sequence=self._sequence, complete=self.is_complete, tasks=tasks)
