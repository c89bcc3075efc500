"""Keeps sockets in a program of its own, which outlives the agent: the way for an agent in a container."""

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import structlog

from agent.adapters.host.keeper_link import SOCKET, KeeperLink, KeeperLost
from agent.model.errors import CannotStart, RuntimeUnavailable, StepError
from agent.ports.health import HealthReports

log = structlog.get_logger()

COMPONENT = "socket keeper"

FIRST_RETRY, LONGEST_RETRY = 0.25, 30.0
LOOK_SECONDS = 30.0
"""How often the keeper is asked whether it is still there, though its end is heard of at once."""

APPEAR_SECONDS = 15.0
"""How long a keeper that was started may take until it answers."""

FORGET_SECONDS = 20.0
"""How long the keeper, and Docker in its place, may take to let go of a socket; others wait for it."""

SHORTEST_LIFE = 10.0
"""Seconds within which no second keeper is started: one that always ends would cost a container each time."""


class KeeperProcess(Protocol):
    """Where the keeper program runs."""

    @property
    def version(self) -> str:
        """What a keeper that was started here says of itself: program and parameters."""

    async def ensure_made(self) -> None:
        """Start one, instead of one that does not answer. Raise ``StepError`` or ``RuntimeUnavailable``."""

    async def ensure_removed(self) -> None:
        """End all of them. Raise ``StepError`` or ``RuntimeUnavailable``."""


class ProgramKeeper:
    """Implements ``SocketKeeper``. ``directory``: where the keeper's door is, seen from here.

    A keeper of before this process is used as it is, and replaced as soon as ``process`` can start another if
    it has another version. The agent has a duplicate of each socket, so no keeper's end loses one.
    """

    def __init__(self, directory: Path, process: KeeperProcess, health: HealthReports) -> None:
        self._path = directory / SOCKET
        self._process = process
        self._health = health
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()
        self._link: KeeperLink | None = None
        self._wanted: dict[str, socket.socket] = {}
        self._given: set[str] = set()
        self._made_at: float | None = None

    async def recover(self) -> Mapping[str, socket.socket]:
        """What the running keeper has; nothing if there is none. Docker is not needed for it."""
        async with self._lock:
            try:
                self._prepare()
                found = await self._linked().recover()
            except (KeeperLost, CannotStart) as error:
                self._hang_up()
                log.info("keeper.missed", reason=str(error))
                return {}
        return found

    async def keep(self, name: str, listening: socket.socket) -> None:
        """Give it to the keeper as soon as there is one."""
        self._drop(name)
        self._wanted[name] = listening.dup()
        self._news.set()

    async def forget(self, name: str) -> bool:
        """Have the keeper close it. One that does not answer is ended, if Docker can do that.

        It may be that Docker is being asked for a keeper and hangs: that is not waited for. The next keeper
        is not given the socket, whenever it comes.
        """
        self._drop(name)
        try:
            async with asyncio.timeout(FORGET_SECONDS), self._lock:
                await self._let_go(name)
        except TimeoutError:
            log.warning("keeper.stuck", reason=f"it has not let go of {name} within {FORGET_SECONDS:g} s")
        return True

    async def run(self) -> None:
        """Have a keeper with all the sockets, whatever becomes of it. Never ends."""
        log.info("keeper.chosen", kind="container", version=self._process.version)
        delay = FIRST_RETRY
        try:
            while True:
                self._news.clear()
                problem = await self._settle()
                self._health.report(COMPONENT, problem)
                delay = FIRST_RETRY if problem is None else min(2 * delay, LONGEST_RETRY)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS if problem is None else delay):
                        await self._news.wait()
        finally:
            self._hang_up()
            for name in tuple(self._wanted):
                self._drop(name)

    # -- inside --------------------------------------------------------------------------------

    async def _let_go(self, name: str) -> None:
        try:
            await self._linked().forget(name)
        except KeeperLost as lost:
            self._hang_up()
            try:
                await self._process.ensure_removed()
            except (StepError, RuntimeUnavailable) as error:
                log.warning("keeper.stuck", reason=f"{lost}; it cannot be removed: {error}")
        except BaseException:
            self._hang_up()  # whatever it answers now would be taken for the answer to something else
            raise

    async def _settle(self) -> str | None:
        """Give a keeper of the right version all that is wanted. What is in the way of that, or None."""
        if not self._wanted:
            return None
        async with self._lock:
            try:
                self._prepare()
                if not await self._is_current():
                    await self._replace()
            except (KeeperLost, StepError, RuntimeUnavailable, CannotStart) as error:
                if self._link is not None:
                    return f"the keeper is an older one and cannot be replaced: {error}"
                return f"nobody keeps the endpoint's sockets while the agent restarts: {error}"
        return None

    async def _is_current(self) -> bool:
        """Whether the keeper that is there has everything and the right version."""
        try:
            link = self._linked()
            version = await link.version()
            await self._give(link)
        except KeeperLost as error:
            self._hang_up()
            log.info("keeper.missed", reason=str(error))
            return False
        return version == self._process.version

    async def _replace(self) -> None:
        """Start another. The earlier one stays until the new one has everything."""
        earlier, self._link = self._link, None
        self._given.clear()
        try:
            made = await self._made()
            await self._give(made)
        except BaseException:
            self._hang_up()
            self._link = earlier
            raise
        log.info("keeper.made", version=self._process.version)
        if earlier is not None:
            with contextlib.suppress(KeeperLost):  # it has ended by itself: fine
                await earlier.end()
            earlier.close()

    async def _give(self, link: KeeperLink) -> None:
        for name in [each for each in self._wanted if each not in self._given]:
            await link.keep(name, self._wanted[name])
            self._given.add(name)
            log.info("socket.kept", name=name)

    async def _made(self) -> KeeperLink:
        loop = asyncio.get_running_loop()
        if self._made_at is not None and loop.time() < self._made_at + SHORTEST_LIFE:
            raise KeeperLost("it ended soon after it had been started; another one is started later")
        await self._process.ensure_made()
        self._made_at = loop.time()
        until = loop.time() + APPEAR_SECONDS
        while True:
            try:
                link = self._linked()
                version = await link.version()
            except KeeperLost as error:
                self._hang_up()
                if loop.time() > until:
                    raise KeeperLost(f"{error}; it was started and does not answer there") from error
            else:
                if version == self._process.version:
                    return link
                self._hang_up()
                if loop.time() > until:
                    raise KeeperLost(f"an older keeper answers, {version!r}; another one was started")
            await asyncio.sleep(0.02)

    def _linked(self) -> KeeperLink:
        if self._link is None:
            self._link = KeeperLink.open(self._path, self._news.set)
        return self._link

    def _hang_up(self) -> None:
        self._given.clear()
        if self._link is not None:
            self._link.close()
            self._link = None

    def _drop(self, name: str) -> None:
        self._given.discard(name)
        earlier = self._wanted.pop(name, None)
        if earlier is not None:
            earlier.close()

    def _prepare(self) -> None:
        directory = self._path.parent
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CannotStart(f"cannot make {directory}: {error.strerror}", is_final=False) from error
