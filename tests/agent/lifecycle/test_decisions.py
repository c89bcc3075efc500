"""The sentences that users would say about starting, waiting, stopping and failing."""

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.lifecycle.derive import is_steady, report, task_status
from agent.lifecycle.explain import explain
from agent.lifecycle.gates import NotYet, dependencies_met
from agent.lifecycle.images import may_use_cached, must_look_first, must_pull
from agent.lifecycle.names import docker_name, pause_name
from agent.lifecycle.plan import launched, next_wake, plan
from agent.lifecycle.reduce import backoff, reduce
from agent.lifecycle.roster import diff
from agent.model.desired import DesiredTasks, WantedTask
from agent.model.events import (
    ContainerObserved,
    Event,
    InterfaceAppeared,
    Recovered,
    StepFailed,
    StepSucceeded,
    StopRequested,
    TimePassed,
)
from agent.model.observation import PAUSE_NAME, PulledImage
from agent.model.spec import Condition, PullBehavior
from agent.model.state import Attachment, Policy, Reason, TaskState
from agent.model.status import ContainerStatus, Goal, Health, SandboxStatus, TaskStatus
from agent.model.steps import Step, StepName
from tests.builders import NOON, a_container, a_snapshot, a_spec, a_task, task_arn


def step_in_flight(task: TaskState, name: StepName, container: str | None = None) -> Step:
    entities = (task.sandbox, *task.containers)
    flights = [entity.in_flight.step for entity in entities if entity.in_flight]
    return next(step for step in flights if step.name is name and step.container == container)


def after(task: TaskState, event: Event) -> TaskState:
    decided = reduce(task, event)
    return launched(decided, plan(decided))


def succeed(task: TaskState, name: StepName, container: str | None = None, **learned: object) -> TaskState:
    step = step_in_flight(task, name, container)
    what: object = None
    if name is StepName.START_PAUSE:
        what = a_snapshot(task, PAUSE_NAME)
    elif name is StepName.ATTACH_NETWORK:
        what = Attachment("169.254.172.2")
    elif name is StepName.PULL_IMAGE:
        what = PulledImage("sha256:1", "sha256:2")
    elif name is StepName.CREATE_CONTAINER:
        what = a_snapshot(task, container or "", running=False, started=False)
    elif name is StepName.START_CONTAINER:
        what = a_snapshot(task, container or "", **learned)  # type: ignore[arg-type]
    elif name is StepName.STOP_CONTAINER:
        what = a_snapshot(task, container or "", running=False, exit_code=0)
    return after(task, StepSucceeded(NOON, step, what))  # type: ignore[arg-type]


def running(task: TaskState) -> TaskState:
    """Walk the task up until everything that can run runs."""
    task = after(after(task, TimePassed(NOON)), InterfaceAppeared(NOON))
    while flights := [each.in_flight.step for each in (task.sandbox, *task.containers) if each.in_flight]:
        task = succeed(task, flights[0].name, flights[0].container)
    return task


def test_a_task_runs_when_its_essential_containers_run() -> None:
    task = running(a_task(a_container("web"), a_container("log", essential=False)))
    assert task_status(task) is TaskStatus.RUNNING
    assert is_steady(task)
    assert explain(task, NOON) == ()


def test_an_essential_container_that_exits_stops_the_task_and_leaves_the_reason_to_the_control_plane() -> (
    None
):
    task = running(a_task(a_container("web"), a_container("db")))
    gone = a_snapshot(task, "web", running=False, exit_code=3)
    task = after(task, ContainerObserved(NOON, "web", NOON, gone))
    assert task.goal is Goal.STOP
    assert task.container("web").exit_code == 3
    assert task.reason is None
    assert task.execution_stopped_at == NOON
    assert step_in_flight(task, StepName.STOP_CONTAINER, "db")


