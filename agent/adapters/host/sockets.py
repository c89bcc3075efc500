"""One listening socket per allowed interface, so that nobody else can even connect to the endpoint."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent.model.errors import CannotStart
from agent.ports.health import HealthReports

log = structlog.get_logger()

_COMPONENT = "endpoint sockets"
_RTMGRP_LINK = 1
_BACKLOG = 512


@dataclass(frozen=True, slots=True)
class Listener:
    """A non-blocking listening socket that only takes what comes in by ``interface``. The taker closes it."""

    interface: str
    socket: socket.socket


class EndpointSockets:
    """Sockets on ``address:port``, each bound to one interface.

    ``required`` interfaces must exist from the start; ``optional`` ones (Docker's bridge) may come later.
    ``recheck``: seconds after which the interfaces are looked at even if the kernel said nothing.
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
    ) -> None:
        self._health = health
        self._required = required
        self._optional = optional
        self._address = address
        self._port = port
        self._recheck = recheck
        self._served: dict[str, int] = {}

    async def listeners(self) -> AsyncIterator[Listener]:
        """Yield a socket for each interface that is there, and again when one appears or is made anew.

        Never ends. A later socket for the same interface replaces the earlier one, which hears nothing any
        more. Raise ``CannotStart`` if a required interface cannot be listened on at the first look.
        """
        with _link_events() as events:
            for listener in self._first_look():
                yield listener
            while True:
                await _wait(events, self._recheck)
                for listener in self._look_again():
                    yield listener

    def _first_look(self) -> tuple[Listener, ...]:
        made: list[Listener] = []
        try:
            for name in self._required:
                index = _index(name)
                if index is None:
                    raise CannotStart(f"there is no interface {name} to listen on", is_final=False)
                made.append(self._make(name, index))
        except CannotStart:
            for listener in made:
                listener.socket.close()
            raise
        return (*made, *self._look_again())

    def _look_again(self) -> tuple[Listener, ...]:
        made: list[Listener] = []
        problems: list[str] = []
        for name in (*self._required, *self._optional):
            index = _index(name)
            if index is None:
                if self._served.pop(name, None) is not None:
                    log.warning("interface.lost", interface=name)
                if name in self._required:
                    problems.append(f"interface {name} is gone")
            elif self._served.get(name) != index:
                try:
                    made.append(self._make(name, index))
                except CannotStart as error:
                    problems.append(f"{name}: {error}")
        self._health.report(_COMPONENT, "; ".join(problems) or None)
        return tuple(made)

    def _make(self, name: str, index: int) -> Listener:
        listening = bound_socket(name, self._address, self._port)
        self._served[name] = index
        log.info("endpoint.opened", interface=name, address=self._address, port=self._port)
        return Listener(name, listening)


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
    inodes = _listening_inodes(port, proc)
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)):
        if not wanted.isdisjoint(_open_files(process)):
            return f"{_name_of(process)} (pid {process.name})"
    return None


def _cannot_listen(error: OSError, interface: str | None, address: str, port: int) -> CannotStart:
    place = f"{address}:{port}" + (f" on {interface}" if interface else "")
    if error.errno == errno.EADDRINUSE:
        holder = holder_of(port) or "another process"
        return CannotStart(
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


def _listening_inodes(port: int, proc: Path) -> frozenset[str]:
    inodes = set()
    for table in ("net/tcp", "net/tcp6"):
        try:
            lines = (proc / "thread-self" / table).read_text().splitlines()[1:]
        except OSError:
            continue  # no IPv6 in this kernel
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return frozenset(inodes)


def _open_files(process: Path) -> Iterator[str]:
    try:
        for link in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                yield str(link.readlink())
    except OSError:
        return  # it has ended, or it is not ours to look at


def _name_of(process: Path) -> str:
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
