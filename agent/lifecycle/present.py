"""What time it is for a task: it never goes back a little, and follows a clock that was set back for good."""

from dataclasses import replace
from datetime import datetime, timedelta

from agent.model.state import Container, InFlight, Sandbox, TaskState, Trouble

TOLERANCE = timedelta(minutes=1)
"""How much older than the last event one may be. If it is older still, the clock was set back."""


def at(task: TaskState, moment: datetime) -> TaskState:
    """The task at the time of an event.

    Events may come a little out of order, and then time stands still. If the machine's clock was set back,
    the moments that are compared with it are set back too: a try that was a second away must not wait until
    the clock has caught up. What was told to the backend stays as it was told.
    """
    if moment >= task.now - TOLERANCE:
        return replace(task, now=max(task.now, moment))
    back = task.now - moment
    sandbox = task.sandbox
    return replace(
        task,
        now=moment,
        sandbox=replace(
            sandbox,
            since=_earlier(sandbox.since, back),
            in_flight=_flight(sandbox, back),
            trouble=_trouble(sandbox, back),
        ),
        containers=tuple(
            replace(
                each,
                since=_earlier(each.since, back),
                in_flight=_flight(each, back),
                trouble=_trouble(each, back),
            )
            for each in task.containers
        ),
    )


def _earlier(moment: datetime | None, back: timedelta) -> datetime | None:
    return None if moment is None else moment - back


def _flight(entity: Sandbox | Container, back: timedelta) -> InFlight | None:
    flight = entity.in_flight
    return flight and replace(flight, since=flight.since - back, until=flight.until - back)


def _trouble(entity: Sandbox | Container, back: timedelta) -> Trouble | None:
    trouble = entity.trouble
    return trouble and replace(trouble, since=trouble.since - back, retry_at=trouble.retry_at - back)
