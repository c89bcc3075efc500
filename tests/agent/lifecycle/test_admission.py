"""Who may begin: sizes, the queue and its order, and that no machine is ever given away twice."""

import json
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.lifecycle.admission import Admission, Resources, demand, refusal
from agent.lifecycle.derive import begin, is_steady, task_status
from agent.lifecycle.explain import explain
from agent.lifecycle.plan import launched, next_wake, plan
from agent.lifecycle.reduce import reduce
from agent.model.events import (
    Event,
    InterfaceAppeared,
    ResourcesGranted,
    ResourcesRefused,
    StepSucceeded,
    StopRequested,
    TimePassed,
)
from agent.model.ids import TaskArn
from agent.model.spec import ContainerSpec, DockerOverlay, TaskSpec
from agent.model.state import Policy, Reason, TaskState
from agent.model.status import ContainerStatus, Goal, TaskStatus
from agent.model.steps import StepName
from tests.builders import NOON, a_spec, task_arn

MACHINE = Resources(cpu=2048, memory=1000)
LATER = NOON + timedelta(minutes=1)


def sized(number: int, cpu: int | None = None, memory: int | None = None) -> TaskSpec:
    return replace(a_spec(number=number), cpu=cpu, memory=memory)


def waiting(number: int, cpu: int = 0, memory: int = 100) -> TaskState:
    return begin(sized(number, cpu, memory), NOON, Policy())


def granted(number: int, cpu: int = 0, memory: int = 100) -> TaskState:
    return replace(waiting(number, cpu, memory), granted_at=NOON)


def admission(*tasks: TaskState) -> Admission:
    return Admission(tasks, MACHINE)


def after(task: TaskState, event: Event) -> TaskState:
    decided = reduce(task, event)
    return launched(decided, plan(decided))


# -- what a task takes -------------------------------------------------------------------------


def overlaid(**host_config: object) -> DockerOverlay:
    return DockerOverlay(host_config=json.dumps(host_config))


@pytest.mark.parametrize(
    ("container", "memory"),
    [
        (ContainerSpec("a", "a", memory=64), 64),
        (ContainerSpec("a", "a", memory=64, memory_reservation=32), 32),
        (ContainerSpec("a", "a", memory=64, memory_reservation=0), 64),
        (ContainerSpec("a", "a", memory_reservation=32), 32),
        (ContainerSpec("a", "a"), 0),
        (ContainerSpec("a", "a", memory=64, overlay=overlaid(MemoryReservation=48 << 20)), 48),
        (ContainerSpec("a", "a", memory=64, overlay=overlaid(memoryreservation=48 << 20)), 48),
        (ContainerSpec("a", "a", memory=64, overlay=overlaid(MemoryReservation=0)), 64),
        (ContainerSpec("a", "a", memory=64, overlay=overlaid(MemoryReservation=-1)), 64),
        (ContainerSpec("a", "a", memory=64, overlay=overlaid(MemoryReservation="48")), 64),
        (ContainerSpec("a", "a", memory=64, overlay=overlaid(Memory=48 << 20)), 64),
        (ContainerSpec("a", "a", memory=64, overlay=DockerOverlay(host_config="{")), 64),
        (ContainerSpec("a", "a", memory=64, overlay=DockerOverlay(host_config="[]")), 64),
    ],
)
def test_a_container_takes_its_reservation_or_else_its_limit(container: ContainerSpec, memory: int) -> None:
    assert demand(a_spec(container)) == Resources(0, memory)


def test_a_task_takes_its_own_limits_or_else_what_its_containers_ask_for_together() -> None:
    containers = (ContainerSpec("a", "a", cpu=100, memory=64), ContainerSpec("b", "b", cpu=28, memory=36))
    spec = a_spec(*containers)
    assert demand(spec) == Resources(128, 100)
    assert demand(replace(spec, cpu=512, memory=300)) == Resources(512, 300)
    assert demand(replace(spec, cpu=512)) == Resources(512, 100)


def test_what_is_larger_than_the_machine_is_refused_with_both_numbers() -> None:
    assert refusal(sized(1, 2048, 1000), MACHINE) is None
    assert str(refusal(sized(1, 10, 1001), MACHINE)) == (
        "ResourceInitializationError: the task needs 1001 MiB of memory, and this machine has 1000 for tasks"
    )
    assert str(refusal(sized(1, 4096, 5000), MACHINE)) == (
        "ResourceInitializationError: the task needs 4096 CPU units, and this machine has 2048 for tasks; "
        "it needs 5000 MiB of memory, and this machine has 1000 for tasks"
    )


