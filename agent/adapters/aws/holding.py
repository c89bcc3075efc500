"""Hold credentials per role and task: fetched once for all who wait, renewed early, never expired."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from agent.model.credentials import Credentials
from agent.model.errors import AgentError, CredentialsUnavailable, UnknownRole
from agent.model.ids import RoleArn, TaskArn, task_id
from agent.model.spec import TaskRole
from agent.ports.clock import Clock

log = structlog.get_logger()

Fetch = Callable[[TaskRole, TaskArn], "asyncio.Future[Credentials]"]
"""Starts to fetch. The future fails with ``CredentialsUnavailable`` or ``UnknownRole``."""

Key = tuple[RoleArn, TaskArn]


@dataclass(frozen=True, slots=True)
class Patience:
    """When to renew and when to give up.

    Renewal is due between ``renew_from`` and ``renew_to`` of the lifetime. With less than ``short`` left,
    a request waits for new ones, at most ``wait_for_newer``. ``limit``: for one fetch. After a failure nobody
    asks again for ``pause``, doubled with each further failure up to ``longest_pause``.
    """

    renew_from: float = 0.5
    renew_to: float = 0.7
    short: timedelta = timedelta(minutes=5)
    wait_for_newer: timedelta = timedelta(seconds=1)
    limit: timedelta = timedelta(seconds=20)
    pause: timedelta = timedelta(seconds=1)
    longest_pause: timedelta = timedelta(minutes=1)
    look_every: timedelta = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class _Held:
    role: TaskRole
    credentials: Credentials
    renew_at: datetime


@dataclass(frozen=True, slots=True)
class _Failure:
    error: AgentError
    count: int
    retry_at: datetime


class HeldCredentials:
    """Credentials by role and task. ``jitter`` gives numbers from 0 to 1."""

    def __init__(
        self,
        fetch: Fetch,
        clock: Clock,
        *,
        patience: Patience | None = None,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._patience = patience or Patience()
        self._jitter = jitter or random.SystemRandom().random
        self._held: dict[Key, _Held] = {}
        self._failures: dict[Key, _Failure] = {}
        self._flights: dict[Key, asyncio.Future[Credentials]] = {}

    async def get(self, role: TaskRole, task: TaskArn) -> Credentials:
        """Valid credentials, from memory if they last. Raise ``CredentialsUnavailable``, ``UnknownRole``."""
        held = self._held.get((role.arn, task))
        left = held.credentials.expires_at - self._clock.now() if held is not None else timedelta(0)
        if held is None or left <= timedelta(0):
            # Others wait for the same flight, so it must outlive whoever goes away.
            return await asyncio.shield(self._flight(role, task))
        if not self._is_due(held):
            return held.credentials
        if left >= self._patience.short:
            self._renew(role, task)
            return held.credentials
        return await self._newer_than(held, task)

    async def renew_due(self) -> None:
        """Renew what is due; return when all of that has ended, well or not (failures are logged)."""
        due = [
            self._flight(held.role, key[1])
            for key, held in self._held.items()
            if self._is_due(held) and not self._is_pausing(key)
        ]
        if due:
            await asyncio.wait(due)

    async def keep_renewed(self) -> None:
        """Never ends: renew before anybody has to wait."""
        while True:
            await asyncio.sleep(self._patience.look_every.total_seconds())
            await self.renew_due()

    def forget(self, task: TaskArn) -> None:
        """Drop everything that is held for the task, and what is on its way."""
        for kept in (self._held, self._failures, self._flights):
            for key in [key for key in kept if key[1] == task]:
                del kept[key]

    async def _newer_than(self, held: _Held, task: TaskArn) -> Credentials:
        try:
            async with asyncio.timeout(self._patience.wait_for_newer.total_seconds()):
                return await asyncio.shield(self._flight(held.role, task))
        except (CredentialsUnavailable, UnknownRole, TimeoutError):
            if held.credentials.expires_at > self._clock.now():
                return held.credentials
            raise CredentialsUnavailable(f"the credentials of {held.role.arn} have just expired") from None

    def _is_due(self, held: _Held) -> bool:
        return self._clock.now() >= held.renew_at

    def _is_pausing(self, key: Key) -> bool:
        failure = self._failures.get(key)
        return failure is not None and self._clock.now() < failure.retry_at

    def _renew(self, role: TaskRole, task: TaskArn) -> None:
        if not self._is_pausing((role.arn, task)):
            self._flight(role, task)

    def _flight(self, role: TaskRole, task: TaskArn) -> "asyncio.Future[Credentials]":
        key = (role.arn, task)
        flight = self._flights.get(key)
        if flight is not None:
            return flight
        loop = asyncio.get_running_loop()
        flight = loop.create_future()
        failure = self._failures.get(key)
        if failure is not None and self._clock.now() < failure.retry_at:
            # a copy: an exception that is raised again and again collects traces
            flight.set_exception(type(failure.error)(str(failure.error)))
            return flight
        limit = self._patience.limit.total_seconds()
        late = CredentialsUnavailable(f"no answer about {role.arn} within {limit:.0f} s")
        timer = loop.call_later(limit, _fail, flight, late)
        self._flights[key] = flight

        def landed(fetched: "asyncio.Future[Credentials]") -> None:
            timer.cancel()
            _copy(fetched, flight)

        flight.add_done_callback(lambda done: self._arrived(key, role, done))
        self._fetch(role, task).add_done_callback(landed)
        return flight

    def _arrived(self, key: Key, role: TaskRole, flight: "asyncio.Future[Credentials]") -> None:
        error = flight.exception()
        if self._flights.get(key) is not flight:
            return  # forgotten meanwhile
        del self._flights[key]
        names = {"role": role.arn, "task_id": task_id(key[1])}
        if error is None:
            credentials = flight.result()
            self._failures.pop(key, None)
            self._held[key] = _Held(role, credentials, self._renew_at(credentials))
            log.info("credentials.fetched", **names, expires_at=credentials.expires_at.isoformat())
            return
        reason = error
        if not isinstance(reason, AgentError):
            # a bug: its text may hold anything, so it does not go into the log
            reason = CredentialsUnavailable(f"{role.arn}: {type(error).__name__}")
        before = self._failures.get(key)
        count = 1 if before is None else before.count + 1
        pause = min(self._patience.pause * 2 ** min(count - 1, 16), self._patience.longest_pause)
        retry_at = self._clock.now() + pause * (0.75 + self._jitter() / 2)
        self._failures[key] = _Failure(reason, count, retry_at)
        log.warning("credentials.missed", **names, reason=str(reason), failures=count)

    def _renew_at(self, credentials: Credentials) -> datetime:
        now = self._clock.now()
        patience = self._patience
        share = patience.renew_from + (patience.renew_to - patience.renew_from) * self._jitter()
        return now + (credentials.expires_at - now) * share


def _copy(fetched: "asyncio.Future[Credentials]", flight: "asyncio.Future[Credentials]") -> None:
    if fetched.cancelled():
        _fail(flight, CredentialsUnavailable("the agent is stopping"))
    elif (error := fetched.exception()) is not None:
        _fail(flight, error)
    elif not flight.done():
        flight.set_result(fetched.result())


def _fail(flight: "asyncio.Future[Credentials]", error: BaseException) -> None:
    if not flight.done():
        flight.set_exception(error)
