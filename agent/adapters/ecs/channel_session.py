"""One live connection of a channel: what is read, sent and timed from its first second to its last."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import structlog

from agent.adapters.ecs.channel_refusals import shown
from agent.adapters.ecs.channel_socket import Broken, Closed, Frame, Socket
from agent.adapters.ecs.channel_times import ChannelTimes
from agent.model.errors import AgentError

log = structlog.get_logger()

VALID_CODES = frozenset({None, 1000, 1001, 1006, 1011})
"""Ends after which the reconnect is immediate (ecs-protocol 2.3). None: no close frame came."""

EXPIRED = "ConnectionExpired: Reconnect to continue"
"""The text of our close when a connection has reached its age (ecs-protocol 2.3)."""

_NORMAL = 1000
_SHORT_CLOSE = 1.0  # seconds
_AHEAD = 8  # messages read ahead of the conversation; with the largest message this bounds the memory


class ChannelClosed(ConnectionError):
    """The connection has ended; what was to be sent is lost. The channel makes another."""


@dataclass(frozen=True, slots=True)
class End:
    """Why a connection ended. ``is_valid``: as the protocol means it to end."""

    why: str
    is_valid: bool
    by_peer: bool


class Conversation:
    """A live connection, for whoever speaks on it.

    ``url``: what was connected to, as signed.
    """

    def __init__(self, session: "Session", url: str) -> None:
        self._session = session
        self.url = url

    def texts(self) -> AsyncIterator[str]:
        """Yield each message as it came; ends with the connection, after what had arrived before."""
        return self._session.texts()

    async def send(self, text: str | bytes) -> None:
        """Send one text frame. Raise ``ChannelClosed``, a ``ConnectionError``, if the connection ended."""
        await self._session.send(text.encode() if isinstance(text, str) else text)

    def active(self) -> None:
        """A message was understood: the peer is alive. Restarts the inactivity and the read limit."""
        self._session.active()


class Session:
    """Runs one socket until something ends it.

    ``on_active`` is called for each understood message, ``on_settled`` once when the session has lived long
    enough for the back-off to be forgotten.
    """

    def __init__(
        self,
        name: str,
        socket: Socket,
        times: ChannelTimes,
        random: Random,
        *,
        on_active: Callable[[], None],
        on_settled: Callable[[], None],
    ) -> None:
        self._log = log.bind(channel=name)
        self._socket = socket
        self._times = times
        self._random = random
        self._on_active = on_active
        self._on_settled = on_settled
        self._loop = asyncio.get_running_loop()
        self._end: End | None = None
        self._last_words = ""
        self._is_closed = False
        self._over = asyncio.Event()
        self._arrived: deque[str] = deque()
        self._moved = asyncio.Condition()
        self._sending = asyncio.Lock()
        self._silence: asyncio.TimerHandle | None = None

    async def run(self, talk: Callable[[], Awaitable[None]]) -> End:
        """Read, and run ``talk``, until the connection ends, for whatever reason; then close the socket."""
        timers = (
            self._loop.call_later(self._times.max_age.draw(self._random), self._expire),
            self._loop.call_later(self._times.settled.draw(self._random), self._on_settled),
        )
        self._await_next()
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(), name="channel-reader")
                talker = group.create_task(self._talk(talk), name="channel-conversation")
                await self._over.wait()
                self._stop_timers(timers)
                await self._part(talker)
                reader.cancel()
                talker.cancel()
        finally:
            self._stop_timers(timers)
            self._finish("it was broken off", is_valid=False, by_peer=False)
            if not self._is_closed:
                # the agent stops, or this code has a bug: the peer is told, but not waited for
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SHORT_CLOSE):
                        await self._close()
        assert self._end is not None  # noqa: S101 - _finish leaves one
        return self._end

    def disconnect(self, why: str) -> None:
        """End the connection from our side."""
        self._finish(why, is_valid=False, by_peer=False)

    async def texts(self) -> AsyncIterator[str]:
        """Yield what arrives, in order."""
        while True:
            async with self._moved:
                await self._moved.wait_for(lambda: self._arrived or self._over.is_set())
                if not self._arrived:
                    return
                text = self._arrived.popleft()
                self._moved.notify_all()
            yield text

    async def send(self, payload: bytes) -> None:
        """Send one frame after those before it, all within the write limit. Raise ``ChannelClosed``."""
        try:
            async with asyncio.timeout(self._times.write), self._sending:
                if self._end is not None:
                    raise ChannelClosed(f"the connection has ended: {self._end.why}")
                await self._socket.send(payload)
        except TimeoutError:
            why = f"the peer has read nothing for {self._times.write:g} s"
            self._finish(why, is_valid=False, by_peer=False)
            raise ChannelClosed(why) from None
        except ChannelClosed:
            raise
        except OSError as error:
            self._finish("the connection was lost", is_valid=True, by_peer=True)
            raise ChannelClosed(str(error)) from error

    def active(self) -> None:
        """A message was understood."""
        if self._end is None:
            self._await_next()
        self._on_active()

    async def _read(self) -> None:
        while self._end is None:
            match await self._socket.receive():
                case Frame() as frame:
                    await self._take(frame)
                case Closed(code=code, reason=reason):
                    why = "the peer closed without a word" if code is None else f"the peer closed with {code}"
                    why = f"{why}: {reason}" if reason else why
                    self._finish(why, is_valid=code in VALID_CODES, by_peer=True)
                case Broken(reason=reason):
                    self._log.warning("message.unreadable", problem=reason)
                    self._finish(reason, is_valid=False, by_peer=True)

    async def _take(self, frame: Frame) -> None:
        if not frame.is_text:
            self._log.warning("frame.misdeclared", expected="text", found="binary", size=len(frame.text))
        async with self._moved:
            # a conversation that is behind stops the reading, and in the end the peer's sending
            await self._moved.wait_for(lambda: len(self._arrived) < _AHEAD or self._over.is_set())
            self._arrived.append(frame.text)
            self._moved.notify_all()

    async def _talk(self, talk: Callable[[], Awaitable[None]]) -> None:
        try:
            await talk()
        except Exception as error:  # noqa: BLE001 - looked at, and logged, in the next line
            if self._end is None or _has_bug(error):
                self._blame(error)
            return
        self._finish("the conversation is over", is_valid=True, by_peer=False)

    def _blame(self, error: Exception) -> None:
        """The conversation failed. A bug in it costs this connection and nothing else."""
        if _has_bug(error):
            self._log.exception("conversation.crashed")
            why = "the conversation crashed; the log has the trace"
        else:
            why = f"the conversation failed: {shown(str(error))}"
        self._finish(why, is_valid=False, by_peer=False)

    async def _part(self, talker: "asyncio.Task[None]") -> None:
        """Close the socket, and let the conversation end by itself, which it gets a moment for."""
        async with self._moved:
            self._moved.notify_all()
        await self._close()
        await asyncio.wait((talker,), timeout=self._times.linger)

    async def _close(self) -> None:
        await self._socket.close(_NORMAL, self._last_words)
        self._is_closed = True

    def _await_next(self) -> None:
        """Wait for the next understood message: for the drawn time, at most for the read limit."""
        if self._silence is not None:
            self._silence.cancel()
        patience = min(self._times.inactivity.draw(self._random), self._times.read)
        self._silence = self._loop.call_later(patience, self._miss, patience)

    def _miss(self, patience: float) -> None:
        why = f"nothing was heard for {patience:.0f} s"
        self._finish(why, is_valid=False, by_peer=False)

    def _expire(self) -> None:
        why = "the connection has reached its age"
        self._finish(why, is_valid=True, by_peer=False, last_words=EXPIRED)

    def _finish(self, why: str, *, is_valid: bool, by_peer: bool, last_words: str = "") -> None:
        """Note the first reason; what follows from it is no other."""
        if self._end is None:
            self._end = End(why, is_valid, by_peer)
            self._last_words = last_words
            self._over.set()

    def _stop_timers(self, timers: tuple[asyncio.TimerHandle, ...]) -> None:
        for timer in (*timers, self._silence):
            if timer is not None:
                timer.cancel()


def _has_bug(error: Exception) -> bool:
    """Whether something in it is neither an ended connection nor an error of ours with a text."""
    if isinstance(error, ExceptionGroup):
        return error.split((AgentError, ConnectionError))[1] is not None
    return not isinstance(error, AgentError | ConnectionError)
