"""The agent's word to its supervisor: ready, how it is, alive as long as its loops get on, stopping."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from agent.adapters.host.notify import ALIVE, READY, STOPPING, Notifier, extend_timeout, status
from agent.endpoints.health import IMPAIRED, ComponentHealth, HealthBoard
from agent.model.channels import ChannelState, ChannelStatus
from agent.model.progress import Loop, Progress, sentence

log = structlog.get_logger()

COMPONENT = "progress"
"""The name under which ``/health`` says which loop does not get on; ``berth healthcheck`` looks for it."""

EVENT_LOOP = "event loop"

PATIENCE = 30.0
"""Seconds that a loop may be overdue before it is a health problem, and signs of life are withheld."""

BEAT_EVERY = 1.0
EXTEND_BY = 90.0
"""Seconds. A start that still gets on is given so much more time, again and again."""


class Pulse:
    """Runs in the event loop, and so is itself the sign that this one gets on.

    ``watchdog``: what the supervisor expects; a sign is sent twice in that time. None: none is sent.
    """

    def __init__(
        self, progress: Progress, notifier: Notifier, health: HealthBoard, watchdog: timedelta | None
    ) -> None:
        self._progress = progress
        self._notifier = notifier
        self._health = health
        self._every = watchdog.total_seconds() / 2 if watchdog is not None else None
        self._describe: Callable[[], str] | None = None
        self._is_ready = False
        self._is_stopping = False
        self._said = ""
        self._alive_at = 0.0
        self._was_late = False

    def ready(self, describe: Callable[[], str]) -> None:
        """The start is over: tell it now. From now on the status is what ``describe`` says."""
        self._is_ready, self._describe = True, describe
        self._say(READY, status(describe()))

    def stopping(self) -> None:
        """The end has begun: tell it now."""
        self._is_stopping = True
        self._say(STOPPING, status("stopping; tasks go on"))

    async def run(self) -> None:
        """Beat until cancelled."""
        loop = asyncio.get_running_loop()
        pause = BEAT_EVERY if self._every is None else min(BEAT_EVERY, self._every)
        with self._progress.watched(EVENT_LOOP) as beating:
            while True:
                self.beat(beating, loop.time(), pause)
                await asyncio.sleep(pause)

    def beat(self, beating: Loop, now: float, pause: float) -> None:
        """One beat at the loop's time ``now``; the next comes in ``pause`` seconds."""
        beating.beat(pause)
        late = self._progress.late(PATIENCE)
        if late or self._was_late:
            self._health.report(COMPONENT, sentence(late) if late else None)
        self._was_late = bool(late)
        if not self._notifier.is_wanted:
            return  # to count a thousand tasks every second for nobody is a waste
        lines = []
        if not late and not self._is_ready and not self._is_stopping:
            lines.append(extend_timeout(EXTEND_BY))
        if not late and self._every is not None and now - self._alive_at >= self._every - pause / 2:
            self._alive_at = now
            lines.append(ALIVE)
        line = status(self._text())
        if line != self._said and not self._is_stopping:
            lines.append(line)
        if lines:
            self._say(*lines)

    def _text(self) -> str:
        if self._describe is not None:
            return self._describe()
        impaired = [each for each in self._health.snapshot() if each.status == IMPAIRED]
        return f"starting{_wrong(impaired)}"

    def _say(self, *lines: str) -> None:
        self._said = next((line for line in lines if line.startswith("STATUS=")), self._said)
        self._notifier.send("\n".join(lines))


def describe(
    running: int,
    known: int,
    connecting: str,
    channels: Sequence[ChannelStatus],
    components: Sequence[ComponentHealth],
) -> str:
    """The agent in one line: its tasks, its connections, what is wrong.

    ``running``: tasks that run. ``known``: all that are not gone yet. ``connecting``: what is done to have
    connections; empty: nothing, or they are there.
    """
    parts = [f"{running} of {known} task{'' if known == 1 else 's'} running"]
    parts += [connecting] if connecting else []
    parts += [_connection(each) for each in channels]
    impaired = [each for each in components if each.status == IMPAIRED]
    return "; ".join(parts) + _wrong(impaired)


def _connection(channel: ChannelStatus) -> str:
    if channel.state is ChannelState.CONNECTED:
        return f"{channel.name} channel connected"
    return f"{channel.name} channel {channel.state.value}" + (
        f": {channel.problem}" if channel.problem else ""
    )


def _wrong(impaired: Sequence[ComponentHealth]) -> str:
    return "".join(f"; {each.component}: {each.reason}" for each in impaired)
