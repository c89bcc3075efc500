"""Removes labelled leftovers that belong to no task: from a lost record, or from a backend that forgot."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import structlog

from agent.model.errors import AgentError
from agent.model.ids import TaskArn, TaskId, task_id
from agent.model.observation import ContainerSnapshot
from agent.ports.runtime import ContainerRuntime

log = structlog.get_logger()

SWEEP_EVERY = 600.0
FIRST_SWEEP_AFTER = 30.0
"""Seconds. The first sweep leaves time for a backend to name its tasks."""

STRANGER_GRACE = timedelta(seconds=30)


class Janitor:
    """``known`` gives the tasks of this agent, or None while the backend has not named them all."""

    def __init__(self, runtime: ContainerRuntime, *, known: Callable[[], frozenset[TaskArn] | None]) -> None:
        self._runtime = runtime
        self._known = known

    async def run(self) -> None:
        """Sweep for ever."""
        await asyncio.sleep(FIRST_SWEEP_AFTER)
        while True:
            try:
                await self.sweep()
            except AgentError as error:
                log.warning("sweep.failed", reason=str(error))
            await asyncio.sleep(SWEEP_EVERY)

    async def leaks(self) -> tuple[str, ...]:
        """What a sweep would remove. Raise ``RuntimeUnavailable``."""
        strangers = await self._strangers()
        known = self._known()
        if known is None:
            return ()
        things = await self._runtime.leftovers(_ids(known))
        return (*(f"container {each.docker_name}" for each in strangers), *things)

    async def sweep(self) -> tuple[str, ...]:
        """Stop and remove the containers of unknown tasks, then what is left of their sandboxes."""
        removed: list[str] = []
        # the pause container last: a sandbox outlives its members
        for each in sorted(await self._strangers(), key=lambda snapshot: snapshot.is_pause):
            await self._runtime.ensure_stopped(each.docker_name, STRANGER_GRACE)
            await self._runtime.ensure_removed(each.docker_name)
            log.info("leftover.removed", leftover=each.docker_name, task_arn=each.task_arn)
            removed.append(each.docker_name)
        known = self._known()
        if known is None:
            return tuple(removed)
        for name in await self._runtime.remove_leftovers(_ids(known)):
            log.info("leftover.removed", leftover=name)
            removed.append(name)
        return tuple(removed)

    async def _strangers(self) -> tuple[ContainerSnapshot, ...]:
        seen = await self._runtime.observe()
        known = self._known()  # asked after the look: a task accepted meanwhile is no stranger
        return () if known is None else tuple(each for each in seen if each.task_arn not in known)


def _ids(arns: frozenset[TaskArn]) -> frozenset[TaskId]:
    return frozenset(task_id(arn) for arn in arns)