def test_a_non_essential_container_may_exit() -> None:
    task = running(a_task(a_container("web"), a_container("job", essential=False)))
    gone = a_snapshot(task, "job", running=False, exit_code=1)
    task = after(task, ContainerObserved(NOON, "job", NOON, gone))
    assert task.goal is Goal.RUN
    assert task_status(task) is TaskStatus.RUNNING


def test_a_stop_during_the_pull_gives_the_pull_up_and_never_creates_the_container() -> None:
    task = after(a_task(), TimePassed(NOON))
    pull = step_in_flight(task, StepName.PULL_IMAGE, "app")
    task = after(task, StopRequested(NOON, "scaled in"))
    assert task.container("app").status is ContainerStatus.STOPPED
    task = after(task, StepSucceeded(NOON, pull, PulledImage("sha256:1")))
    assert task.container("app").status is ContainerStatus.STOPPED
    assert str(task.reason) == "scaled in"


@pytest.mark.parametrize("was_fetched", [True, False])
def test_only_what_was_fetched_from_a_registry_has_times_of_a_pull(was_fetched: bool) -> None:
    task = after(a_task(), TimePassed(NOON))
    pull = step_in_flight(task, StepName.PULL_IMAGE, "app")
    task = after(task, StepSucceeded(NOON, pull, PulledImage("sha256:1", was_fetched=was_fetched)))
    times = report(task).pull_started_at, report(task).pull_stopped_at
    assert times == ((NOON, NOON) if was_fetched else (None, None))


def test_a_stop_during_a_start_waits_for_the_start_to_end() -> None:
    task = after(after(a_task(), TimePassed(NOON)), InterfaceAppeared(NOON))
    for name in (StepName.START_PAUSE, StepName.ATTACH_NETWORK):
        task = succeed(task, name)
    for name in (StepName.PULL_IMAGE, StepName.CREATE_CONTAINER):
        task = succeed(task, name, "app")
    start = step_in_flight(task, StepName.START_CONTAINER, "app")
    task = after(task, StopRequested(NOON, ""))
    assert step_in_flight(task, StepName.START_CONTAINER, "app") == start
    task = after(task, StepSucceeded(NOON, start, a_snapshot(task, "app")))
    assert step_in_flight(task, StepName.STOP_CONTAINER, "app")


def test_the_network_stays_until_the_last_container_is_gone() -> None:
    task = after(running(a_task(a_container("a"), a_container("b"))), StopRequested(NOON, ""))
    task = succeed(task, StepName.STOP_CONTAINER, "a")
    assert task.sandbox.in_flight is None
    task = succeed(task, StepName.STOP_CONTAINER, "b")
    assert step_in_flight(task, StepName.DETACH_NETWORK)


def test_containers_stop_in_the_reverse_order_of_their_dependencies() -> None:
    task = running(a_task(a_container("db"), a_container("web", after={"db": Condition.START})))
    task = after(task, StopRequested(NOON, ""))
    assert task.container("db").in_flight is None
    task = succeed(task, StepName.STOP_CONTAINER, "web")
    assert step_in_flight(task, StepName.STOP_CONTAINER, "db")


@pytest.mark.parametrize(
    ("condition", "exit_code", "starts"),
    [
        (Condition.START, 0, True),
        (Condition.START, 1, True),
        (Condition.COMPLETE, 1, True),
        (Condition.SUCCESS, 0, True),
        (Condition.SUCCESS, 1, False),
        (Condition.HEALTHY, 0, False),
    ],
)
def test_what_a_dependency_that_has_exited_means(condition: Condition, exit_code: int, starts: bool) -> None:
    job = a_container("job", essential=False)
    task = running(a_task(job, a_container("app", after={"job": condition})))
    gone = a_snapshot(task, "job", running=False, exit_code=exit_code)
    task = after(task, ContainerObserved(NOON, "job", NOON, gone))
    app = task.container("app")
    if starts:
        assert app.status is ContainerStatus.RUNNING or app.in_flight is not None
    else:
        assert app.goal is Goal.STOP
        assert app.exit_code == 143
        assert str(app.reason).startswith("CannotStartContainerError: dependency graph: failed to resolve ")


