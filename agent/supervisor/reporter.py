"""Keeps the newest report of each task and offers it to the backend until it is accepted."""

import asyncio
import random
from collections.abc import Callable

import structlog

from agent.model.errors import BackendUnavailable, CheckpointFailed, ReportRejected
from agent.model.events import ReportAccepted
from agent.model.ids import TaskArn, task_id
from agent.model.progress import Loop, Progress
from agent.model.report import TaskReport
from agent.ports.backend import TaskStateBackend
from agent.ports.clock import Clock
from agent.ports.health import HealthReports

log = structlog.get_logger()

FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0
GROWTH = 1.3
AT_ONCE = 10
"""Delays in seconds, their growth, and how many tasks are reported side by side (ecs-protocol 1.7)."""

SENDING_LIMIT = 1800.0
"""Seconds. No backend takes so long for one report, with all tries and all turns: then something is stuck."""


class Reporter:
    """One report in flight per task; a newer one replaces an older one that waits."""

    def __init__(
        self, backend: TaskStateBackend, clock: Clock, health: HealthReports, progress: Progress
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._health = health
        self._progress = progress
        self._loop = Loop("reporter", progress)
        self._newest: dict[TaskArn, TaskReport] = {}
        self._sending: set[TaskArn] = set()
        self._wanted = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._accepted: Callable[[ReportAccepted], None] | None = None

    def on_accepted(self, deliver: Callable[[ReportAccepted], None]) -> None:
        """Where acceptance is told. Set once, before ``run``."""
        self._accepted = deliver

    def offer(self, report: TaskReport) -> None:
        """Take the newest report of a task. Never waits."""
        self._newest[report.task_arn] = report
        self._wanted.set()
        self._loop.wake()

    async def run(self) -> None:
        """Send for ever."""
        with self._progress.watching(self._loop):
            async with asyncio.TaskGroup() as senders:
                await self._give_out(senders)

    async def _give_out(self, senders: asyncio.TaskGroup) -> None:
        while True:
            if not self._wanted.is_set():
                self._loop.rest()
            await self._wanted.wait()
            self._wanted.clear()
            self._loop.beat()
            for arn in self._newest.keys() - self._sending:
                self._sending.add(arn)
                senders.create_task(self._send_all_of(arn))

    async def _send_all_of(self, arn: TaskArn) -> None:
        with self._progress.watched(f"report of task {task_id(arn)}") as loop:
            await self._send_all(arn, loop)

    async def _send_all(self, arn: TaskArn, loop: Loop) -> None:
        delay = FIRST_DELAY
        try:
            while (report := self._newest.get(arn)) is not None:
                if await self._sent(report, loop):
                    delay = FIRST_DELAY
                    if self._newest.get(arn) is report:
                        del self._newest[arn]
                    continue
                loop.beat(2 * delay)
                await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311  # jitter is no secret
                delay = min(delay * GROWTH, LONGEST_DELAY)
        finally:
            self._sending.discard(arn)

    async def _sent(self, report: TaskReport, loop: Loop) -> bool:
        """Whether there is nothing more to do for this report."""
        try:
            loop.rest()  # others come before it
            async with self._slots:
                loop.beat(SENDING_LIMIT)
                was_asked = await self._backend.report(report)
        except (BackendUnavailable, CheckpointFailed) as error:
            self._health.report("backend", f"reports are not accepted: {error}")
            log.warning("report.delayed", task_arn=report.task_arn, status=report.status, reason=str(error))
            return False
        except ReportRejected as error:
            # Poison: the backend will never take it, and keeping it would keep the task for ever.
            log.warning("report.rejected", task_arn=report.task_arn, status=report.status, reason=str(error))
        except Exception:
            # A bug that one report meets must not keep the others from being sent.
            log.exception("report.crashed", task_arn=report.task_arn, status=report.status)
            return False
        else:
            if was_asked:
                self._health.report("backend", None)
        if self._accepted is not None:
            self._accepted(ReportAccepted(self._clock.now(), report))
        return True
