"""Keeps one websocket to the control plane for ever: dials, waits, exchanges it, and says how it is."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from random import Random, SystemRandom
from typing import Protocol

import aiohttp
import structlog

from agent.adapters.ecs.channel_refusals import HandshakeRefused, shown
from agent.adapters.ecs.channel_session import ChannelClosed, Conversation, End, Session
from agent.adapters.ecs.channel_socket import CannotDial, Dialer, Socket, WebsocketDialer
from agent.adapters.ecs.channel_times import CONTROL_TIMES, TELEMETRY_TIMES, BackOff, ChannelTimes
from agent.model.channels import ChannelState, ChannelStatus
from agent.model.errors import AgentError
from agent.model.progress import Loop, Progress
from agent.ports.clock import Clock
from agent.ports.health import HealthReports

__all__ = [
    "CONTROL_TIMES",
    "TELEMETRY_TIMES",
    "Channel",
    "ChannelClosed",
    "ChannelTimes",
    "Conversation",
    "HandshakeSigner",
]

log = structlog.get_logger()

_SCHEMES = {"https": "wss", "http": "ws", "wss": "wss", "ws": "ws"}


class HandshakeSigner(Protocol):
    """Signs the upgrade, and learns from refusals."""

    async def handshake(self, url: str) -> Mapping[str, str]:
        """The headers for a ``GET`` of the ``ws``/``wss`` URL without a body. Raise an ``AgentError``."""

    def note_server_time(self, date_header: str | None) -> bool:
        """The ``Date`` header of a refusal that may be about time. Whether the signing time has changed."""

    def forget_keys(self) -> None:
        """The keys were refused: find new ones before the next handshake."""


class Channel:
    """One websocket of the control plane. ``run`` it once.

    ``url``: asked before each connect; https or wss, with the whole query. ``converse`` runs beside the
    timers for the life of each connection; it should return when ``Conversation.texts`` ends, and is
    cancelled a few seconds later. ``on_inactive`` is called each time that the cluster says that this
    instance is inactive. Errors of ``url``, ``signer`` and ``converse`` cost an attempt or a connection,
    never the channel.
    """

    def __init__(
        self,
        name: str,
        *,
        url: Callable[[], Awaitable[str]],
        signer: HandshakeSigner,
        http: aiohttp.ClientSession,
        converse: Callable[[Conversation], Awaitable[None]],
        on_inactive: Callable[[], Awaitable[None] | None],
        times: ChannelTimes,
        clock: Clock,
        health: HealthReports,
        dialer: Dialer | None = None,
        random: Random | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.name = name
        self._log = log.bind(channel=name)
        self._url = url
        self._signer = signer
        self._dialer = dialer or WebsocketDialer(http, times)
        self._converse = converse
        self._on_inactive = on_inactive
        self._times = times
        self._clock = clock
        self._health = health
        self._random = random or SystemRandom()
        self._back_off = BackOff(times.back_off, self._random)
        self._progress = progress or Progress()
        self._loop = Loop(f"{name} channel", self._progress)
        self._session: Session | None = None
        self._connects = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._is_reported = False
        self._status = ChannelStatus(name, ChannelState.DISCONNECTED, clock.now(), None, "not connected yet")

    def status(self) -> ChannelStatus:
        """How it is now. Never waits."""
        return self._status

    def disconnect(self, why: str) -> None:
        """End the present connection, if there is one; the channel connects again after its back-off."""
        if self._session is not None:
            self._session.disconnect(why)

    async def run(self) -> None:
        """Connect, converse and reconnect until cancelled."""
        self._start_alarm()
        try:
            with self._progress.watching(self._loop):
                while True:
                    self._loop.beat(self._times.longest_attempt)
                    wait = await self._attempt()
                    self._loop.beat(wait)
                    await asyncio.sleep(wait)
        finally:
            self._stop_alarm()

    async def _attempt(self) -> float:
        """Connect once, and stay as long as it lasts. Return the seconds to wait before the next time."""
        try:
            url, socket = await self._connect()
        except HandshakeRefused as refusal:
            return await self._take_refusal(refusal)
        except (AgentError, OSError) as error:
            return self._fail(shown(str(error)) or type(error).__name__)
        except Exception:
            # A bug must not end the channel; the agent would never hear of its tasks again.
            log.exception("channel.crashed", channel=self.name)
            return self._fail("connecting crashed; the log has the trace")
        try:
            return await self._live(url, socket)
        except Exception:
            log.exception("channel.crashed", channel=self.name)
            return self._fail("the connection crashed; the log has the trace")

    async def _connect(self) -> tuple[str, Socket]:
        try:
            async with asyncio.timeout(self._times.prepare):
                url = _websocket_url(await self._url())
                headers = await self._signer.handshake(url)
        except TimeoutError as error:
            raise CannotDial(
                f"the endpoint and the keys could not be had in {self._times.prepare:g} s"
            ) from error
        return url, await self._dialer.dial(url, headers)

    async def _live(self, url: str, socket: Socket) -> float:
        self._connects += 1
        loop = asyncio.get_running_loop()
        began = loop.time()
        session = self._session = Session(
            self.name,
            socket,
            self._times,
            self._random,
            on_active=self._note_message,
            on_settled=self._back_off.reset,
        )
        self._log.info("channel.connected", url=shown(url), number=self._connects)
        self._change(ChannelState.CONNECTED, None)
        self._loop.beat(self._times.longest_silence)
        # Not well yet: a peer that takes every connection and closes it at once is out of order.
        well = loop.call_later(self._times.short, self._be_well)
        conversation = Conversation(session, url)
        try:
            end = await session.run(lambda: self._converse(conversation))
        finally:
            well.cancel()
            self._session = None
        return self._after(end, loop.time() - began)

    def _after(self, end: End, lived: float) -> float:
        """How long to wait after a connection that had been made.

        The protocol says to reconnect immediately after a valid close. A peer that takes connections only
        to close them would then be asked thousands of times a second, so a short session counts as a failure.
        And a peer that closes closes many agents at once, so they come back spread over a second.
        """
        if end.is_valid and lived >= self._times.short:
            self._back_off.reset()
            wait = self._times.at_once.draw(self._random) if end.by_peer else 0.0
        else:
            wait = self._back_off.next()
        note = self._log.info if end.is_valid else self._log.warning
        note("channel.closed", why=end.why, lived=round(lived, 1), retry_in=round(wait, 3))
        self._lose(end.why)
        return wait

    async def _take_refusal(self, refusal: HandshakeRefused) -> float:
        # A wrong clock looks like wrong keys; once it is known, the same keys may be right.
        if refusal.is_about_keys and not self._signer.note_server_time(refusal.date):
            self._signer.forget_keys()
        wait = self._times.inactive if refusal.is_inactive else self._back_off.next()
        self._log.warning(
            "channel.refused", status=refusal.status, problem=str(refusal), retry_in=round(wait, 3)
        )
        self._lose(str(refusal), ChannelState.INACTIVE if refusal.is_inactive else ChannelState.DISCONNECTED)
        if refusal.is_inactive or refusal.is_final:
            self._report()
        if refusal.is_inactive:
            await self._tell_inactive()
        return wait

    async def _tell_inactive(self) -> None:
        try:
            async with asyncio.timeout(self._times.telling):
                answer = self._on_inactive()
                if inspect.isawaitable(answer):
                    await answer
        except Exception:
            # as for the conversation: a bug elsewhere must not end the channel
            log.exception("channel.crashed", channel=self.name)

    def _fail(self, problem: str) -> float:
        wait = self._back_off.next()
        self._log.warning("channel.failed", problem=problem, retry_in=round(wait, 3))
        self._lose(problem)
        return wait

    # -- what is said about it --------------------------------------------------------------------

    def _change(self, state: ChannelState, problem: str | None) -> None:
        since = self._status.since if self._status.state is state else self._clock.now()
        self._status = replace(self._status, state=state, since=since, problem=problem)

    def _note_message(self) -> None:
        self._loop.beat(self._times.longest_silence)
        self._status = replace(self._status, last_message_at=self._clock.now())

    def _lose(self, problem: str, state: ChannelState = ChannelState.DISCONNECTED) -> None:
        self._change(state, problem)
        if self._is_reported:
            self._report()  # for another reason now, perhaps
        else:
            self._start_alarm()

    def _be_well(self) -> None:
        self._stop_alarm()
        self._is_reported = False
        self._health.report(self._component, None)

    def _start_alarm(self) -> None:
        """From now on the channel may be without a lasting connection for a while, but not for ever."""
        if self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(self._times.tolerated, self._report)

    def _stop_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _report(self) -> None:
        self._stop_alarm()
        self._is_reported = True
        self._health.report(self._component, self._status.problem or "connections do not last")

    @property
    def _component(self) -> str:
        return f"{self.name} channel"


def _websocket_url(url: str) -> str:
    """The URL with the scheme of a websocket; nothing else is touched, since it is signed as it stands."""
    scheme, mark, rest = url.partition("://")
    if not mark or scheme.lower() not in _SCHEMES or not rest:
        raise CannotDial(f"endpoint {shown(url)!r} is no URL for a websocket; expected wss:// or https://")
    return f"{_SCHEMES[scheme.lower()]}://{rest}"
