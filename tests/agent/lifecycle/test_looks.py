"""A look at the runtime may come at any moment, also between a step's effect and the news of its end."""

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.lifecycle.explain import explain
from agent.lifecycle.plan import next_wake
from agent.model.events import (
    ContainerObserved,
    InterfaceAppeared,
    StepFailed,
    StepSucceeded,
    StopRequested,
    TimePassed,
)
from agent.model.ids import ContainerId
from agent.model.observation import PAUSE_NAME
from agent.model.spec import Condition
from agent.model.state import Reason, TaskState
from agent.model.status import ContainerStatus, Goal
from agent.model.steps import StepName
from tests.agent.lifecycle.test_decisions import after, running, step_in_flight, succeed
from tests.builders import NOON, a_container, a_snapshot, a_task

LATER = NOON + timedelta(seconds=1)
DOWN = Reason("DockerStateError", "the container runtime does not answer")


def connected() -> TaskState:
    """The network is there, the image is being pulled."""
    task = after(after(a_task(), TimePassed(NOON)), InterfaceAppeared(NOON))
    return succeed(succeed(task, StepName.START_PAUSE), StepName.ATTACH_NETWORK)


def starting() -> TaskState:
    """The app container is being started."""
    task = succeed(connected(), StepName.PULL_IMAGE, "app")
    return succeed(task, StepName.CREATE_CONTAINER, "app")


def test_a_start_that_a_look_has_seen_already_ends_all_the_same_and_can_be_stopped() -> None:
    task = starting()
    start = step_in_flight(task, StepName.START_CONTAINER, "app")
    task = after(task, ContainerObserved(NOON, "app", NOON, a_snapshot(task, "app")))
    assert task.container("app").status is ContainerStatus.RUNNING
    task = after(task, StepSucceeded(NOON, start, a_snapshot(task, "app")))
    assert task.container("app").in_flight is None
    task = after(task, StopRequested(NOON, ""))
    assert step_in_flight(task, StepName.STOP_CONTAINER, "app")


def test_a_creation_that_a_look_has_seen_already_ends_all_the_same_and_is_started() -> None:
    task = succeed(connected(), StepName.PULL_IMAGE, "app")
    creation = step_in_flight(task, StepName.CREATE_CONTAINER, "app")
    made = a_snapshot(task, "app", running=False, started=False)
    task = after(task, ContainerObserved(NOON, "app", NOON, made))
    assert task.container("app").status is ContainerStatus.CREATED
    task = after(task, StepSucceeded(NOON, creation, made))
    assert step_in_flight(task, StepName.START_CONTAINER, "app")


@pytest.mark.parametrize("is_unavailable", [True, False])
def test_a_start_that_a_look_has_seen_done_has_not_failed_whatever_it_says(is_unavailable: bool) -> None:
    task = starting()
    start = step_in_flight(task, StepName.START_CONTAINER, "app")
    task = after(task, ContainerObserved(NOON, "app", NOON, a_snapshot(task, "app")))
    task = after(task, StepFailed(NOON, start, DOWN, is_unavailable=is_unavailable))
    app = task.container("app")
    assert (app.status, app.in_flight, app.trouble) == (ContainerStatus.RUNNING, None, None)
    assert task.goal is Goal.RUN


def test_a_step_in_flight_is_explained_by_its_own_rule_also_when_a_look_has_seen_its_effect() -> None:
    task = starting()
    task = after(task, ContainerObserved(NOON, "app", NOON, a_snapshot(task, "app")))
    [wait] = explain(task, NOON)
    assert wait.waits_for == "start_container"
    assert wait.then.endswith("the container is stopped")


def test_a_pause_container_that_an_old_look_found_not_yet_started_has_not_ended() -> None:
    task = running(a_task())
    before = a_snapshot(task, PAUSE_NAME, running=False, started=False)
    task = after(task, ContainerObserved(LATER, PAUSE_NAME, NOON, before))
    assert task.goal is Goal.RUN
    task = after(task, ContainerObserved(LATER, PAUSE_NAME, LATER, before))
    assert task.goal is Goal.STOP


@pytest.mark.parametrize("name", ["app", PAUSE_NAME])
def test_another_container_with_the_labels_of_ours_says_nothing_of_ours(name: str) -> None:
    task = running(a_task())
    copy = replace(
        a_snapshot(task, name, running=False, exit_code=1),
        docker_name="wonderful_curie",
        container_id=ContainerId("f" * 64),
    )
    assert after(task, ContainerObserved(LATER, name, LATER, copy)) == replace(task, now=LATER)