# -- the queue ---------------------------------------------------------------------------------


def test_the_queue_is_granted_in_order_as_long_as_there_is_room() -> None:
    tasks = [waiting(number, memory=400) for number in (1, 2, 3)]
    assert admission(*tasks).due() == (task_arn(1), task_arn(2))


def test_nobody_overtakes_the_head_of_the_queue() -> None:
    assert admission(granted(1, memory=600), waiting(2, memory=500), waiting(3, memory=1)).due() == ()


@pytest.mark.parametrize(("cpu", "memory"), [(2048, 1), (1, 1000)])
def test_either_of_cpu_and_memory_may_be_what_is_missing(cpu: int, memory: int) -> None:
    assert admission(granted(1, cpu, memory), waiting(2, 1, 1)).due() == ()
    assert admission(waiting(2, 1, 1)).due() == (task_arn(2),)


def test_who_has_not_heard_of_its_grant_yet_is_granted_again_and_keeps_its_share_from_the_next() -> None:
    first, second = waiting(1, memory=600), waiting(2, memory=600)
    assert admission(first, second).due() == admission(first, second).due() == (first.arn,)
    assert admission(reduce(first, ResourcesGranted(NOON)), second).due() == ()


def test_a_share_is_held_until_the_task_is_stopped_and_not_until_it_is_removed() -> None:
    old, new = replace(granted(1, memory=600), goal=Goal.STOP), waiting(2, memory=600)
    assert admission(old, new).due() == ()
    assert admission(replace(old, goal=Goal.REMOVE, stopped_at=NOON), new).due() == (new.arn,)


def test_who_must_stop_and_who_can_never_fit_do_not_stand_in_the_queue() -> None:
    leaving = replace(waiting(1, memory=900), goal=Goal.STOP)
    giant, small = waiting(2, memory=1001), waiting(3, memory=1000)
    assert admission(leaving, giant, small).due() == (small.arn,)


def test_on_a_machine_that_became_too_small_who_needs_nothing_of_what_is_short_may_begin() -> None:
    frugal = begin(replace(a_spec(ContainerSpec("app", "app"), number=3), cpu=1), NOON, Policy())
    tasks = (granted(1, memory=900), granted(2, memory=900), frugal)
    assert admission(*tasks).free() == Resources(2048, 0)
    assert admission(*tasks).due() == (task_arn(3),)


@given(st.integers(0, 2**32))
def test_no_machine_is_given_away_twice_and_everybody_has_a_turn(seed: int) -> None:
    """Arrivals, stops and ends in any order, and grants that are heard of late; at the end all is over."""
    dice = random.Random(seed)
    tasks: dict[TaskArn, TaskState] = {}
    inboxes: dict[TaskArn, list[Event]] = {}

    def now() -> Admission:
        return Admission(tuple(tasks.values()), MACHINE)

    def admit() -> None:
        due, queue = now().due(), [each.arn for each in now().queue()]
        assert list(due) == queue[: len(due)], "somebody overtook"
        for arn in due:
            inboxes[arn].append(ResourcesGranted(NOON))

    def hear(arn: TaskArn) -> None:
        tasks[arn] = reduce(tasks[arn], inboxes[arn].pop(0))
        held = [demand(each.spec) for each in tasks.values() if each.granted_at and not each.stopped_at]
        assert sum(each.cpu for each in held) <= MACHINE.cpu
        assert sum(each.memory for each in held) <= MACHINE.memory
        if tasks[arn].goal > Goal.RUN and dice.random() < 0.5:
            end(arn)
        admit()

    def end(arn: TaskArn) -> None:
        tasks[arn] = replace(tasks[arn], goal=Goal.REMOVE, stopped_at=LATER)

    for number in range(1, dice.randrange(2, 25)):
        arrived = waiting(number, dice.randrange(2048), dice.randrange(1000))
        tasks[arrived.arn], inboxes[arrived.arn] = arrived, []
        admit()
        for arn in dice.sample(sorted(tasks), k=min(len(tasks), 3)):
            if inboxes[arn]:
                hear(arn)
            elif dice.random() < 0.3:
                inboxes[arn].append(StopRequested(NOON, "scaled in"))
    while not all(each.stopped_at for each in tasks.values()):
        while unheard := sorted(arn for arn in tasks if inboxes[arn]):
            hear(dice.choice(unheard))
        standing = [arn for arn, each in tasks.items() if each.granted_at and not each.stopped_at]
        leaving = [arn for arn, each in tasks.items() if each.goal > Goal.RUN and not each.stopped_at]
        if standing or leaving:
            end(dice.choice(standing or leaving))
            admit()
        else:
            assert all(each.stopped_at for each in tasks.values()), "the queue stands still"
    assert now().queue() == ()
    assert all(each.granted_at or each.stop_requested_at for each in tasks.values())


