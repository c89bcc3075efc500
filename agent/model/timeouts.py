"""How a time-out is told to customers, who know the sentence from the ECS agent."""

from datetime import timedelta

_SECONDS_PER_MINUTE = 60
_SECONDS_PER_HOUR = 3600


def timed_out(transition: str, waited: timedelta) -> str:
    """ECS's sentence for a step that took too long (ecs-protocol 4.9)."""
    return f"Could not transition to {transition}; timed out after waiting {go_duration(waited)}"


def go_duration(duration: timedelta) -> str:
    """A duration as Go prints it: ``4m0s``, ``1h0m0s``, ``1.5s``."""
    total = duration.total_seconds()
    whole = int(total)
    hours, rest = divmod(whole, _SECONDS_PER_HOUR)
    minutes, _ = divmod(rest, _SECONDS_PER_MINUTE)
    seconds = f"{round(total - hours * _SECONDS_PER_HOUR - minutes * _SECONDS_PER_MINUTE, 6):g}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds
