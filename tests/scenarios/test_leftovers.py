"""Stories of what is left behind: it is named, removed when that is safe, and never taken from a living task."""

import asyncio

import pytest

from agent.model.errors import BackendUnavailable, CannotAttachNetwork, CannotStopContainer
from agent.model.ids import ContainerId, MacAddress
from agent.model.spec import TaskSpec
from agent.model.status import TaskStatus
from tests.builders import a_spec
from tests.conftest import JumpingTime
from tests.fakes.network import Joined, port_name
from tests.scenarios.machine import FakeMachine

RUNNING, STOPPED = TaskStatus.RUNNING, TaskStatus.STOPPED
DEAD = ContainerId("dead" * 16)


def leave_a_port(machine: FakeMachine) -> str:
    """As of a task whose record, containers and namespace are gone, but not what the bridge keeps for it."""
    machine.network.joined[DEAD] = Joined(
        DEAD, 99, MacAddress("0e:00:00:00:00:99"), "eni-99", "169.254.172.99"
    )
    return port_name(DEAD)


def nothing() -> dict[str, tuple[str, ...]]:
    return {"containers": (), "volumes and control groups": (), "network": ()}


def test_a_port_of_a_dead_task_is_removed_only_after_a_complete_snapshot(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        port = leave_a_port(machine)
        spec = a_spec()
        machine.backend.is_complete = False
        async with machine.agent():
            await machine.until_told(machine.run_task(spec), RUNNING)
            await asyncio.sleep(1200)
            assert machine.network.is_attached(DEAD)
            with pytest.raises(BackendUnavailable, match="not named all"):
                await machine.janitor.leaks()
            machine.backend.is_complete = True
            machine.backend.announce()
            await asyncio.sleep(1)
            assert await machine.janitor.leaks() == {**nothing(), "network": (port,)}
            await machine.until(lambda: not machine.network.is_attached(DEAD), within=1200)
            assert machine.is_running(spec)
            assert _is_attached(machine, spec)
            assert await machine.janitor.leaks() == nothing()

    jumping.run(story())


def test_a_task_that_is_being_attached_during_a_sweep_is_not_touched(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        first, second = a_spec(number=1), a_spec(number=2)
        async with machine.agent():
            await machine.until_told(machine.run_task(first), RUNNING)
            machine.network.hang("remove_leftovers")
            async with asyncio.TaskGroup() as group:
                sweeping = group.create_task(machine.janitor.sweep())
                await machine.until(lambda: machine.network.calls[-1][0] == "remove_leftovers")
                # accepted, started and attached after the sweep has looked
                await machine.until_told(machine.run_task(second), RUNNING)
                machine.network.release("remove_leftovers")
            assert sweeping.result() == ()
            assert _is_attached(machine, first)
            assert _is_attached(machine, second)

    jumping.run(story())


def test_tasks_that_run_on_through_a_restart_keep_their_network(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        specs = [a_spec(number=number) for number in (1, 2, 3)]
        async with machine.agent():
            for spec in specs:
                await machine.until_told(machine.run_task(spec), RUNNING)
        async with machine.agent():
            await asyncio.sleep(3600)
            assert await machine.janitor.leaks() == nothing()
            assert all(_is_attached(machine, spec) for spec in specs)

    jumping.run(story())


def test_the_network_of_a_stranger_goes_after_its_last_container(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        spec = a_spec()
        async with machine.agent():
            await machine.until_told(machine.run_task(spec), RUNNING)
        machine.checkpoints.put_raw(f"{spec.task_id}.json", b"rubbish")
        machine.backend.hidden.add(spec.arn)
        async with machine.agent():
            await asyncio.sleep(1)
            found = await machine.janitor.leaks()
            assert len(found["containers"]) == 2
            assert found["volumes and control groups"]
            assert found["network"] == ()
            (joined,) = machine.network.joined
            assert (await machine.janitor.sweep())[-1] == port_name(joined)
            assert not machine.runtime.running
            assert not machine.network.joined

    jumping.run(story())


def test_a_stranger_that_does_not_stop_keeps_its_sandbox(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        spec = a_spec()
        async with machine.agent():
            await machine.until_told(machine.run_task(spec), RUNNING)
        machine.checkpoints.put_raw(f"{spec.task_id}.json", b"rubbish")
        machine.backend.hidden.add(spec.arn)
        async with machine.agent():
            await asyncio.sleep(1)
            machine.runtime.fail_next("ensure_stopped", CannotStopContainer("it does not end"))
            assert await machine.janitor.sweep() == ()
            assert len(machine.runtime.running) == 2
            assert len(machine.network.joined) == 1

    jumping.run(story())


def test_a_network_that_cannot_be_collected_is_tried_again_and_hinders_nothing(jumping: JumpingTime) -> None:
    async def story() -> None:
        machine = FakeMachine(jumping.clock)
        leave_a_port(machine)
        machine.network.fail("remove_leftovers", "ecs-bridge: stuck", times=2)
        machine.network.fail("leftovers", "cannot list the ports of ecs-bridge")
        async with machine.agent():
            await machine.until_told(machine.run_task(a_spec()), RUNNING)
            with pytest.raises(CannotAttachNetwork, match="cannot list"):
                await machine.janitor.leaks()
            await machine.until(lambda: not machine.network.is_attached(DEAD), within=2400)

    jumping.run(story())


def _is_attached(machine: FakeMachine, spec: TaskSpec) -> bool:
    sandbox = machine.state(spec.arn).sandbox.container_id
    return sandbox is not None and machine.network.is_attached(sandbox)