# -- the gate ----------------------------------------------------------------------------------


def test_nothing_of_a_task_begins_before_there_is_room_and_all_of_it_then() -> None:
    task = after(waiting(1), TimePassed(NOON))
    assert plan(task) == ()
    assert task.next_step == 1
    task = after(after(task, InterfaceAppeared(NOON)), ResourcesGranted(LATER))
    assert task.granted_at == LATER
    flights = [each.in_flight.step.name for each in (task.sandbox, *task.containers) if each.in_flight]
    assert flights == [StepName.START_PAUSE, StepName.PULL_IMAGE]


def test_a_second_grant_changes_nothing() -> None:
    task = reduce(waiting(1), ResourcesGranted(NOON))
    assert reduce(task, ResourcesGranted(LATER)) == replace(task, now=LATER)


def test_who_must_stop_while_it_waits_stops_without_having_run_and_a_late_grant_is_nothing() -> None:
    task = after(after(waiting(1), TimePassed(NOON)), StopRequested(NOON, "scaled in"))
    task = after(task, ResourcesGranted(NOON))
    assert task.granted_at is None
    assert task.containers[0].status is ContainerStatus.STOPPED
    assert task.containers[0].exit_code is None
    flight = task.sandbox.in_flight
    assert flight is not None
    assert flight.step.name is StepName.STOP_PAUSE
    task = after(task, StepSucceeded(NOON, flight.step))
    assert task_status(task) is TaskStatus.STOPPED
    assert str(task.reason) == "scaled in"


def test_who_is_refused_stops_with_the_reason() -> None:
    task = after(waiting(1), ResourcesRefused(NOON, Reason("ResourceInitializationError", "too large")))
    assert task.goal is Goal.STOP
    assert str(task.reason) == "ResourceInitializationError: too large"
    assert task.containers[0].exit_code is None


def test_a_wait_for_room_has_no_deadline_and_says_what_ends_it() -> None:
    task = after(after(waiting(1, 512, 100), TimePassed(NOON)), InterfaceAppeared(NOON))
    assert not is_steady(task)
    assert next_wake(task) is None
    waits = explain(task, LATER, "it is the first in the queue")
    assert [(wait.subject, wait.waits_for, wait.until) for wait in waits] == [
        ("sandbox", "resources_granted", None),
        ("app", "resources_granted", None),
    ]
    assert waits[0].cause == (
        "start pause waits: this machine has no room yet for the task's 512 CPU units and 100 MiB; "
        "it is the first in the queue"
    )
    assert waits[0].since == NOON
    assert "no deadline" in waits[0].then


def test_whose_interface_never_comes_does_not_wait_for_room() -> None:
    task = after(waiting(1), TimePassed(NOON))
    expiry = task.spec.network.expires_at
    [wait] = [each for each in explain(task, NOON) if each.subject == "sandbox"]
    assert wait.until == next_wake(task) == expiry
    assert "has not appeared on this machine yet" in wait.cause
    assert wait.then == "the task is stopped if its network interface has not appeared by then"
    task = after(task, TimePassed(expiry))
    assert task.goal is Goal.STOP
    assert "did not appear on this machine" in str(task.reason)
    assert task.containers[0].exit_code is None


# -- where a task stands -----------------------------------------------------------------------


def test_the_head_is_told_what_is_left_and_who_is_stopping() -> None:
    old, stopping = granted(1, 100, 500), replace(granted(2, 100, 300), goal=Goal.STOP)
    head = waiting(3, 0, 400)
    book = admission(old, stopping, head)
    assert book.situation(head.arn) == (
        "it is the first in the queue, and the machine has 1848 CPU units and 200 MiB left of "
        f"2048 CPU units and 1000 MiB; stopping: {stopping.task_id}"
    )
    assert str(admission(old, granted(2, 100, 300), head).situation(head.arn)).endswith(
        "; no other task is stopping"
    )
    assert book.situation(old.arn) is None


def test_the_others_are_told_their_place_and_what_the_head_needs() -> None:
    book = admission(granted(1, 0, 900), waiting(2, 100, 400), waiting(3, 0, 1))
    assert book.situation(task_arn(3)) == (
        f"it is number 2 in the queue; the first, {waiting(2).task_id}, needs 100 CPU units and 400 MiB, "
        "and the machine has 2048 CPU units and 100 MiB left of 2048 CPU units and 1000 MiB"
    )
