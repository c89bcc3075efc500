"""Whether the agent's own loops still get on: each says when its next sign of life may be expected.

A loop that waits for something outside, such as a Docker that hangs, is not late as long as it goes on to
decide: it says how long that wait may take, or that only an event wakes it. A loop that was given something
and does not take it, or has begun something of its own and does not end it, is late.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Late:
    """A loop that does not get on. ``overdue``: seconds since its sign of life was expected."""

    name: str
    overdue: float


class Loop:
    """The signs of life of one loop. Each call is one assignment. Only its own thread calls it."""

    __slots__ = ("_progress", "due", "name")

    def __init__(self, name: str, progress: "Progress") -> None:
        self.name = name
        self._progress = progress
        self.due: float | None = None

    def beat(self, wait: float = 0.0) -> None:
        """It has just decided something; the next sign comes in ``wait`` seconds at most."""
        self.due = self._progress.time + wait

    def rest(self) -> None:
        """It has nothing to do until it is woken."""
        self.due = None

    def wake(self) -> None:
        """It was given something to do, by somebody else: it is expected to take it now."""
        now = self._progress.time
        if self.due is None or self.due > now:
            self.due = now


class Progress:
    """Every loop that is watched. Written by the loops, read by the watchdog, which may be another thread.

    ``time``: seconds that this process was really given. It is moved on by whoever watches, tick by tick, so
    that a process that was stopped, or a machine that slept, does not find all of its loops late.
    """

    def __init__(self) -> None:
        self.time = 0.0
        self._loops: dict[Loop, None] = {}

    @contextmanager
    def watched(self, name: str) -> Iterator[Loop]:
        """Watch a new loop as long as the block lasts. Its first sign of life is expected at once."""
        loop = Loop(name, self)
        with self.watching(loop):
            yield loop

    @contextmanager
    def watching(self, loop: Loop) -> Iterator[None]:
        """Watch this loop as long as the block lasts."""
        loop.beat()
        self._loops[loop] = None
        try:
            yield
        finally:
            del self._loops[loop]

    def tick(self, elapsed: float, most: float) -> None:
        """So many seconds have passed since the last tick. More than ``most`` were not given to us."""
        self.time += min(max(elapsed, 0.0), most)

    def late(self, patience: float) -> tuple[Late, ...]:
        """The loops that are overdue for more than ``patience`` seconds, the worst first."""
        now = self.time
        found = [(loop.name, loop.due) for loop in self._now()]
        late = [Late(name, now - due) for name, due in found if due is not None and now - due > patience]
        return tuple(sorted(late, key=lambda each: (-each.overdue, each.name)))

    @property
    def names(self) -> tuple[str, ...]:
        """The loops that are watched now, in the order in which they began."""
        return tuple(loop.name for loop in self._now())

    def _now(self) -> tuple[Loop, ...]:
        while True:
            try:
                return tuple(self._loops)
            except RuntimeError:  # another thread has added or removed one in the middle of it
                continue


def sentence(late: tuple[Late, ...]) -> str:
    """Which loops do not get on, for an operator."""
    shown = ", ".join(f"{each.name} (for {each.overdue:.0f} s)" for each in late[:_SHOWN])
    more = f" and {len(late) - _SHOWN} more" if len(late) > _SHOWN else ""
    return f"no progress in {shown}{more}"


_SHOWN = 5
