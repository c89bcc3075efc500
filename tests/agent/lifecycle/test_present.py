"""Clocks are set: a little disorder changes nothing, and a clock that was set back holds no task up."""

from datetime import timedelta

from agent.lifecycle.plan import next_wake
from agent.lifecycle.present import TOLERANCE
from agent.lifecycle.table import STOP_SLACK
from agent.model.events import ContainerObserved, StepFailed, StopRequested, TimePassed
from agent.model.state import Policy, Reason
from agent.model.status import ContainerStatus
from agent.model.steps import StepName
from tests.agent.lifecycle.test_decisions import after, running, step_in_flight
from tests.builders import NOON, a_task

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


def test_an_event_that_comes_a_little_late_does_not_turn_the_time_back() -> None:
    task = after(a_task(), TimePassed(NOON + TOLERANCE))
    assert after(task, TimePassed(NOON)).now == NOON + TOLERANCE


def test_what_was_to_be_tried_again_in_a_second_is_tried_then_also_after_the_clock_was_set_back() -> None:
    task = after(running(a_task()), StopRequested(NOON, ""))
    stop = step_in_flight(task, StepName.STOP_CONTAINER, "app")
    task = after(task, StepFailed(NOON, stop, Reason("CannotStopContainerError", "no")))
    assert next_wake(task) == NOON + SECOND
    task = after(task, TimePassed(NOON - DAY))
    assert next_wake(task) == NOON - DAY + SECOND
    task = after(task, TimePassed(NOON - DAY + SECOND))
    assert step_in_flight(task, StepName.STOP_CONTAINER, "app")


def test_a_step_in_flight_keeps_its_limit_when_the_clock_is_set_back() -> None:
    task = after(running(a_task()), StopRequested(NOON, ""))
    task = after(task, TimePassed(NOON - DAY))
    flight = task.container("app").in_flight
    assert flight is not None
    assert (flight.since, flight.until) == (NOON - DAY, NOON - DAY + Policy().stop_grace + STOP_SLACK)


def test_a_container_that_vanishes_after_the_clock_was_set_back_is_noticed() -> None:
    task = after(running(a_task()), TimePassed(NOON - DAY))
    later = NOON - DAY + SECOND
    task = after(task, ContainerObserved(later, "app", later, None))
    assert task.container("app").status is ContainerStatus.STOPPED
    assert str(task.container("app").reason).startswith("ContainerVanishedError: ")
