"""What both websockets of the stand-in have in common: handshake, connections, sending, and ways to go wrong."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import parse_qsl

from aiohttp import WSMessage, WSMsgType, web

from tests.fakes.ecs.api import answer_badly
from tests.fakes.ecs.faults import Faults
from tests.fakes.ecs.records import Handshake, Journal, Message
from tests.fakes.ecs.serving import LoopbackServer
from tests.fakes.ecs.shapes import Record, problems
from tests.fakes.ecs.signatures import SignatureRefused, Verifier
from tests.fakes.ecs.tasks import Json
from tests.fakes.ecs.truth import ApiError, Truth

_CLOSE_S = 2.0
_LARGEST = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A frame to be sent, with what the journal says of it."""

    frame: str | bytes
    type: str
    body: Any


@dataclass(eq=False, slots=True)
class Connection:
    """One accepted websocket. ``host``, ``path`` and ``query`` are those of its handshake, as sent."""

    number: int
    handshake: Handshake
    host: str
    path: str
    query: str
    socket: web.WebSocketResponse
    transport: asyncio.Transport | None
    outbox: asyncio.Queue[Outgoing] = field(default_factory=asyncio.Queue)
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    is_open: asyncio.Event = field(default_factory=asyncio.Event)


class Conversation(Protocol):
    """What one kind of websocket does."""

    def greet(self, connection: Connection) -> None:
        """A connection was accepted."""

    def hear(self, connection: Connection, frame: str | bytes) -> None:
        """A frame has come."""

    def beat(self, connection: Connection) -> None:
        """It is time for a heartbeat."""


def envelope(kind: str, body: Any) -> str:
    """The text of a message (2.2)."""
    return json.dumps({"type": kind, "message": body})


