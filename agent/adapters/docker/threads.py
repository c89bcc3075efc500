"""Carries blocking calls: bounded pools of threads, and turns that keep calls for one name in order.

The pools of the standard library join their threads when Python ends, so that one hung call would keep the
agent from ending; these threads are daemons. A thread that has had nothing to do for a while ends.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Generic, TypeVar

T = TypeVar("T")

IDLE_SECONDS = 30.0


class QueueFull(Exception):
    """The deadline passed before a thread had time for the call. It never began."""


class DeadlinePassed(Exception):
    """The call has begun and has not ended in time. It goes on, and nobody knows how it will end."""


class Job(Generic[T]):
    """One call in a thread. ``ended`` is done when it has ended, was skipped, or will never run."""

    def __init__(self, function: Callable[[], T], loop: asyncio.AbstractEventLoop) -> None:
        self._function = function
        self._loop = loop
        self._lock = threading.Lock()
        self._is_abandoned = False
        self._result: list[T] = []
        self._error: BaseException | None = None
        self.began_at: float | None = None
        self.ended: asyncio.Future[None] = loop.create_future()

    def run(self) -> None:
        """Call the function, in a thread of a pool. Its error is kept, not raised."""
        with self._lock:
            if self._is_abandoned:
                return
            self.began_at = time.monotonic()
        try:
            self._result.append(self._function())
        except BaseException as error:  # noqa: BLE001 # it belongs to the one who waits, in another thread
            self._error = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._end)

    def abandon(self) -> bool:
        """Skip it if it has not begun. False: it has begun, and a call that has begun cannot be stopped."""
        with self._lock:
            if self.began_at is not None:
                return False
            self._is_abandoned = True
        self._end()
        return True

    async def wait(self, limit: float) -> T:
        """Its result. ``limit`` in seconds, for the queue and for the run, each.

        Raise what the function raised, ``QueueFull`` or ``DeadlinePassed``.
        """
        try:
            until = time.monotonic() + limit
            while not self.ended.done():
                await asyncio.wait({self.ended}, timeout=max(0.0, until - time.monotonic()))
                if self.ended.done():
                    break
                if self.abandon():
                    raise QueueFull
                until = (self.began_at or 0.0) + limit
                if time.monotonic() >= until:
                    raise DeadlinePassed
        except BaseException:
            self.abandon()
            raise
        if self._error is not None:
            raise self._error
        return self._result[0]

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class ThreadPool:
    """At most ``size`` threads, started when needed, that take jobs first come first served."""

    def __init__(self, name: str, size: int) -> None:
        if size < 1:
            raise ValueError(f"size of pool {name} is {size}; expected at least 1")
        self._name = name
        self._size = size
        self._jobs: deque[Callable[[], None]] = deque()
        self._wakeup = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._is_closed = False

    def submit(self, function: Callable[[], T]) -> Job[T]:
        """Queue the call. To be called in the event loop's thread."""
        job = Job(function, asyncio.get_running_loop())
        with self._wakeup:
            if self._is_closed:
                raise RuntimeError(f"pool {self._name} is closed")
            self._jobs.append(job.run)
            if self._idle >= len(self._jobs):
                self._wakeup.notify()
            elif self._threads < self._size:
                self._threads += 1
                threading.Thread(target=self._work, name=f"docker-{self._name}", daemon=True).start()
        return job

    def close(self) -> None:
        """Let the threads end when they have nothing left to do. Does not wait for them."""
        with self._wakeup:
            self._is_closed = True
            self._wakeup.notify_all()

    def _work(self) -> None:
        while (run := self._next()) is not None:
            run()

    def _next(self) -> Callable[[], None] | None:
        with self._wakeup:
            while not self._jobs:
                if self._is_closed:
                    self._threads -= 1
                    return None
                self._idle += 1
                in_time = self._wakeup.wait(IDLE_SECONDS)
                self._idle -= 1
                if not in_time and not self._jobs:
                    self._threads -= 1
                    return None
            return self._jobs.popleft()


class Turn:
    """The right to make calls for one name. It ends when all jobs begun in it have ended."""

    def __init__(self) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open: set[asyncio.Future[None]] = set()

    def note(self, job: Job[T]) -> None:
        """Remember a job that the next turn must wait for."""
        self._open.add(job.ended)

    def leave(self, *, after: asyncio.Future[None] | None) -> None:
        """End the turn once its jobs, and the turn ``after`` which it comes, are over."""
        if after is not None:
            self._open.add(after)
        self._open = {future for future in self._open if not future.done()}
        for future in tuple(self._open):
            future.add_done_callback(self._one_ended)
        if not self._open and not self.over.done():
            self.over.set_result(None)

    def _one_ended(self, future: asyncio.Future[None]) -> None:
        self._open.discard(future)
        if not self._open and not self.over.done():
            self.over.set_result(None)


class Turns:
    """Calls for the same name come one after the other, also when the earlier caller has gone."""

    def __init__(self) -> None:
        self._last: dict[str, Turn] = {}

    def is_busy(self, name: str) -> bool:
        """Whether a call for the name is under way."""
        return name in self._last

    @asynccontextmanager
    async def take(self, name: str, limit: float) -> AsyncIterator[Turn]:
        """Wait for all earlier turns of the name, ``limit`` seconds at most. Raise ``QueueFull``."""
        before = self._last.get(name)
        turn = Turn()
        self._last[name] = turn
        turn.over.add_done_callback(lambda _: self._forget(name, turn))
        try:
            if before is not None and not before.over.done():
                await asyncio.wait({before.over}, timeout=limit)
                if not before.over.done():
                    raise QueueFull
            yield turn
        finally:
            turn.leave(after=before.over if before is not None else None)

    def _forget(self, name: str, turn: Turn) -> None:
        if self._last.get(name) is turn:
            del self._last[name]
