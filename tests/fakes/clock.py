"""A clock that stands still until a test moves it."""

from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class FakeClock:
    """``Clock`` for tests. Starts at noon of the first day of 2026 unless told otherwise."""

    def __init__(self, start: datetime = NOON) -> None:
        if start.tzinfo is None:
            raise ValueError(f"start {start!r} has no time zone; expected an aware time")
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """The time it was set to, aware, in UTC."""
        return self._now

    def advance(self, by: timedelta | float) -> datetime:
        """Move forward by a duration, or by that many seconds; return the new time."""
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        if step < timedelta(0):
            raise ValueError(f"by {step} is negative; time only moves forward")
        self._now += step
        return self._now

    def set(self, to: datetime) -> None:
        """Move to a time that is not earlier than the present one."""
        if to < self._now:
            raise ValueError(f"to {to} is before {self._now}; time only moves forward")
        self._now = to.astimezone(UTC)
