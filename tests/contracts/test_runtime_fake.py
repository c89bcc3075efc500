"""The fake runtime keeps the contract, and its faults are the ones that it names."""

import asyncio
from contextlib import aclosing
from datetime import timedelta

import pytest

from agent.model.errors import CannotStartContainer, RuntimeUnavailable
from agent.model.spec import ContainerSpec
from agent.model.status import Health
from agent.ports.runtime import LogQuery
from tests.contracts.runtime import RuntimeContract, a_task, pause_plan, plan_of, snapshot_where
from tests.fakes.clock import FakeClock
from tests.fakes.runtime import FakeImage, FakeRuntime


class FakeStage:
    waiting, exiting, stubborn, missing = "waiting:1", "exiting:1", "stubborn:1", "missing:1"

    def __init__(self) -> None:
        images = (
            FakeImage(self.waiting),
            FakeImage(self.exiting, exits_with=7),
            FakeImage(self.stubborn, is_stubborn=True),
        )
        self.runtime = FakeRuntime(FakeClock(), *images)
        self.runtime.missing_images.add(self.missing)

    def restarted(self) -> FakeRuntime:
        return self.runtime.restarted()

    def unreachable(self) -> FakeRuntime:
        absent = self.runtime.restarted()
        absent.is_unavailable = True
        return absent

    async def settled(self, docker_name: str) -> None:
        assert docker_name in self.runtime.running

    async def kill(self, docker_name: str) -> None:
        self.runtime.exit(docker_name, 137)

    async def vanish(self, docker_name: str) -> None:
        self.runtime.vanish(docker_name)

    async def drop_events(self) -> None:
        self.runtime.drop_changes()


class TestFakeRuntime(RuntimeContract):
    @pytest.fixture
    def stage(self):
        return FakeStage()


@pytest.fixture
def runtime():
    return FakeStage().runtime


def one_container(image: str = "waiting:1"):
    return a_task(ContainerSpec("app", image, memory=32))


async def test_an_ordered_failure_comes_once_and_leaves_no_effect(runtime):
    task = one_container()
    runtime.fail_next("ensure_pause_started", CannotStartContainer("no"))
    with pytest.raises(CannotStartContainer):
        await runtime.ensure_pause_started(pause_plan(task))
    assert runtime.containers == {}
    assert (await runtime.ensure_pause_started(pause_plan(task))).is_running
    assert runtime.count("ensure_pause_started") == 2


async def test_a_failed_start_may_have_started(runtime):
    task = one_container()
    runtime.fail_next("ensure_pause_started", CannotStartContainer("EOF"), had_effect=True)
    with pytest.raises(CannotStartContainer):
        await runtime.ensure_pause_started(pause_plan(task))
    assert runtime.running == {pause_plan(task).docker_name}


async def test_a_call_hangs_until_it_is_released(runtime):
    task = one_container()
    runtime.hang("ensure_pause_started")
    async with asyncio.TaskGroup() as group:
        call = group.create_task(runtime.ensure_pause_started(pause_plan(task)))
        await asyncio.sleep(0.01)
        assert not call.done()
        assert runtime.running == frozenset()
        runtime.release("ensure_pause_started")
    assert call.result().is_running


async def test_a_call_that_hangs_after_its_effect_had_it(runtime):
    task = one_container()
    runtime.hang("ensure_pause_started", had_effect=True)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(runtime.ensure_pause_started(pause_plan(task)))
        await asyncio.sleep(0.01)
        assert runtime.running == {pause_plan(task).docker_name}
        call.cancel()


async def test_late_changes_come_as_they_were_and_dropped_ones_never(runtime):
    task = one_container()
    pause = await runtime.ensure_pause_started(pause_plan(task))
    async with aclosing(runtime.changes()) as changes:
        await snapshot_where(changes, pause.docker_name)
        runtime.hold_changes()
        runtime.set_health(pause.docker_name, Health.UNHEALTHY, "late")
        runtime.exit(pause.docker_name, 1)
        runtime.release_changes()
        late = await snapshot_where(changes, pause.docker_name)
        assert (late.health, late.is_running) == (Health.UNHEALTHY, True)
        assert not (await snapshot_where(changes, pause.docker_name)).is_running


async def test_an_unavailable_runtime_answers_nothing_until_it_is_back(runtime):
    runtime.is_unavailable = True
    with pytest.raises(RuntimeUnavailable):
        await runtime.observe()
    runtime.is_unavailable = False
    assert await runtime.observe() == ()


async def test_output_is_followed_until_the_end(runtime):
    task = one_container()
    pause = await runtime.ensure_pause_started(pause_plan(task))
    plan = plan_of(task, pause)
    made = await runtime.ensure_created(plan)
    await runtime.ensure_started(plan.docker_name)
    runtime.write(plan.docker_name, b"one\n")
    runtime.write(plan.docker_name, b"two\n")
    assert [line async for line in runtime.read(made.container_id, LogQuery(tail=1))] == [b"two\n"]
    async with asyncio.timeout(5):
        seen = []
        async for line in runtime.read(made.container_id, LogQuery(follow=True)):
            seen.append(line)
            if len(seen) == 2:
                await runtime.ensure_stopped(plan.docker_name, timedelta(seconds=1))
    assert seen == [b"one\n", b"two\n"]
    assert not runtime.is_clean
