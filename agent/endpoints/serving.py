"""Serve an application on sockets that come and go, and let no single caller take all of it."""

import asyncio
import contextlib
import socket
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Self, cast

import structlog
from aiohttp import web

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection and one source address may take.

    ``read_seconds``: for a whole request, from the connection's (or the last answer's) moment on.
    ``write_seconds``: how long a caller may leave an answer unread. ``connections``: open at once per source.
    """

    read_seconds: float = 5.0
    write_seconds: float = 5.0
    connections: int = 128
    shutdown_seconds: float = 2.0


AT_ONCE = 16
"""How many waiting connections are accepted before those that are open get their turn.

Hundreds may wait when the agent comes back; open all at the same time, those of one source would be too many.
"""

SPEAK_SECONDS = 0.5
"""How long a connection that was accepted may take at the end to send its first bytes, and be answered."""


class Served:
    """An application on any number of named listening sockets. An async context manager."""

    def __init__(self, application: web.Application, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handler_cancellation=True,  # nobody reads the answer any more
            keepalive_timeout=self._limits.read_seconds,
            lingering_time=0.0,
            shutdown_timeout=self._limits.shutdown_seconds,
        )
        self._open: Counter[str] = Counter()
        self._silent = _Silent()
        self._listeners: dict[str, asyncio.Server] = {}

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in tuple(self._listeners):
            self.leave(name)
        await self._heard()
        await self._runner.cleanup()

    async def listen(self, name: str, listening: socket.socket) -> None:
        """Accept on the socket, which is ours from now on; an earlier one of that name is closed."""
        server = self._runner.server
        if server is None:
            raise RuntimeError("the application is not running; use this inside 'async with'")
        self.leave(name)
        loop = asyncio.get_running_loop()
        self._listeners[name] = await loop.create_server(
            lambda: _Connection(cast(asyncio.Protocol, server()), self._open, self._silent, self._limits),
            sock=_Listening(fileno=listening.detach()),
            backlog=AT_ONCE,
        )

    def leave(self, name: str) -> None:
        """Stop accepting on that socket and close it; fine if there is none. Open connections go on."""
        listener = self._listeners.pop(name, None)
        if listener is not None:
            listener.close()

    async def _heard(self) -> None:
        """Until every connection that was accepted has begun to speak. What is spoken of is answered."""
        for _ in range(_TURNS):  # what has just been accepted becomes a connection
            await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SPEAK_SECONDS):
                await self._silent.none.wait()
        for _ in range(_TURNS):  # what has just been heard becomes a request
            await asyncio.sleep(0)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sockets that are listened on now."""
        return tuple(self._listeners)


class _Silent:
    """The connections that have not said anything yet. ``none``: set while there is none of them."""

    def __init__(self) -> None:
        self._members: set[asyncio.Protocol] = set()
        self.none = asyncio.Event()
        self.none.set()

    def add(self, connection: asyncio.Protocol) -> None:
        """It has been accepted."""
        self._members.add(connection)
        self.none.clear()

    def discard(self, connection: asyncio.Protocol) -> None:
        """It has spoken, or is gone."""
        self._members.discard(connection)
        if not self._members:
            self.none.set()


class _Listening(socket.socket):
    """A socket that listens already.

    What asyncio calls backlog is both the length of the kernel's queue and how many it accepts at once.
    """

    def listen(self, backlog: int = 0, /) -> None:
        """Leave the queue as long as it is: who waits in it is not to be dropped."""
        del backlog


class _Connection(asyncio.Protocol):
    """Stands before aiohttp's own protocol: counts connections, and aborts those that never read."""

    def __init__(
        self,
        inner: asyncio.Protocol,
        open_by_source: Counter[str],
        silent: "_Silent",
        limits: Limits,
    ) -> None:
        self._inner = inner
        self._open = open_by_source
        self._silent = silent
        self._limits = limits
        self._transport: asyncio.Transport | None = None
        self._source: str | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        self._transport = stream
        peer = stream.get_extra_info("peername")
        source = str(peer[0]) if peer else ""
        if self._open[source] >= self._limits.connections:
            log.warning("connection.refused", source=source, open=self._open[source])
            stream.write(_TOO_MANY)
            stream.close()
            return
        self._open[source] += 1
        self._source = source
        self._silent.add(self)
        self._inner.connection_made(stream)

    def data_received(self, data: bytes) -> None:
        self._silent.discard(self)
        if self._source is not None:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._source is not None else None

    def pause_writing(self) -> None:
        if self._source is None or self._transport is None:
            return
        loop = asyncio.get_running_loop()
        self._stalled = loop.call_later(self._limits.write_seconds, self._transport.abort)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._forget_stall()
        if self._source is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_stall()
        self._silent.discard(self)
        if self._source is None:
            return
        self._open[self._source] -= 1
        if self._open[self._source] == 0:
            del self._open[self._source]
        self._source = None
        self._inner.connection_lost(exc)

    def _forget_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


_TURNS = 4
_EXPLANATION = b"You have reached the maximum of open connections."
_TOO_MANY = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_EXPLANATION), _EXPLANATION)
)