def test_a_dependency_that_stopped_without_ever_having_started_does_not_hold_up_who_only_comes_after_it() -> (
    None
):
    job = a_container("job", essential=False)
    task = after(
        after(a_task(job, a_container("app", after={"job": Condition.START})), TimePassed(NOON)),
        InterfaceAppeared(NOON),
    )
    pull = step_in_flight(task, StepName.PULL_IMAGE, "job")
    task = after(task, StepFailed(NOON, pull, Reason("CannotPullContainerError", "no such image")))
    assert task.container("job").status is ContainerStatus.STOPPED
    for name in (StepName.START_PAUSE, StepName.ATTACH_NETWORK):
        task = succeed(task, name)
    for name in (StepName.PULL_IMAGE, StepName.CREATE_CONTAINER):
        task = succeed(task, name, "app")
    assert step_in_flight(task, StepName.START_CONTAINER, "app")
    assert task.goal is Goal.RUN


def test_a_dependency_becomes_healthy_and_the_dependant_starts() -> None:
    task = running(a_task(a_container("db"), a_container("app", after={"db": Condition.HEALTHY})))
    assert task.container("app").status is ContainerStatus.CREATED
    well = a_snapshot(task, "db", health=Health.HEALTHY)
    task = after(task, ContainerObserved(NOON, "db", NOON, well))
    assert step_in_flight(task, StepName.START_CONTAINER, "app")


def test_a_start_timeout_that_passes_stops_the_task_with_the_words_of_ecs() -> None:
    db = a_container("db", start_timeout=30)
    task = running(a_task(db, a_container("app", after={"db": Condition.HEALTHY})))
    assert next_wake(task) == NOON + timedelta(seconds=30)
    task = after(task, TimePassed(NOON + timedelta(seconds=30)))
    assert str(task.reason) == (
        "CannotStartContainerError: dependency graph: container ordering dependency [db] for target [app] "
        "has timed out."
    )


def test_an_interface_that_never_appears_is_a_reason_and_not_a_hang() -> None:
    task = succeed(after(a_task(), TimePassed(NOON)), StepName.START_PAUSE)
    wait = next(each for each in explain(task, NOON) if each.subject == "sandbox")
    assert wait.waits_for == "interface_present"
    assert wait.until == task.spec.network.expires_at
    task = after(task, TimePassed(task.spec.network.expires_at))
    assert task.goal is Goal.STOP
    assert "did not appear on this machine" in str(task.reason)


def test_an_interface_that_comes_too_late_is_not_attached() -> None:
    task = after(a_task(), TimePassed(NOON))
    task = after(task, InterfaceAppeared(task.spec.network.expires_at + timedelta(seconds=1)))
    assert task.sandbox.interface_seen_at is None
    assert report(task).attachments == ()


def test_a_failed_pull_of_an_essential_container_is_the_reason_of_the_task() -> None:
    task = after(a_task(), TimePassed(NOON))
    pull = step_in_flight(task, StepName.PULL_IMAGE, "app")
    task = after(task, StepFailed(NOON, pull, Reason("CannotPullContainerError", "no such image")))
    told = report(task)
    assert told.reason == "CannotPullContainerError: no such image"
    assert told.containers[0].reason == "CannotPullContainerError: no such image"


def test_a_runtime_that_does_not_answer_is_asked_again_and_only_in_the_end_a_failure() -> None:
    task = after(a_task(), TimePassed(NOON))
    down = Reason("DockerStateError", "the container runtime does not answer")
    pause = step_in_flight(task, StepName.START_PAUSE)
    task = after(task, StepFailed(NOON, pause, down, is_unavailable=True))
    assert task.goal is Goal.RUN
    assert task.sandbox.trouble is not None
    late = NOON + Policy().unavailable_limit
    task = after(task, TimePassed(late))
    pause = step_in_flight(task, StepName.START_PAUSE)
    task = after(task, StepFailed(late, pause, down, is_unavailable=True))
    assert task.goal is Goal.STOP
    assert task.reason == down


