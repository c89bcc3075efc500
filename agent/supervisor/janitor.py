"""Removes leftovers that belong to no task: from a lost record, or from a backend that forgot."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import structlog

from agent.lifecycle.names import is_own
from agent.model.errors import AgentError, BackendUnavailable, StepError
from agent.model.ids import ContainerId, TaskArn, TaskId, task_id
from agent.model.observation import ContainerSnapshot
from agent.model.progress import Progress
from agent.ports.network import KnownSandboxes, NetworkProvider
from agent.ports.runtime import ContainerRuntime

log = structlog.get_logger()

SWEEP_EVERY = 600.0
FIRST_SWEEP_AFTER = 30.0
"""Seconds. The first sweep leaves time for a backend to name its tasks."""

LONGEST_SWEEP = 4 * 3600.0
"""Seconds. A sweep stops one stranger after the other, and a hanging runtime takes minutes for each."""

STRANGER_GRACE = timedelta(seconds=30)


class Janitor:
    """``known`` gives the tasks of this agent, or None while the backend has not named them all.

    ``sandboxes`` gives the pause containers of these tasks. ``progress``: where it says that it gets on.
    """

    def __init__(
        self,
        runtime: ContainerRuntime,
        network: NetworkProvider,
        *,
        known: Callable[[], frozenset[TaskArn] | None],
        sandboxes: KnownSandboxes,
        progress: Progress | None = None,
    ) -> None:
        self._runtime = runtime
        self._network = network
        self._known = known
        self._sandboxes = sandboxes
        self._progress = progress or Progress()

    async def run(self) -> None:
        """Sweep for ever."""
        with self._progress.watched("janitor") as loop:
            loop.beat(FIRST_SWEEP_AFTER)
            await asyncio.sleep(FIRST_SWEEP_AFTER)
            while True:
                loop.beat(LONGEST_SWEEP)
                try:
                    await self.sweep()
                except AgentError as error:
                    log.warning("sweep.failed", reason=str(error))
                loop.beat(SWEEP_EVERY)
                await asyncio.sleep(SWEEP_EVERY)

    async def leaks(self) -> dict[str, tuple[str, ...]]:
        """What a sweep would remove, by kind.

        Raise ``RuntimeUnavailable``, ``CannotAttachNetwork``, or ``BackendUnavailable`` while nobody can say.
        """
        seen = await self._runtime.observe()
        known = self._known()
        if known is None:
            raise BackendUnavailable("the backend has not named all of its tasks yet")
        return {
            "containers": tuple(each.docker_name for each in _strangers(seen, known)),
            "volumes and control groups": await self._runtime.leftovers(_ids(known)),
            "network": await self._network.leftovers(self._standing(seen)),
        }

    def standing(self) -> dict[str, Any]:
        """What must not be taken for a leftover, ready for JSON: for whoever looks from outside.

        ``is_complete`` False: the backend has not named all tasks yet, so nobody can say.
        """
        known = self._known()
        return {
            "is_complete": known is not None,
            "tasks": sorted(known or ()),
            "sandboxes": sorted(self._sandboxes()),
        }

    async def sweep(self) -> tuple[str, ...]:
        """Stop and remove the containers of unknown tasks, then what is left of their sandboxes."""
        removed: list[str] = []
        still_used: set[TaskArn] = set()
        seen = await self._runtime.observe()
        # the pause container last: a sandbox outlives its members
        for each in sorted(_strangers(seen, self._known()), key=lambda snapshot: snapshot.is_pause):
            if each.is_pause and each.task_arn in still_used:
                continue
            try:
                await self._runtime.ensure_stopped(each.docker_name, STRANGER_GRACE)
                await self._runtime.ensure_removed(each.docker_name)
            except StepError as error:  # one that will not go does not keep the others
                log.warning("leftover.kept", name=each.docker_name, reason=str(error))
                still_used.add(each.task_arn)
                continue
            log.info("leftover.removed", leftover=each.docker_name, task_arn=each.task_arn)
            removed.append(each.docker_name)
        known = self._known()  # once more: stopping takes its time
        if known is None:
            return tuple(removed)
        removed += _told(await self._runtime.remove_leftovers(_ids(known | still_used)))
        standing = self._standing(await self._runtime.observe())
        removed += _told(await self._network.remove_leftovers(standing))
        return tuple(removed)

    def _standing(self, seen: Iterable[ContainerSnapshot]) -> KnownSandboxes:
        """Also those that no task knows keep their network: it goes after the last container."""
        pauses = frozenset(each.container_id for each in seen if each.is_pause)

        def sandboxes() -> frozenset[ContainerId]:
            return pauses | self._sandboxes()

        return sandboxes


def _strangers(
    seen: Iterable[ContainerSnapshot], known: frozenset[TaskArn] | None
) -> tuple[ContainerSnapshot, ...]:
    """To be told who is known after the look: a task accepted meanwhile is no stranger."""
    if known is None:
        return ()
    return tuple(each for each in seen if each.task_arn not in known and is_own(each))


def _told(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        log.info("leftover.removed", leftover=name)
    return names


def _ids(arns: frozenset[TaskArn]) -> frozenset[TaskId]:
    return frozenset(task_id(arn) for arn in arns)
