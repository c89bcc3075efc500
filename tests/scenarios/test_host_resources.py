"""Stories of a machine that is full: replacements wait for what they replace, in order, and over restarts."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from agent.adapters.files import codec
from agent.lifecycle.admission import Resources, demand
from agent.lifecycle.derive import begin, task_status
from agent.lifecycle.names import docker_name, pause_name
from agent.model.events import ResourcesGranted
from agent.model.ids import TaskArn
from agent.model.spec import TaskSpec
from agent.model.status import TaskStatus
from agent.supervisor.task import TaskSupervisor
from tests.builders import a_container, a_network, a_spec
from tests.conftest import JumpingTime
from tests.scenarios.machine import FakeMachine

RUNNING, STOPPED = TaskStatus.RUNNING, TaskStatus.STOPPED
MACHINE = Resources(cpu=2048, memory=1000)


def sized(number: int, memory: int = 600, *, cpu: int = 128) -> TaskSpec:
    return replace(a_spec(number=number), cpu=cpu, memory=memory)


def full_machine(jumping: JumpingTime, capacity: Resources = MACHINE) -> FakeMachine:
    return FakeMachine(jumping.clock, capacity=capacity)


def touched(machine: FakeMachine, spec: TaskSpec) -> bool:
    """Whether the runtime was ever asked to make something of the task."""
    return machine.runtime.count("ensure_pause_started", pause_name(spec)) > 0


def waits_for(machine: FakeMachine, arn: TaskArn) -> set[str]:
    waits = machine.node.explain(machine.state(arn), machine.clock.now())
    return {wait.waits_for for wait in waits}


def in_use(machine: FakeMachine) -> int:
    """MiB of the tasks of which the world has something that runs."""
    running = {each.task_arn for each in machine.runtime.containers.values() if each.is_running}
    return sum(demand(task.spec).memory for task in machine.node.tasks() if task.arn in running)


def test_a_replacement_waits_until_the_old_task_is_stopped_and_not_until_it_is_removed(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = full_machine(jumping)
        old, new = sized(1), sized(2)
        async with machine.agent():
            await machine.until_told(machine.run_task(old), RUNNING, within=60)
            machine.runtime.hang("ensure_stopped")
            machine.backend.ask_to_stop(old.arn)
            machine.run_task(new)
            await asyncio.sleep(100)
            assert waits_for(machine, new.arn) == {"resources_granted"}
            [wait, _] = machine.node.explain(machine.state(new.arn), machine.clock.now())
            assert wait.until is None
            assert f"stopping: {old.task_id}" in wait.cause
            assert machine.runtime.count("pull_image") == 1
            machine.runtime.release("ensure_stopped")
            await machine.until_told(old.arn, STOPPED, within=300)
            await machine.until_told(new.arn, RUNNING, within=5)
            assert machine.node.by_arn(old.arn) is not None, "its containers are still kept"

    jumping.run(story())


def test_a_burst_is_served_in_order_and_the_machine_is_never_given_away_twice(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = full_machine(jumping)
        sizes = [600, 600, 10, 300, 1000, 1, 400, 400, 400]
        specs = [sized(number, memory) for number, memory in enumerate(sizes, start=1)]
        async with machine.agent():
            for spec in specs:
                machine.run_task(spec)
            begun: list[TaskArn] = []
            async with asyncio.timeout(3600):
                while any(machine.told(spec.arn) is not STOPPED for spec in specs):
                    await asyncio.sleep(0.05)
                    assert in_use(machine) <= MACHINE.memory
                    tasks = machine.node.tasks()
                    begun += [each.arn for each in tasks if each.granted_at and each.arn not in begun]
                    for each in tasks:
                        if task_status(each) is RUNNING:
                            machine.runtime.exit(docker_name(each.spec, "app"), 0)
        assert begun == [spec.arn for spec in specs]

    jumping.run(story())


def test_who_must_stop_while_it_waits_stops_without_having_run_and_lets_the_next_one_on(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = full_machine(jumping)
        runs, waits, small = sized(1), sized(2), sized(3, 100)
        async with machine.agent():
            for spec in (runs, waits, small):
                machine.run_task(spec)
            await machine.until_told(runs.arn, RUNNING, within=60)
            await asyncio.sleep(600)
            assert waits_for(machine, small.arn) == {"resources_granted"}
            machine.backend.ask_to_stop(waits.arn)
            await machine.until_told(waits.arn, STOPPED, within=5)
            await machine.until_told(small.arn, RUNNING, within=5)
            assert not touched(machine, waits)
            assert machine.backend.latest(waits.arn).containers[0].exit_code is None

    jumping.run(story())


def test_what_is_larger_than_the_machine_is_stopped_at_once_and_holds_nobody_up(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = full_machine(jumping)
        giant, small = sized(1, 1001), sized(2)
        async with machine.agent():
            machine.run_task(giant)
            machine.run_task(small)
            await machine.until_told(giant.arn, STOPPED, within=5)
            assert machine.backend.latest(giant.arn).reason == (
                "ResourceInitializationError: "
                "the task needs 1001 MiB of memory, and this machine has 1000 for tasks"
            )
            await machine.until_told(small.arn, RUNNING, within=60)
            assert not touched(machine, giant)

    jumping.run(story())


def test_whose_interface_never_appears_does_not_wait_for_room(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = full_machine(jumping)
        lost = replace(sized(2), network=a_network(2, expires_at=machine.clock.now() + a_while))
        async with machine.agent():
            await machine.until_told(machine.run_task(sized(1)), RUNNING, within=60)
            machine.run_task(lost, interface=False)
            machine.run_task(sized(3, 100))
            await machine.until_told(lost.arn, STOPPED, within=400)
            assert "did not appear on this machine" in machine.backend.latest(lost.arn).reason
            await machine.until_told(sized(3).arn, RUNNING, within=5)

    a_while = a_network().expires_at - jumping.clock.now()
    jumping.run(story())


def test_a_task_that_is_to_stop_before_it_ever_was_here_takes_no_share(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = full_machine(jumping)
        over, new = sized(1), sized(2)
        machine.run_task(over)
        machine.backend.ask_to_stop(over.arn)
        machine.run_task(new)
        machine.runtime.hang("ensure_stopped")
        async with machine.agent():
            await machine.until_told(new.arn, RUNNING, within=60)
            assert machine.told(over.arn) is not STOPPED

    jumping.run(story())


def test_on_a_free_machine_a_grant_costs_no_save_and_no_time(jumping: JumpingTime) -> None:
    async def story(capacity: Resources) -> tuple[int, float]:
        machine = full_machine(jumping, capacity)
        async with machine.agent():
            began = machine.clock.now()
            await machine.until_told(machine.run_task(sized(1)), RUNNING, within=60)
            first = machine.checkpoints.saved[0]
            assert first.granted_at == first.accepted_at
            assert first.next_step > 1, "the first record is that of the first steps"
            return len(machine.checkpoints.saved), (machine.clock.now() - began).total_seconds()

    assert jumping.run(story(MACHINE)) == jumping.run(story(Resources(10**6, 10**6)))


def test_a_task_that_waits_is_on_record_and_keeps_its_place_over_restarts(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = full_machine(jumping)
        runs, first, second = sized(3), sized(2), sized(1)
        async with machine.agent():
            await machine.until_told(machine.run_task(runs), RUNNING, within=60)
            machine.run_task(first, interface=False)
            await asyncio.sleep(60)
            machine.run_task(second, interface=False)
            await asyncio.sleep(60)
            [record, *_] = [each for each in machine.checkpoints.saved if each.arn == first.arn]
            assert record.accepted is None, "it is on record before anybody is told of it"
        for spec in (first, second):
            machine.interfaces.appear(spec.network.mac_address)
        machine.backend.is_unavailable = True  # what follows is known from the records alone
        async with machine.agent():
            await asyncio.sleep(60)
            assert machine.is_running(runs)
            assert not touched(machine, first)
            machine.runtime.exit(docker_name(runs, "app"), 0)
            await machine.until(lambda: machine.is_running(first), within=60)
            assert waits_for(machine, second.arn) == {"resources_granted"}
            machine.runtime.exit(docker_name(first, "app"), 0)
            await machine.until(lambda: machine.is_running(second), within=60)

    jumping.run(story())


@pytest.mark.parametrize("is_stopping", [False, True])
def test_what_an_older_agent_has_begun_has_its_share_though_its_record_does_not_say_so(
    jumping: JumpingTime, is_stopping: bool
) -> None:
    async def story() -> None:
        machine = full_machine(jumping)
        old, new = sized(1), sized(2)
        async with machine.agent():
            await machine.until_told(machine.run_task(old), RUNNING, within=60)
            if is_stopping:
                machine.runtime.hang("ensure_stopped")
                machine.backend.ask_to_stop(old.arn)
                await asyncio.sleep(1)
        forget_grants(machine)
        async with machine.agent():
            if is_stopping:
                machine.runtime.hang("ensure_stopped")
            machine.run_task(new)
            await asyncio.sleep(60)
            assert machine.runtime.running >= {docker_name(old, "app")}
            assert waits_for(machine, new.arn) == {"resources_granted"}
            if is_stopping:
                machine.runtime.release("ensure_stopped")
            else:
                assert machine.state(old.arn).granted_at is not None
                machine.backend.ask_to_stop(old.arn)
            await machine.until_told(new.arn, RUNNING, within=300)

    jumping.run(story())


def forget_grants(machine: FakeMachine) -> None:
    """Make of every record what an agent without a queue wrote."""
    for task in machine.checkpoints.held():
        document: dict[str, Any] = json.loads(codec.encode_task(task))
        del document["task"]["granted_at"]
        machine.checkpoints.put_raw(f"{task.task_id}.json", json.dumps(document).encode())


def test_what_runs_has_its_share_before_who_was_accepted_earlier_and_waits(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = full_machine(jumping)
        kept, first = sized(2), sized(1)
        async with machine.agent():
            await machine.until_told(machine.run_task(kept), RUNNING, within=60)
            machine.run_task(first)
            await asyncio.sleep(60)
        # A record from before its share was written, and accepted after the one that waits.
        stale = codec.encode_task(begin(kept, machine.clock.now(), machine.policy))
        machine.checkpoints.put_raw(f"{kept.task_id}.json", stale)
        async with machine.agent():
            await machine.until(lambda: machine.is_running(kept), within=60)
            await asyncio.sleep(60)
            assert waits_for(machine, first.arn) == {"resources_granted"}

    jumping.run(story())


def test_what_runs_though_its_record_is_lost_has_its_share_before_any_new_task(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = full_machine(jumping)
        kept, new = sized(2), sized(1)
        async with machine.agent():
            await machine.until_told(machine.run_task(kept), RUNNING, within=60)
        machine.checkpoints.put_raw(f"{kept.task_id}.json", b"rubbish")
        machine.run_task(new)
        machine.backend.is_reordered = True  # the new one is named first
        async with machine.agent():
            await machine.until(lambda: machine.is_running(kept), within=60)
            await asyncio.sleep(60)
            assert waits_for(machine, new.arn) == {"resources_granted"}

    jumping.run(story())


def test_a_machine_that_became_smaller_stops_nothing_that_runs_and_takes_nothing_new_until_there_is_room(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = full_machine(jumping)
        specs = [sized(1, 500), sized(2, 500)]
        async with machine.agent():
            for spec in specs:
                await machine.until_told(machine.run_task(spec), RUNNING, within=60)
            machine.run_task(sized(3, 450))
            await asyncio.sleep(1)
        machine.capacity = Resources(2048, 460)
        async with machine.agent():
            await asyncio.sleep(60)
            assert all(machine.is_running(spec) for spec in specs)
            machine.backend.ask_to_stop(specs[0].arn)
            await machine.until_told(specs[0].arn, STOPPED, within=60)
            await asyncio.sleep(60)
            assert not machine.is_running(sized(3))
            machine.backend.ask_to_stop(specs[1].arn)
            await machine.until_told(sized(3).arn, RUNNING, within=60)

    jumping.run(story())


def test_a_machine_that_became_larger_takes_who_waited_though_nothing_else_happens(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = full_machine(jumping)
        async with machine.agent():
            await machine.until_told(machine.run_task(sized(1)), RUNNING, within=60)
            machine.run_task(sized(2))
            await asyncio.sleep(60)
        machine.capacity = Resources(2048, 1200)
        async with machine.agent():
            await machine.until_told(sized(2).arn, RUNNING, within=60)

    jumping.run(story())


def test_who_waited_and_can_never_fit_since_the_machine_became_smaller_is_stopped(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = full_machine(jumping)
        async with machine.agent():
            await machine.until_told(machine.run_task(sized(1)), RUNNING, within=60)
            machine.run_task(sized(2, 800))
            await asyncio.sleep(60)
        machine.capacity = Resources(2048, 700)
        async with machine.agent():
            await machine.until_told(sized(2).arn, STOPPED, within=60)
            assert "this machine has 700 for tasks" in machine.backend.latest(sized(2).arn).reason
            assert machine.is_running(sized(1))

    jumping.run(story())


def test_a_grant_that_meets_a_bug_is_not_lost(jumping: JumpingTime, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        machine = full_machine(jumping)
        old, new = sized(1), sized(2)
        next_event = TaskSupervisor._next_event
        lost: list[ResourcesGranted] = []

        async def lose_one(supervisor: TaskSupervisor) -> Any:
            event = await next_event(supervisor)
            if isinstance(event, ResourcesGranted) and not lost:
                lost.append(event)
                raise ZeroDivisionError("a bug")
            return event

        monkeypatch.setattr(TaskSupervisor, "_next_event", lose_one)
        async with machine.agent():
            await machine.until_told(machine.run_task(old), RUNNING, within=60)
            machine.run_task(new)
            await asyncio.sleep(1)
            machine.backend.ask_to_stop(old.arn)
            await machine.until_told(new.arn, RUNNING, within=60)
            assert len(lost) == 1

    jumping.run(story())


def test_room_that_is_made_in_the_very_moment_of_an_arrival_is_the_heads_and_not_the_newcomers(
    jumping: JumpingTime,
) -> None:
    async def story() -> None:
        machine = full_machine(jumping)
        runs, first, late = sized(1), sized(2), sized(3)
        async with machine.agent():
            await machine.until_told(machine.run_task(runs), RUNNING, within=60)
            machine.run_task(first)
            await asyncio.sleep(1)
            save = machine.checkpoints.save

            async def slowly(task: Any) -> None:
                if task.arn == runs.arn and task.stopped_at is not None:
                    machine.run_task(late)
                    await asyncio.sleep(1)
                await save(task)

            machine.checkpoints.save = slowly  # type: ignore[method-assign]
            machine.runtime.exit(docker_name(runs, "app"), 0)
            await machine.until_told(first.arn, RUNNING, within=60)
            assert waits_for(machine, late.arn) == {"resources_granted"}

    jumping.run(story())


def test_containers_without_limits_of_the_task_are_counted_together(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = full_machine(jumping, Resources(2048, 128 + 63))
        pair = a_spec(a_container("a"), a_container("b"), number=1)
        single = a_spec(a_container("c"), number=2)
        async with machine.agent():
            await machine.until_told(machine.run_task(pair), RUNNING, within=60)
            machine.run_task(single)
            await asyncio.sleep(60)
            assert waits_for(machine, single.arn) == {"resources_granted"}
            machine.backend.ask_to_stop(pair.arn)
            await machine.until_told(single.arn, RUNNING, within=60)

    jumping.run(story())