def test_retries_on_the_way_down_become_slower_up_to_a_minute() -> None:
    assert [backoff(each).total_seconds() for each in (1, 2, 3, 7, 50)] == [1, 2, 4, 60, 60]


def test_out_of_memory_overrides_the_runtimes_own_error() -> None:
    task = running(a_task())
    killed = a_snapshot(task, "app", running=False, exit_code=137, was_oom_killed=True, error="boom")
    task = after(task, ContainerObserved(NOON, "app", NOON, killed))
    assert str(task.container("app").reason) == "OutOfMemoryError: Container killed due to memory usage"
    plain = a_snapshot(task, "app", running=False, exit_code=137)
    again = after(running(a_task()), ContainerObserved(NOON, "app", NOON, plain))
    assert again.container("app").reason is None


def test_a_container_that_ended_by_itself_when_asked_did_not_run_out_of_memory_though_marked() -> None:
    asked = after(running(a_task()), StopRequested(NOON, "enough"))
    polite = a_snapshot(asked, "app", running=False, exit_code=0, was_oom_killed=True)
    assert after(asked, ContainerObserved(NOON, "app", NOON, polite)).container("app").reason is None
    killed = a_snapshot(asked, "app", running=False, exit_code=137, was_oom_killed=True)
    reason = after(asked, ContainerObserved(NOON, "app", NOON, killed)).container("app").reason
    assert str(reason).startswith("OutOfMemoryError: ")
    alone = a_snapshot(asked, "app", running=False, exit_code=1, was_oom_killed=True)
    reason = after(running(a_task()), ContainerObserved(NOON, "app", NOON, alone)).container("app").reason
    assert str(reason).startswith("OutOfMemoryError: "), "a child was killed, and the first process gave up"


def test_a_container_that_vanished_is_stopped_with_that_reason_but_not_by_an_old_list() -> None:
    task = running(a_task())
    stale = after(task, ContainerObserved(NOON, "app", NOON - timedelta(seconds=1), None))
    assert stale.container("app").status is ContainerStatus.RUNNING
    later = NOON + timedelta(seconds=1)
    task = after(task, ContainerObserved(later, "app", later, None))
    assert str(task.container("app").reason).startswith("ContainerVanishedError: ")


def test_a_pause_container_that_ends_takes_the_task_with_it_and_its_pid_is_forgotten() -> None:
    task = running(a_task())
    gone = a_snapshot(task, PAUSE_NAME, running=False, exit_code=0)
    task = after(task, ContainerObserved(NOON, PAUSE_NAME, NOON, gone))
    assert task.goal is Goal.STOP
    assert task.sandbox.pid is None
    assert "pause container ended" in str(task.reason)


def test_recovery_looks_and_does_not_trust_the_record() -> None:
    task = after(after(a_task(), TimePassed(NOON)), InterfaceAppeared(NOON))
    for name in (StepName.START_PAUSE, StepName.ATTACH_NETWORK):
        task = succeed(task, name)
    for name in (StepName.PULL_IMAGE, StepName.CREATE_CONTAINER):
        task = succeed(task, name, "app")
    # the agent dies while the start is in flight; the start had its effect
    seen = (a_snapshot(task, PAUSE_NAME), a_snapshot(task, "app"))
    task = after(task, Recovered(NOON, NOON, seen))
    assert task.container("app").status is ContainerStatus.RUNNING
    assert task_status(task) is TaskStatus.RUNNING


def test_a_lost_record_is_rebuilt_from_labels() -> None:
    fresh = a_task()
    seen = (a_snapshot(fresh, PAUSE_NAME), a_snapshot(fresh, "app"))
    late = fresh.spec.network.expires_at + timedelta(days=1)
    task = after(fresh, Recovered(late, late, seen))
    assert task.sandbox.status is SandboxStatus.PAUSED
    assert step_in_flight(task, StepName.ATTACH_NETWORK)  # idempotent: it is asked again
    assert task.container("app").status is ContainerStatus.RUNNING
    assert task.goal is Goal.RUN


