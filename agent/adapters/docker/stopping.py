"""Ends containers, and does not take Docker's word for it: first by asking, in the end by killing."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from math import ceil
from pathlib import Path

import structlog
from docker import APIClient

from agent.adapters.docker.calls import inspect, stop
from agent.adapters.docker.connection import Connection, Lane
from agent.adapters.docker.errors import translated
from agent.adapters.docker.processes import kill_all, processes_in, wait_until_empty
from agent.adapters.docker.settings import DockerSettings
from agent.adapters.docker.snapshot import snapshot_of
from agent.adapters.docker.threads import DeadlinePassed, QueueFull, Turn
from agent.model.errors import AgentError, CannotStopContainer, RuntimeUnavailable, StepError
from agent.model.observation import ContainerSnapshot
from agent.model.timeouts import timed_out
from agent.ports.clock import Clock

log = structlog.get_logger()

_SETTLE_SECONDS = 1.0
"""How long the kernel may take to empty a control group after Docker has seen the exit."""

_KILL_SECONDS = 3.0
_LOCAL_LIMIT = timedelta(seconds=10)


class Stopper:
    """Stops one container at a time per name. ``groups_of``: the control groups of what was seen last."""

    def __init__(
        self,
        connection: Connection,
        settings: DockerSettings,
        clock: Clock,
        groups_of: Callable[[ContainerSnapshot], tuple[Path, ...]],
    ) -> None:
        self._connection = connection
        self._host = settings.host
        self._limits = settings.limits
        self._clock = clock
        self._groups_of = groups_of
        self._asked_at: dict[str, float] = {}

    async def stop(
        self, name: str, grace: timedelta, seen: ContainerSnapshot | None, turn: Turn
    ) -> ContainerSnapshot | None:
        """Return what is seen after the end; None if there is no such container.

        Raise ``CannotStopContainer`` or ``RuntimeUnavailable``. ``seen``: what is known of it from before.
        """
        begun = self._asked_at.setdefault(name, time.monotonic())
        patience = grace + self._limits.stop_margin
        try:
            snapshot = await self._ask(name, grace, patience, turn)
        except (StepError, RuntimeUnavailable) as error:
            is_overdue = time.monotonic() >= begun + patience.total_seconds()
            if isinstance(error, RuntimeUnavailable) and not is_overdue:
                raise
            snapshot = await self.kill(seen, error)
        self.forget(name)
        return snapshot

    def forget(self, name: str) -> None:
        """The container is gone: when it was first asked to end does not matter any more."""
        self._asked_at.pop(name, None)

    async def kill(self, seen: ContainerSnapshot | None, cause: AgentError) -> ContainerSnapshot:
        """Kill without Docker and look whether it is gone.

        Raise ``cause`` where nothing can be known, ``RuntimeUnavailable`` if Docker does not answer either.
        """
        left = None
        if seen is not None:
            job = self._connection.begin(
                Lane.LOCAL, lambda _: _killed(self._groups_of(seen)), limit=_LOCAL_LIMIT
            )
            left = await self._connection.finish(job, limit=_LOCAL_LIMIT, transition="stopped")
        if seen is None or left is None:
            raise await self._without_proof(cause)
        log.warning("container.killed", docker_name=seen.docker_name, cause=str(cause), left=sorted(left))
        if left:
            raise CannotStopContainer(
                f"processes {sorted(left)} of container {seen.container_name} do not end even when killed"
            ) from cause
        return await self._after_kill(seen)

    async def _without_proof(self, cause: AgentError) -> AgentError:
        if isinstance(cause, RuntimeUnavailable) or await self._connection.ping():
            return cause
        unavailable = RuntimeUnavailable(f"Docker at {self._host} does not answer: {cause}")
        unavailable.__cause__ = cause
        return unavailable

    async def _ask(
        self, name: str, grace: timedelta, patience: timedelta, turn: Turn
    ) -> ContainerSnapshot | None:
        seconds = max(0, ceil(grace.total_seconds()))

        def stop_and_look(client: APIClient) -> ContainerSnapshot | None:
            answer = stop(client, name, seconds, self._clock)
            if answer is None:
                return None
            snapshot = snapshot_of(*answer)
            if snapshot.is_running:
                raise CannotStopContainer(f"Docker says that container {snapshot.container_name} still runs")
            if not wait_until_empty(self._groups_of(snapshot), _SETTLE_SECONDS):
                raise CannotStopContainer(
                    f"Docker says that container {snapshot.container_name} has ended, but processes of it run"
                )
            return snapshot

        job = self._connection.begin(Lane.STOP, stop_and_look, limit=self._limits.stop, turn=turn)
        try:
            with translated(CannotStopContainer, self._host):
                return await job.wait(patience.total_seconds())
        except (DeadlinePassed, QueueFull) as error:
            raise CannotStopContainer(timed_out("stopped", patience)) from error

    async def _after_kill(self, seen: ContainerSnapshot) -> ContainerSnapshot:
        """Docker's own account of the end if it gives one soon; else what the empty control group proves."""
        until = time.monotonic() + self._limits.ping.total_seconds()
        while time.monotonic() < until:
            try:
                answer = await self._connection.call(
                    Lane.LOOK,
                    lambda client: inspect(client, seen.container_id, self._clock),
                    limit=self._limits.ping,
                    transition="inspecting",
                )
            except RuntimeUnavailable:
                break
            snapshot = None if answer is None else snapshot_of(*answer)
            if snapshot is None or not snapshot.is_running:
                return snapshot or self._ended(seen)
            await asyncio.sleep(0.1)
        return self._ended(seen)

    def _ended(self, seen: ContainerSnapshot) -> ContainerSnapshot:
        now = self._clock.now()
        return replace(
            seen,
            observed_at=now,
            is_running=False,
            was_started=True,
            pid=None,
            finished_at=seen.finished_at or now,
            exit_code=seen.exit_code,
        )


def _killed(groups: tuple[Path, ...]) -> frozenset[int] | None:
    """Which processes are left after all was killed; None: there is no group that could tell."""
    if not groups:
        return None
    if kill_all(groups, _KILL_SECONDS):
        return frozenset()
    return frozenset[int]().union(*map(processes_in, groups)) or frozenset({0})
