"""One listening socket per allowed interface, so that nobody else can even connect to the endpoint."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent.adapters.host.keeping import NoKeeper, SocketKeeper, problem_of, socket_name
from agent.adapters.host.listening import holders, listeners
from agent.model.errors import CannotStart
from agent.model.progress import Progress
from agent.ports.health import HealthReports

log = structlog.get_logger()

_COMPONENT = "endpoint sockets"
_RTMGRP_LINK = 1
_KEEPER = "keeper"
"""The name of the program that keeps sockets (pause/keeper.c)."""

_BACKLOG = 4096
"""How many may wait while the agent is away. Who finds no room tries again after one second, three, seven.

The kernel takes no more than ``net.core.somaxconn``, which is 4096 unless somebody has lowered it.
"""

_RELEASES = 20
_RELEASE_PAUSE = 0.05
"""Seconds between two looks whether a keeper has let go of an address: systemd does so in its own time."""


_LONGEST_LOOK = 90.0
"""Seconds. A keeper that hangs, with a Docker that hangs, is given up for each interface long before."""


class AddressTaken(CannotStart):
    """Another socket listens there."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A non-blocking listening socket that only takes what comes in by ``interface``. The taker closes it."""

    interface: str
    socket: socket.socket


class EndpointSockets:
    """Sockets on ``address:port``, each bound to one interface.

    ``required`` interfaces must exist from the start; ``optional`` ones (Docker's bridge) may come later.
    ``recheck``: seconds after which the interfaces are looked at even if the kernel said nothing.
    ``keeper``: holds them while the agent is away; what it has of an earlier agent is used again if it is
    right, and closed if not.
    """

    def __init__(
        self,
        health: HealthReports,
        *,
        required: tuple[str, ...] = ("lo", "ecs-bridge"),
        optional: tuple[str, ...] = ("docker0",),
        address: str = "169.254.170.2",
        port: int = 80,
        recheck: float = 5.0,
        keeper: SocketKeeper | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._health = health
        self._required = required
        self._optional = optional
        self._address = address
        self._port = port
        self._recheck = recheck
        self._progress = progress or Progress()
        self._served: dict[str, int] = {}
        self._keeper = keeper or NoKeeper()
        self._kept: dict[str, socket.socket] = {}

    async def listeners(self) -> AsyncIterator[Listener]:
        """Yield a socket for each interface that is there, and again when one appears or is made anew.

        Never ends. A later socket for the same interface replaces the earlier one, which hears nothing any
        more. Raise ``CannotStart`` if a required interface cannot be listened on at the first look.
        """
        with _link_events() as events, self._progress.watched("credentials endpoint") as loop:
            loop.beat(_LONGEST_LOOK)
            await self._recover()
            try:
                for listener in await self._first_look():
                    yield listener
                while True:
                    loop.beat(self._recheck)
                    await _wait(events, self._recheck)
                    loop.beat(_LONGEST_LOOK)
                    for listener in await self._look_again():
                        yield listener
            finally:
                for each in self._kept.values():
                    each.close()

    async def _recover(self) -> None:
        """Take what is right of what was kept. The rest is closed: it may be in the way of a new one."""
        for name, listening in (await self._keeper.recover()).items():
            interface, problem = self._judged(name, listening)
            if problem is None:
                self._kept[interface] = listening
                continue
            log.warning("socket.dropped", name=name, reason=problem)
            listening.close()
            await self._keeper.forget(name)

    def _judged(self, name: str, listening: socket.socket) -> tuple[str, str | None]:
        for interface in (*self._required, *self._optional):
            if name == self._name_of(interface):
                index = _index(interface)
                if index is None:
                    return interface, f"there is no interface {interface} any more"
                return interface, problem_of(listening, interface, index, self._address, self._port)
        return "", "it is for no place that is served now"

    async def _first_look(self) -> tuple[Listener, ...]:
        made: list[Listener] = []
        try:
            for name in self._required:
                index = _index(name)
                if index is None:
                    raise CannotStart(f"there is no interface {name} to listen on", is_final=False)
                made.append(await self._make(name, index))
        except CannotStart:
            for listener in made:
                listener.socket.close()
            raise
        return (*made, *await self._look_again())

    async def _look_again(self) -> tuple[Listener, ...]:
        made: list[Listener] = []
        problems: list[str] = []
        for name in (*self._required, *self._optional):
            index = _index(name)
            if index is None:
                if self._served.pop(name, None) is not None:
                    log.warning("interface.lost", interface=name)
                    await self._keeper.forget(self._name_of(name))
                if name in self._required:
                    problems.append(f"interface {name} is gone")
            elif self._served.get(name) != index:
                try:
                    made.append(await self._make(name, index))
                except CannotStart as error:
                    problems.append(f"{name}: {error}")
        self._health.report(_COMPONENT, "; ".join(problems) or None)
        return tuple(made)

    async def _make(self, name: str, index: int) -> Listener:
        kept = self._kept.pop(name, None)
        listening = kept or await self._opened(name)
        self._served[name] = index
        await self._keeper.keep(self._name_of(name), listening)
        log.info(
            "endpoint.opened",
            interface=name,
            address=self._address,
            port=self._port,
            was_kept=kept is not None,
        )
        return Listener(name, listening)

    async def _opened(self, interface: str) -> socket.socket:
        """A new socket. If the address is taken, a keeper may have one that it did not give back."""
        try:
            return bound_socket(interface, self._address, self._port)
        except AddressTaken:
            if not await self._keeper.forget(self._name_of(interface)):
                raise
        for _ in range(_RELEASES):
            with contextlib.suppress(AddressTaken):  # not yet
                return bound_socket(interface, self._address, self._port)
            await asyncio.sleep(_RELEASE_PAUSE)
        return bound_socket(interface, self._address, self._port)

    def _name_of(self, interface: str) -> str:
        return socket_name(interface, self._address, self._port)


def bound_socket(interface: str | None, address: str, port: int) -> socket.socket:
    """A non-blocking listening socket on ``address:port``, of that interface only if one is given.

    Raise ``CannotStart``; if the port is taken, it names the process that has it.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if interface is not None:
            # first the interface, then the address: the order decides what counts as taken
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise _cannot_listen(error, interface, address, port) from error
    return listening


def holder_of(port: int, *, proc: Path = Path("/proc")) -> str | None:
    """Who listens on that TCP port in this network namespace: ``name (pid 1234)``. None: not to be found."""
    try:
        inodes = {inode for _, at, inode in listeners(proc / "thread-self/net") if at == port}
        numbers = holders(proc, inodes).values()
    except OSError:
        return None
    return f"{_name_of_process(proc / str(min(numbers)))} (pid {min(numbers)})" if numbers else None


def _cannot_listen(error: OSError, interface: str | None, address: str, port: int) -> CannotStart:
    place = f"{address}:{port}" + (f" on {interface}" if interface else "")
    if error.errno == errno.EADDRINUSE:
        holder = holder_of(port) or "another process"
        if holder.startswith(f"{_KEEPER} "):
            return AddressTaken(
                f"cannot listen on {place}: port {port} is kept by {holder} for an agent with another data "
                "directory. It ends by itself after BERTH_SOCKET_KEEPER_PATIENCE; to end it now: docker rm "
                "--force $(docker ps --quiet --filter label=berth.keeper)",
                is_final=False,
            )
        return AddressTaken(
            f"cannot listen on {place}: port {port} is taken by {holder}. Stop it, or let one of the two "
            "listen elsewhere",
            is_final=False,
        )
    if error.errno in {errno.EPERM, errno.EACCES}:
        return CannotStart(f"cannot listen on {place}: permission denied; run as root", is_final=True)
    if error.errno == errno.EADDRNOTAVAIL:
        return CannotStart(
            f"cannot listen on {place}: {address} is not an address of this host", is_final=False
        )
    return CannotStart(f"cannot listen on {place}: {error.strerror}", is_final=False)


def _name_of_process(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a process"


def _index(interface: str) -> int | None:
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return None


def _link_events() -> socket.socket:
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    events.bind((0, _RTMGRP_LINK))
    return events


async def _wait(events: socket.socket, limit: float) -> None:
    """Until a link changes or the time is over. What changed does not matter: everything is looked at."""
    try:
        async with asyncio.timeout(limit):
            await asyncio.get_running_loop().sock_recv(events, 65536)
    except TimeoutError:
        return
    except OSError as error:
        # ENOBUFS: so much happened that messages were dropped
        if error.errno != errno.ENOBUFS:
            raise
