"""How fast one caller may ask: a bucket of tokens per source, far above what any sane program needs."""

from dataclasses import dataclass

_MANY = 4096


@dataclass(frozen=True, slots=True)
class Pace:
    """``rate`` requests per second for ever, ``burst`` at once."""

    rate: float = 500.0
    burst: float = 1000.0


class Quiet:
    """Lets each thing be said once per ``seconds``, so that one caller cannot flood the log."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._said: dict[tuple[str, str], float] = {}

    def may_say(self, caller: str, what: str, now: float) -> bool:
        """Whether this has not been said of the caller lately."""
        said = self._said.get((caller, what))
        if said is not None and now - said < self._seconds:
            return False
        if len(self._said) >= _MANY:
            self._said = {key: at for key, at in self._said.items() if now - at < self._seconds}
        self._said[caller, what] = now
        return True


class Buckets:
    """One bucket per source. Times are seconds on any clock that only moves forward."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, source: str, now: float) -> bool:
        """Whether the source may have one more request now."""
        level, since = self._levels.get(source, (self._pace.burst, now))
        level = min(self._pace.burst, level + (now - since) * self._pace.rate)
        is_allowed = level >= 1.0
        self._levels[source] = (level - 1.0 if is_allowed else level, now)
        if len(self._levels) > _MANY:
            self._drop_full(now)
        return is_allowed

    def _drop_full(self, now: float) -> None:
        # a full bucket says nothing that a missing one does not
        refill = self._pace.burst / self._pace.rate
        self._levels = {source: held for source, held in self._levels.items() if now - held[1] < refill}
