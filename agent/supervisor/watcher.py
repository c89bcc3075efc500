"""Brings what the runtime shows to the tasks: its own hints, and a full look now and then."""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from agent.model.errors import RuntimeUnavailable
from agent.model.events import ContainerObserved
from agent.model.ids import TaskArn
from agent.model.observation import PAUSE_NAME, ContainerSnapshot
from agent.model.progress import Progress
from agent.model.state import TaskState
from agent.ports.clock import Clock
from agent.ports.health import HealthReports
from agent.ports.runtime import ContainerRuntime

log = structlog.get_logger()

LOOK_EVERY = 30.0
"""Seconds between full looks. Events are hints; a lost one is healed within this time."""

CHECK_EVERY = 9.0
"""Seconds between two small questions, so that a hanging runtime is known within a quarter minute."""


LONGEST_LOOK, LONGEST_CHECK = 1800.0, 120.0
"""Seconds. The runtime gives up long before, however it hangs (ecs-protocol 8.4): then something is stuck."""


class Watcher:
    """``deliver`` puts an observation into the inbox of a task, if the task is known."""

    def __init__(
        self,
        runtime: ContainerRuntime,
        clock: Clock,
        health: HealthReports,
        progress: Progress,
        *,
        deliver: Callable[[TaskArn, ContainerObserved], None],
        tasks: Callable[[], Iterable[TaskState]],
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._health = health
        self._progress = progress
        self._deliver = deliver
        self._tasks = tasks

    async def run(self) -> None:
        """Watch for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_changes())
            group.create_task(self._look_now_and_then())
            group.create_task(self._check_now_and_then())

    async def look(self) -> tuple[ContainerSnapshot, ...]:
        """One full look, delivered to every known task. Raise ``RuntimeUnavailable``."""
        asked_at = self._clock.now()
        snapshots = await self._runtime.observe()
        seen = {each.docker_name: each for each in snapshots}
        for task in self._tasks():
            names = {PAUSE_NAME: task.sandbox.docker_name} | {
                each.name: each.docker_name for each in task.containers
            }
            for name, docker_name in names.items():
                event = ContainerObserved(self._clock.now(), name, asked_at, seen.get(docker_name))
                self._deliver(task.arn, event)
        return snapshots

    async def _follow_changes(self) -> None:
        async for snapshot in self._runtime.changes():
            event = ContainerObserved(
                self._clock.now(), snapshot.container_name, snapshot.observed_at, snapshot
            )
            self._deliver(snapshot.task_arn, event)

    async def _look_now_and_then(self) -> None:
        with self._progress.watched("looks at all containers") as loop:
            while True:
                loop.beat(LOOK_EVERY + LONGEST_LOOK)
                await asyncio.sleep(LOOK_EVERY)
                try:
                    await self.look()
                except RuntimeUnavailable as error:
                    log.warning("look.failed", reason=str(error))

    async def _check_now_and_then(self) -> None:
        """A full look may wait for minutes; this knows soon, and is what ``/health`` says."""
        with self._progress.watched("checks of the runtime") as loop:
            while True:
                loop.beat(CHECK_EVERY + LONGEST_CHECK)
                await asyncio.sleep(CHECK_EVERY)
                try:
                    await self._runtime.check()
                except RuntimeUnavailable as error:
                    self._health.report("runtime", f"the container runtime does not answer: {error}")
                else:
                    self._health.report("runtime", None)
