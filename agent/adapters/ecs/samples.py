"""What was measured of each container since the last message, as a short window of readings. Pure."""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import TypeVar

from agent.adapters.ecs.wire.telemetry import LinkWindow, Window
from agent.model.ids import ContainerId
from agent.model.usage import Usage

CAPACITY = 80
"""How many readings of a container are kept; the oldest goes when another comes (ecs-protocol 3.3)."""

LEAST = 2
"""How many readings a window needs (ecs-protocol 3.3)."""

MIB = 1024 * 1024
_NANOSECONDS = 1e9

T = TypeVar("T")


class Samples:
    """The readings of all containers. ``cores``: of the whole host, of which processor use is a share."""

    def __init__(self, cores: int) -> None:
        if cores < 1:
            raise ValueError(f"cores is {cores}; expected how many processors the machine has")
        self._cores = cores
        self._series: dict[ContainerId, _Series] = {}

    def add(self, container: ContainerId, usage: Usage) -> None:
        """Keep a reading. One that is not later than the last one says nothing new and is dropped."""
        self._series.setdefault(container, _Series()).add(usage)

    def keep_only(self, containers: Collection[ContainerId]) -> None:
        """Forget all other containers."""
        self._series = {each: found for each, found in self._series.items() if each in containers}

    def take(self, container: ContainerId) -> Window | None:
        """What came since the last call. None: fewer than two readings, which stay for the next call."""
        series = self._series.get(container)
        readings = None if series is None else series.take()
        return None if readings is None else self._window(*readings)

    def _window(self, before: Usage | None, readings: Sequence[Usage]) -> Window:
        joined = readings if before is None else (before, *readings)
        share = 100 / _NANOSECONDS / self._cores
        return Window(
            cpu=tuple(each * share for each in _rates(joined, lambda usage: usage.cpu)),
            # Whole numbers, as in the wire's own examples.
            memory=tuple(each // MIB for each in _known(readings, lambda usage: usage.memory)),
            storage_read=_known(readings, lambda usage: usage.storage_read),
            storage_written=_known(readings, lambda usage: usage.storage_written),
            link=_link(joined, readings),
        )


class _Series:
    """The readings of one container. The last of those that were taken is kept: time goes on from there."""

    __slots__ = ("_before", "_readings")

    def __init__(self) -> None:
        self._before: Usage | None = None
        self._readings: deque[Usage] = deque(maxlen=CAPACITY)

    def add(self, usage: Usage) -> None:
        last = self._readings[-1] if self._readings else self._before
        if last is not None and usage.at <= last.at:
            return
        if len(self._readings) == CAPACITY:
            self._before = self._readings[0]
        self._readings.append(usage)

    def take(self) -> tuple[Usage | None, tuple[Usage, ...]] | None:
        if len(self._readings) < LEAST:
            return None
        before, readings = self._before, tuple(self._readings)
        self._before = readings[-1]
        self._readings.clear()
        return before, readings


def _known(readings: Sequence[Usage], value: Callable[[Usage], T | None]) -> tuple[T, ...]:
    """All values, or none if fewer than two are known."""
    found = tuple(each for each in map(value, readings) if each is not None)
    return found if len(found) >= LEAST else ()


def _rates(readings: Sequence[Usage], counter: Callable[[Usage], int | None]) -> tuple[float, ...]:
    """Growth per second between two readings each. A counter that fell was started anew: no rate."""
    found = []
    for earlier, later in pairwise(readings):
        before, after = counter(earlier), counter(later)
        if before is not None and after is not None and after >= before:
            found.append((after - before) / (later.at - earlier.at))
    return tuple(found)


def _link(joined: Sequence[Usage], readings: Sequence[Usage]) -> LinkWindow | None:
    links = _known(readings, lambda usage: usage.link)
    if not links:
        return None
    return LinkWindow(
        readings=links,
        rx_rates=_rates(joined, lambda usage: usage.link.rx_bytes if usage.link else None),
        tx_rates=_rates(joined, lambda usage: usage.link.tx_bytes if usage.link else None),
    )
