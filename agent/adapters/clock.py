"""The machine's clock, as the ``Clock`` port: the only place that reads the time of day."""

from datetime import UTC, datetime


class SystemClock:
    """The system's time of day. It may jump when the machine's clock is set; durations must tolerate that."""

    def now(self) -> datetime:
        """The time now, aware, in UTC."""
        return datetime.now(UTC)
