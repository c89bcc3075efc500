"""What every test may use: a loop whose time jumps. Nothing domain-specific."""

import asyncio
import selectors
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop that never sleeps: when nothing is ready, its time jumps to the next timer.

    For code that waits for hours and does no input or output of its own. Threads are not waited for.
    """

    def __init__(self) -> None:
        super().__init__(_ImpatientSelector(self))
        self.jumped = 0.0

    def time(self) -> float:
        """Seconds; only jumps move it."""
        return self.jumped


class _ImpatientSelector(selectors.SelectSelector):
    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everything waits for ever: a timer or an event is missing")
        if not ready and timeout:
            self._loop.jumped += timeout
        return ready


class LoopClock:
    """``Clock`` that shows the time of a jumping loop."""

    START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)

    def __init__(self, loop: JumpingLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        """Noon of the first day of 2026, plus what the loop has jumped."""
        return self.START + timedelta(seconds=self._loop.jumped)


class JumpingTime:
    """Runs one coroutine to its end on a loop whose time jumps."""

    def __init__(self) -> None:
        self.loop = JumpingLoop()
        self.clock = LoopClock(self.loop)

    def run(self, story: Any) -> Any:
        """The coroutine's result."""
        return self.loop.run_until_complete(story)


@pytest.fixture
def jumping() -> Iterator[JumpingTime]:
    """Hours in milliseconds: ``jumping.run(coroutine)``, with ``jumping.clock`` as the clock."""
    time = JumpingTime()
    try:
        yield time
    finally:
        time.loop.run_until_complete(time.loop.shutdown_asyncgens())
        time.loop.close()