class SocketSide:
    """One channel. The synchronous methods are safe from every thread.

    ``copies``: how often every message is sent. ``heartbeat_s``: seconds between heartbeats; None: only one
    after each connect.
    """

    def __init__(
        self,
        name: str,
        query_shape: Record,
        *,
        cluster_key: str,
        instance_key: str,
        truth: Truth,
        verifier: Verifier,
        faults: Faults,
        now: Callable[[], datetime],
    ) -> None:
        self.name = name
        self.copies = 1
        self.heartbeat_s: float | None = 20.0
        self._query_shape = query_shape
        self._keys = (cluster_key, instance_key)
        self._truth = truth
        self._journal: Journal = truth.journal
        self._verifier = verifier
        self._faults = faults
        self._now = now
        self._server: LoopbackServer | None = None
        self._conversation: Conversation | None = None
        self._connections: list[Connection] = []
        self._accepted = 0
        self._held: list[Outgoing] | None = None

    def join(self, server: LoopbackServer, conversation: Conversation) -> None:
        """Tell it who sends for it and who listens."""
        self._server, self._conversation = server, conversation

    # -- for tests -----------------------------------------------------------------------------

    @property
    def connection(self) -> Connection | None:
        """The newest connection that is open."""
        with self._journal.lock:
            return self._connections[-1] if self._connections else None

    def post(self, kind: str, body: Any, connection: Connection | None = None) -> bool:
        """Send a message on that connection or the newest. False when there is none, or messages are held."""
        return self.post_frame(Outgoing(envelope(kind, body), kind, body), connection)

    def post_frame(self, outgoing: Outgoing, connection: Connection | None = None) -> bool:
        """As ``post`` for any text or bytes. Does not wait until it is sent."""
        with self._journal.lock:
            if self._held is not None:
                self._held.append(outgoing)
                return False
            to = connection or self.connection
            if to is None or self._server is None:
                return False
            for _ in range(self.copies):
                self._server.soon(lambda: to.outbox.put_nowait(outgoing))
            return True

    def hold(self) -> None:
        """Keep what is to be sent from now on, heartbeats too."""
        with self._journal.lock:
            self._held = self._held or []

    def release(self, *, is_reversed: bool = False) -> int:
        """Send what was kept, backwards if asked; how many messages."""
        with self._journal.lock:
            kept, self._held = self._held or [], None
            for outgoing in reversed(kept) if is_reversed else kept:
                self.post_frame(outgoing)
            return len(kept)

    def freeze(self) -> None:
        """Half-open: open connections stay, but nothing is read or written on them, pings neither."""
        self._on_each(_freeze)

    def thaw(self) -> None:
        """Go on reading and writing."""
        self._on_each(_thaw)

    def close(self, code: int = 1000, text: str = "") -> None:
        """Close the open connections with that code. Does not wait for the other side."""
        assert self._server is not None
        for connection in self._open():
            asyncio.run_coroutine_threadsafe(_close(connection, code, text.encode()), self._server.loop)

    # -- on the server's thread ----------------------------------------------------------------

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response to a handshake: the websocket, when it has ended, or a refusal (2.1)."""
        path, _, raw_query = request.raw_path.partition("?")
        pairs = parse_qsl(raw_query, keep_blank_values=True)
        shown = Handshake(time.monotonic(), self.name, path, dict(pairs), raw_query, dict(request.headers))
        self._journal.handshake(shown)
        fault = self._faults.take(self.name)
        if fault is not None:
            shown.fault = fault.name
            await asyncio.sleep(fault.delay_s)
        if fault is not None and not fault.only_delays:
            shown.status = fault.status
            if fault.code is not None:
                return self._refused(shown, ApiError(fault.code, fault.message, fault.status or 400))
            return await answer_badly(request, fault, self._now())
        try:
            self._verifier.check(request.method, path, raw_query, request.headers, b"")
            with self._journal.lock:
                self._look_at_query(pairs, shown.query)
        except SignatureRefused as refusal:
            self._journal.refusal(f"{self.name} handshake: {refusal.code}: {refusal}")
            return self._refused(shown, ApiError("AccessDeniedException", str(refusal), 403))
        except ApiError as error:
            return self._refused(shown, error)
        return await self._serve(request, shown, path, raw_query)

    def _look_at_query(self, pairs: list[tuple[str, str]], query: Json) -> None:
        names = [name for name, _ in pairs]
        if names != sorted(set(names)):
            self._journal.violation(f"{self.name} handshake: keys {names}, expected in order, each once")
        found = list(problems(query, self._query_shape))
        for problem in found:
            self._journal.violation(f"{self.name} handshake: {problem}")
        if found:
            raise ApiError("BadRequestException", found[0])
        cluster, instance = (query[key] for key in self._keys)
        if not self._truth.is_this_cluster(cluster):
            raise ApiError("InvalidClusterException", f"cluster {cluster} is not valid")
        record = self._truth.instances.get(instance)
        if record is None:
            raise ApiError("InvalidInstanceException", f"container instance {instance} is not valid")
        if record.status == "INACTIVE":
            raise ApiError("InactiveInstanceException", f"container instance {instance} is inactive")

    def _refused(self, shown: Handshake, error: ApiError) -> web.Response:
        with self._journal.lock:
            shown.status = error.status
            self._journal.touch()
        text = envelope(error.code, {"message": error.message})
        return web.Response(status=error.status, text=text, content_type="application/json")

    async def _serve(
        self, request: web.BaseRequest, shown: Handshake, path: str, query: str
    ) -> web.StreamResponse:
        socket = web.WebSocketResponse(timeout=_CLOSE_S, max_msg_size=_LARGEST)
        connection = Connection(
            0, shown, request.headers.get("Host", ""), path, query, socket, request.transport
        )
        connection.flowing.set()
        with self._journal.lock:
            self._accepted += 1
            connection.number = shown.connection = self._accepted
            shown.status = 101
            self._connections.append(connection)
            assert self._conversation is not None
            self._conversation.greet(connection)
            self._journal.touch()
        try:
            # Counted before, since a client that has its 101 may already ask the test to do something to it.
            await socket.prepare(request)
            connection.is_open.set()
            async with asyncio.TaskGroup() as group:
                others = [
                    group.create_task(self._write(connection)),
                    group.create_task(self._beat(connection)),
                ]
                await self._read(connection)
                for other in others:
                    other.cancel()
        finally:
            with self._journal.lock:
                self._connections.remove(connection)
                shown.closed_at = time.monotonic()
                shown.close_code = socket.close_code
                self._journal.touch()
        return socket

    async def _read(self, connection: Connection) -> None:
        assert self._conversation is not None
        while True:
            message: WSMessage = await connection.socket.receive()
            await connection.flowing.wait()
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                if message.type is WSMsgType.CLOSE:
                    connection.handshake.close_text = message.extra or ""
                return
            with self._journal.lock:
                self._conversation.hear(connection, message.data)

    async def _write(self, connection: Connection) -> None:
        while True:
            outgoing = await connection.outbox.get()
            await connection.flowing.wait()
            self._note(connection, "out", outgoing.type, outgoing.body, outgoing.frame)
            # Gone meanwhile: that is what the next connection is for.
            with contextlib.suppress(ConnectionError):
                if isinstance(outgoing.frame, str):
                    await connection.socket.send_str(outgoing.frame)
                else:
                    await connection.socket.send_bytes(outgoing.frame)

    async def _beat(self, connection: Connection) -> None:
        while self.heartbeat_s is not None:
            await asyncio.sleep(self.heartbeat_s)
            assert self._conversation is not None
            self._conversation.beat(connection)

    def note_in(self, connection: Connection, kind: str, body: Any, frame: str | bytes) -> None:
        """Write what the agent said into the journal."""
        self._note(connection, "in", kind, body, frame)

    def _note(self, connection: Connection, way: str, kind: str, body: Any, frame: str | bytes) -> None:
        size = len(frame.encode()) if isinstance(frame, str) else len(frame)
        is_binary = isinstance(frame, bytes)
        self._journal.message(
            Message(time.monotonic(), self.name, way, kind, body, connection.number, size, is_binary)
        )

    def _open(self) -> list[Connection]:
        with self._journal.lock:
            return list(self._connections)

    def _on_each(self, work: Callable[[Connection], None]) -> None:
        assert self._server is not None

        async def done() -> None:
            for connection in self._open():
                work(connection)

        self._server.run(done())


def opened(frame: str | bytes) -> tuple[str, Any]:
    """Type and message of an envelope. Raise ``ValueError`` when it is none."""
    document = json.loads(frame)
    if not isinstance(document, dict) or set(document) != {"type", "message"}:
        raise ValueError("expected an object with type and message")
    return str(document["type"]), document["message"]


async def _close(connection: Connection, code: int, text: bytes) -> None:
    await connection.is_open.wait()
    await connection.socket.close(code=code, message=text)


def _freeze(connection: Connection) -> None:
    connection.flowing.clear()
    if connection.transport is not None:
        connection.transport.pause_reading()


def _thaw(connection: Connection) -> None:
    connection.flowing.set()
    if connection.transport is not None:
        connection.transport.resume_reading()
