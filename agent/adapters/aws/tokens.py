"""Hold registry logins that expire: so many, by key, renewed early, fetched once for all who wait."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from agent.model.credentials import RegistryLogin
from agent.model.errors import AgentError
from agent.ports.clock import Clock

_EARLIEST, _LATEST = timedelta(minutes=60), timedelta(minutes=30)
"""How long before its end a login is renewed (ecs-protocol 5.11)."""

_PAUSE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Token:
    """A login and its end. ``expires_at`` None: not known, so it is not kept."""

    login: RegistryLogin
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Held:
    login: RegistryLogin
    renew_at: datetime
    expires_at: datetime


@dataclass(slots=True)
class _Flight:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    landed: int = 0
    outcome: RegistryLogin | AgentError | None = field(default=None, repr=False)

    def shared(self) -> RegistryLogin:
        """What somebody else's fetch has given, or its error."""
        if isinstance(self.outcome, AgentError):
            # A copy: an exception that is raised again and again collects traces.
            raise type(self.outcome)(str(self.outcome))
        assert self.outcome is not None  # noqa: S101  # it has landed
        return self.outcome


class HeldTokens:
    """At most ``most`` logins, in memory only. ``jitter`` gives numbers from 0 to 1."""

    def __init__(self, clock: Clock, *, most: int = 100, jitter: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._most = most
        self._jitter = jitter or random.SystemRandom().random
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()
        self._flights: dict[Hashable, _Flight] = {}

    def fresh(self, key: Hashable) -> RegistryLogin | None:
        """The login if there is one that need not be renewed yet."""
        held = self._held.get(key)
        if held is None or self._clock.now() >= held.renew_at:
            return None
        self._held.move_to_end(key)
        return held.login

    def last_resort(self, key: Hashable) -> RegistryLogin | None:
        """The login that could not be renewed, as long as it lasts. It is not renewed again for a minute."""
        held = self._held.get(key)
        if held is None or self._clock.now() >= held.expires_at:
            return None
        self._held[key] = replace(held, renew_at=min(self._clock.now() + _PAUSE, held.expires_at))
        return held.login

    async def fetched(self, key: Hashable, fetch: Callable[[], Awaitable[Token]]) -> RegistryLogin:
        """A new login. Who comes while another caller fetches the same shares what that one gets.

        Raise what ``fetch`` raises.
        """
        flight = self._flights.setdefault(key, _Flight())
        flight.waiting += 1
        try:
            seen = flight.landed
            async with flight.lock:
                if flight.landed == seen:
                    # Nobody else has ended a fetch since this one was asked for: it is ours to do.
                    return await self._fly(flight, key, fetch)
                return flight.shared()
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                self._flights.pop(key, None)

    async def _fly(
        self, flight: _Flight, key: Hashable, fetch: Callable[[], Awaitable[Token]]
    ) -> RegistryLogin:
        try:
            token = await fetch()
        except AgentError as error:
            flight.landed, flight.outcome = flight.landed + 1, error
            raise
        flight.landed, flight.outcome = flight.landed + 1, token.login
        self._keep(key, token)
        return token.login

    def _keep(self, key: Hashable, token: Token) -> None:
        now = self._clock.now()
        if token.expires_at is None or token.expires_at <= now:
            return
        early = _LATEST + (_EARLIEST - _LATEST) * self._jitter()
        self._held[key] = _Held(token.login, token.expires_at - early, token.expires_at)
        self._held.move_to_end(key)
        while len(self._held) > self._most:
            self._held.popitem(last=False)
