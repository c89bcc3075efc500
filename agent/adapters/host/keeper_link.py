"""One connection to the keeper program (``pause/keeper.c`` says what it understands)."""

import asyncio
import os
import socket
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Self

import structlog

from agent.adapters.host.peers import peer_of

log = structlog.get_logger()

ANSWER_SECONDS = 2.0
"""The program answers within microseconds; a machine that swaps may take longer."""

LONGEST_PACKET = 256
SOCKET = "socket"
"""The keeper's door, in its directory."""


class KeeperLost(Exception):
    """The keeper is not there, does not answer, or answers something else than it was asked."""


class KeeperLink:
    """Asks one thing at a time. ``on_news`` is called when the keeper has ended or speaks unasked."""

    def __init__(self, connected: socket.socket, on_news: Callable[[], None]) -> None:
        self._socket = connected
        self._on_news = on_news
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connected, self._news)

    @classmethod
    def open(cls, path: Path, on_news: Callable[[], None]) -> Self:
        """Connect to the keeper that listens there. Raise ``KeeperLost``."""
        connected = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        try:
            _connect(connected, path)
            _require_own_user(connected)
        except OSError as error:
            connected.close()
            raise KeeperLost(f"no keeper at {path}: {error.strerror}") from error
        except KeeperLost:
            connected.close()
            raise
        return cls(connected, on_news)

    async def version(self) -> str:
        """What it was started as. Raise ``KeeperLost``, as everything here."""
        await self._ask(b"H")
        return (await self._answer(b"H")).decode(errors="replace")

    async def keep(self, name: str, listening: socket.socket) -> None:
        """Have it keep a socket."""
        await self._ask(b"K" + name.encode(), listening.fileno())
        await self._answer(b"K")

    async def forget(self, name: str) -> None:
        """Have it close a socket; fine if there is none of that name."""
        await self._ask(b"F" + name.encode())
        await self._answer(b"F")

    async def recover(self) -> dict[str, socket.socket]:
        """All that it keeps, and goes on to keep."""
        await self._ask(b"R")
        found: dict[str, socket.socket] = {}
        try:
            while True:
                packet, descriptors = await self._packet()
                for descriptor in descriptors:
                    _hold(found, packet[1:].decode(errors="replace"), descriptor)
                if packet[:1] == b"R":
                    return found
                if packet[:1] != b"S" or len(descriptors) != 1:
                    raise KeeperLost(f"the keeper answered {packet[:1]!r}; expected a socket")
        except BaseException:
            for each in found.values():
                each.close()
            raise

    async def end(self) -> None:
        """Have it end. What it kept is closed by the kernel."""
        await self._ask(b"E")
        await self._answer(b"E")

    def close(self) -> None:
        """Hang up. The keeper begins to count the time that nobody is connected."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    # -- inside --------------------------------------------------------------------------------

    def _news(self) -> None:
        self._loop.remove_reader(self._socket)  # else the loop would call again and again
        self._on_news()

    async def _ask(self, request: bytes, *descriptors: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
        try:
            self._socket.sendmsg([request], rights)
        except OSError as error:
            raise KeeperLost(f"the keeper cannot be asked: {error.strerror}") from error

    async def _answer(self, expected: bytes) -> bytes:
        packet, descriptors = await self._packet()
        for descriptor in descriptors:
            os.close(descriptor)
        if packet[:1] != expected:
            raise KeeperLost(f"the keeper answered {packet[:1]!r}; expected {expected!r}")
        return packet[1:]

    async def _packet(self) -> tuple[bytes, list[int]]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._readable()
            packet, descriptors, _, _ = socket.recv_fds(
                self._socket, LONGEST_PACKET, 4, socket.MSG_CMSG_CLOEXEC
            )
        except TimeoutError as error:
            raise KeeperLost(f"the keeper has not answered within {ANSWER_SECONDS:g} s") from error
        except OSError as error:
            raise KeeperLost(f"the keeper cannot be heard: {error.strerror}") from error
        if not packet:
            for descriptor in descriptors:
                os.close(descriptor)
            raise KeeperLost("the keeper has hung up")
        return packet, descriptors

    async def _readable(self) -> None:
        heard: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._socket, _note, heard)
        try:
            await heard
        finally:
            if self._socket.fileno() >= 0:  # hung up meanwhile: there is no news any more
                self._loop.add_reader(self._socket, self._news)


def _note(heard: asyncio.Future[None]) -> None:
    if not heard.done():
        heard.set_result(None)


def end_keeper(path: Path) -> None:
    """End a keeper that is not chosen any more: its sockets would be in the way. Fine if there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connected:
        connected.settimeout(ANSWER_SECONDS)
        try:
            _connect(connected, path)
            _require_own_user(connected)
            connected.send(b"E")
            connected.recv(LONGEST_PACKET)
        except (OSError, KeeperLost) as error:
            log.info("keeper.missed", reason=str(error))
        else:
            log.info("keeper.ended", path=str(path))


def _connect(connected: socket.socket, path: Path) -> None:
    # By the directory's descriptor: the whole path may be longer than the 107 bytes of an address.
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connected.connect(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


def _require_own_user(connected: socket.socket) -> None:
    """Only who is this process's user or root may have its sockets."""
    user = peer_of(connected).user
    if user not in (0, os.geteuid()):
        raise KeeperLost(f"who listens there is user {user}, expected {os.geteuid()}")


def _hold(found: dict[str, socket.socket], name: str, descriptor: int) -> None:
    earlier = found.pop(name, None)
    if earlier is not None:
        earlier.close()
    try:
        recovered = socket.socket(fileno=descriptor)
    except OSError as error:
        os.close(descriptor)
        log.warning("descriptor.dropped", name=name, reason=f"it is no socket: {error.strerror}")
        return
    recovered.setblocking(False)
    found[name] = recovered