def test_a_step_given_up_long_ago_does_not_hold_the_task() -> None:
    task = after(a_task(), TimePassed(NOON))
    assert task.sandbox.in_flight is not None
    late = task.sandbox.in_flight.until + timedelta(minutes=2)
    task = after(task, TimePassed(late))
    assert str(task.reason).startswith("DockerTimeoutError: start_pause did not end within")


def test_names_are_chosen_from_the_task_and_fit_docker() -> None:
    spec = a_spec(a_container("my_app.1"))
    name = docker_name(spec, "my_app.1")
    assert name.startswith("ecs-web-1-myapp1-")
    assert len(name.rsplit("-", 1)[1]) == 20
    assert name == docker_name(spec, "my_app.1")
    assert name != docker_name(a_spec(number=2), "my_app.1")
    assert pause_name(spec).startswith("ecs-web-1-internalecspause-")


def test_a_task_is_accepted_once_and_absence_counts_only_in_a_complete_snapshot() -> None:
    one, two = WantedTask(a_spec(number=1)), WantedTask(a_spec(number=2), stop="bye")
    changes = diff(DesiredTasks(1, complete=True, tasks=(one, one, two)), {})
    assert changes.accept == (one, two)
    known = {task_arn(1): Goal.RUN, task_arn(2): Goal.RUN, task_arn(3): Goal.STOP}
    assert diff(DesiredTasks(2, complete=False, tasks=()), known).stop == ()
    stopped = diff(DesiredTasks(3, complete=True, tasks=(one, two)), known).stop
    assert stopped == ((task_arn(2), "bye"),)
    gone = diff(DesiredTasks(4, complete=True, tasks=()), known).stop
    assert [arn for arn, _ in gone] == [task_arn(1), task_arn(2)]


@pytest.mark.parametrize(
    ("behavior", "is_present", "was_pulled", "pulls", "forgives"),
    [
        (PullBehavior.DEFAULT, True, True, True, True),
        (PullBehavior.ALWAYS, True, True, True, False),
        (PullBehavior.ONCE, True, False, True, False),
        (PullBehavior.ONCE, False, True, False, False),
        (PullBehavior.PREFER_CACHED, True, False, False, False),
        (PullBehavior.PREFER_CACHED, False, True, True, False),
    ],
)
def test_the_four_pull_behaviours(
    behavior: PullBehavior, is_present: bool, was_pulled: bool, pulls: bool, forgives: bool
) -> None:
    assert must_pull(behavior, is_present=is_present, was_pulled_before=was_pulled) is pulls
    assert may_use_cached(behavior) is forgives
    assert must_look_first(behavior) is (behavior in (PullBehavior.ONCE, PullBehavior.PREFER_CACHED))


def test_stopped_containers_are_kept_for_their_logs_and_explained() -> None:
    task = after(a_task(), StopRequested(NOON, ""))
    pause = step_in_flight(task, StepName.STOP_PAUSE)
    task = after(task, StepSucceeded(NOON, pause))
    assert task_status(task) is TaskStatus.STOPPED
    assert {wait.waits_for for wait in explain(task, NOON)} == {"stop_reported", "containers_removed"}
    task = replace(task, accepted=report(task))
    waits = {wait.subject: wait for wait in explain(task, NOON)}
    assert waits["app"].waits_for == "retention_over"
    assert waits["app"].until == NOON + Policy().retention


def test_the_time_in_the_queue_for_room_does_not_count_as_waiting_for_a_dependency() -> None:
    waits = a_container("web", after={"db": Condition.START})
    task = replace(a_task(a_container("db"), waits), granted_at=NOON + timedelta(days=2))
    verdict = dependencies_met(replace(task, now=NOON + timedelta(days=2, seconds=1)), task.container("web"))
    assert isinstance(verdict, NotYet)
    assert verdict.until == NOON + timedelta(days=2) + task.policy.dependency_limit