def test_a_stop_does_not_wait_for_the_next_try_of_a_start() -> None:
    task = starting()
    for _ in range(7):
        start = step_in_flight(task, StepName.START_CONTAINER, "app")
        task = after(task, StepFailed(task.now, start, DOWN, is_unavailable=True))
        if task.container("app").trouble.failures < 7:
            task = after(task, TimePassed(task.container("app").trouble.retry_at))
    assert task.container("app").trouble.retry_at == task.now + timedelta(minutes=1)
    task = after(task, StopRequested(task.now, ""))
    assert step_in_flight(task, StepName.STOP_CONTAINER, "app")


def test_a_start_that_fails_after_the_stop_was_asked_for_does_not_delay_it() -> None:
    task = starting()
    start = step_in_flight(task, StepName.START_CONTAINER, "app")
    task = after(task, StopRequested(NOON, ""))
    task = after(task, StepFailed(NOON, start, DOWN, is_unavailable=True))
    assert step_in_flight(task, StepName.STOP_CONTAINER, "app")


def test_a_network_that_fails_after_the_stop_was_asked_for_does_not_delay_it() -> None:
    task = succeed(after(after(a_task(), TimePassed(NOON)), InterfaceAppeared(NOON)), StepName.START_PAUSE)
    attach = step_in_flight(task, StepName.ATTACH_NETWORK)
    task = after(task, StopRequested(NOON, ""))
    task = after(task, StepFailed(NOON, attach, Reason("ContainerNetworkingError", "no")))
    assert step_in_flight(task, StepName.DETACH_NETWORK)


def test_a_task_that_was_asked_to_stop_says_when_its_first_essential_container_ended() -> None:
    task = after(running(a_task(a_container("a"), a_container("b"))), StopRequested(NOON, ""))
    assert task.execution_stopped_at is None
    stop = step_in_flight(task, StepName.STOP_CONTAINER, "b")
    ended = a_snapshot(task, "b", running=False, exit_code=0, at=LATER)
    task = after(task, StepSucceeded(LATER, stop, ended))
    assert task.execution_stopped_at == LATER
    task = succeed(task, StepName.STOP_CONTAINER, "a")
    assert task.execution_stopped_at == LATER


def test_the_shortest_of_several_start_timeouts_is_woken_up_for() -> None:
    conditions = {"slow": Condition.HEALTHY, "quick": Condition.HEALTHY}
    slow, quick = a_container("slow", start_timeout=600), a_container("quick", start_timeout=30)
    task = running(a_task(slow, quick, a_container("app", after=conditions)))
    assert next_wake(task) == NOON + timedelta(seconds=30)
    [wait] = [each for each in explain(task, NOON) if each.subject == "app"]
    assert wait.until == NOON + timedelta(seconds=30)
    task = after(task, TimePassed(NOON + timedelta(seconds=30)))
    assert "dependency [quick] for target [app] has timed out" in str(task.reason)


def test_a_mark_of_the_oom_killer_that_comes_after_the_end_is_still_the_reason() -> None:
    task = running(a_task(a_container("web"), a_container("other")))
    killed = a_snapshot(task, "web", running=False, exit_code=137)
    task = after(task, ContainerObserved(NOON, "web", NOON, killed))
    assert task.container("web").reason is None
    marked = replace(killed, was_oom_killed=True)
    task = after(task, ContainerObserved(LATER, "web", LATER, marked))
    assert str(task.container("web").reason) == "OutOfMemoryError: Container killed due to memory usage"


def test_a_container_that_had_a_reason_or_ended_by_itself_is_not_marked_late() -> None:
    task = running(a_task(a_container("web"), a_container("other")))
    ended = a_snapshot(task, "web", running=False, exit_code=0)
    task = after(task, ContainerObserved(NOON, "web", NOON, ended))
    again = after(task, ContainerObserved(NOON, "web", NOON, replace(ended, was_oom_killed=True)))
    assert again.container("web").reason is None
    broken = a_snapshot(task, "other", running=False, exit_code=137, error="boom")
    task = after(task, ContainerObserved(NOON, "other", NOON, broken))
    task = after(task, ContainerObserved(NOON, "other", NOON, replace(broken, was_oom_killed=True)))
    assert str(task.container("other").reason) == "DockerStateError: boom"
