"""Ends this process when its loops do not get on, so that whoever supervises it starts it again.

It runs in a thread of its own: a blocked event loop could not notice that it is blocked. Tasks are not
touched; the next agent goes on with them.
"""

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import structlog

from agent import logs
from agent.model.progress import Late, Progress, sentence

log = structlog.get_logger()

STALLED = 1
"""The exit code: a new start helps (ecs-protocol 0.2)."""

TICK = 1.0
"""Seconds between two looks."""

MOST_PER_TICK = 1.5
"""Seconds that one tick counts at most. A process that was stopped, or starved, was not given the rest."""

LAST_WORDS_LIMIT = 5.0
"""Seconds for the log. What blocks the agent may be the very log."""

_LONGEST_TRACE = 60_000
_DEEPEST = 50


class Watchdog:
    """Moves the time of ``progress`` on. ``limit``: seconds without progress that end the process.

    ``limit`` 0: it only moves the time on. ``end`` ends the process at once, whatever other threads do.
    """

    def __init__(
        self,
        progress: Progress,
        limit: float,
        *,
        end: Callable[[int], object] = os._exit,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._limit = limit
        self._end = end
        self._now = now
        self._looked_at = now()
        self._stop = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch in a thread as long as the block lasts. In the event loop's thread."""
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._run, args=(loop,), name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()

    def look(self) -> tuple[Late, ...]:
        """One tick. The loops for which the process must end; none most of the time."""
        before, self._looked_at = self._looked_at, self._now()
        self._progress.tick(self._looked_at - before, MOST_PER_TICK)
        return self._progress.late(self._limit) if self._limit else ()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while not self._stop.wait(TICK):
                late = self.look()
                if late:
                    self._give_up(late, loop)
                    return
        except Exception:
            # An agent that nobody watches looks well for ever: time stands still, and no loop is ever late.
            log.exception("watchdog.failed", exit_code=STALLED)
            self._end(STALLED)

    def _give_up(self, late: tuple[Late, ...], loop: asyncio.AbstractEventLoop) -> None:
        words = threading.Thread(target=_say, args=(late, loop), name="last-words", daemon=True)
        words.start()
        words.join(LAST_WORDS_LIMIT)
        self._end(STALLED)


def dump_stacks(loop: asyncio.AbstractEventLoop) -> None:
    """Log where every thread is, this one excepted, and what every asyncio task of ``loop`` waits for."""
    log.critical("stacks.dumped", threads=_stacks()[-_LONGEST_TRACE:], tasks=_tasks(loop)[-_LONGEST_TRACE:])


def _say(late: tuple[Late, ...], loop: asyncio.AbstractEventLoop) -> None:
    log.critical("agent.stalled", reason=sentence(late), exit_code=STALLED)
    dump_stacks(loop)
    sys.stderr.flush()
    logs.close()


def _stacks() -> str:
    """Where every thread is, this one excepted."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  # there is no other way to see them
        if ident != threading.get_ident():
            stack = "".join(traceback.format_stack(frame))
            parts.append(f"thread {names.get(ident, ident)}:\n{stack}")
    return "\n".join(parts)


def _tasks(loop: asyncio.AbstractEventLoop) -> str:
    """Where every asyncio task waits, the innermost function last."""
    parts = []
    for task in asyncio.all_tasks(loop):
        stack = "".join(traceback.format_list(_awaits(task)))
        parts.append(f"task {task.get_name()}:\n{stack}")
    return "\n".join(parts)


def _awaits(task: "asyncio.Task[object]") -> traceback.StackSummary:
    frames: list[tuple[FrameType, int]] = []
    waits: Any = task.get_coro()
    while waits is not None and len(frames) < _DEEPEST:
        # coroutine, asynchronous generator, generator: each has names of its own
        kind = next((kind for kind in ("cr", "ag", "gi") if hasattr(waits, f"{kind}_frame")), None)
        frame = getattr(waits, f"{kind}_frame", None)
        if frame is None:
            break
        frames.append((frame, frame.f_lineno))
        waits = getattr(waits, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    return traceback.StackSummary.extract(iter(frames))
