"""What every container runtime must obey, so that tests on the fake say something about Docker."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Interface
from typing import Protocol

import pytest

from agent.model.errors import (
    CannotCreateContainer,
    CannotPullImage,
    CannotRemoveContainer,
    CannotStartContainer,
    RuntimeUnavailable,
)
from agent.model.ids import MacAddress, TaskArn
from agent.model.observation import PAUSE_NAME, ContainerSnapshot
from agent.model.spec import ContainerSpec, MountPoint, NetworkInterface, TaskSpec, Volume
from agent.ports.runtime import ContainerPlan, ContainerRuntime, PausePlan

SHORT = timedelta(seconds=1)
PATIENCE = 20.0


class RuntimeStage(Protocol):
    """What a runtime is tested on. Images are named by what their process does; all are present.

    ``waiting`` runs until it is told to end and then exits with 0, ``exiting`` exits with 7 at once,
    ``stubborn`` does not react when it is told.
    """

    runtime: ContainerRuntime
    waiting: str
    exiting: str
    stubborn: str
    missing: str

    def restarted(self) -> ContainerRuntime:
        """The runtime as a new agent on the same machine has it."""

    def unreachable(self) -> ContainerRuntime:
        """A runtime whose daemon is not there."""

    async def settled(self, docker_name: str) -> None:
        """Return when the process of ``waiting`` has got as far as to hear what it is told."""

    async def kill(self, docker_name: str) -> None:
        """The container's process dies from outside."""

    async def vanish(self, docker_name: str) -> None:
        """Somebody else removes the container, running or not."""

    async def drop_events(self) -> None:
        """The event stream breaks and comes back."""


def a_task(*containers: ContainerSpec, volumes: tuple[Volume, ...] = ()) -> TaskSpec:
    """A task that never existed before."""
    identity = uuid.uuid4().hex
    return TaskSpec(
        arn=TaskArn(f"arn:aws:ecs:us-east-1:000000000000:task/default/{identity}"),
        cluster="default",
        family="contract",
        revision="3",
        containers=containers,
        volumes=volumes,
        cpu=256,
        memory=128,
        network=NetworkInterface(
            attachment_arn=f"arn:aws:ecs:us-east-1:000000000000:attachment/{identity}",
            eni_id="eni-1",
            subnet_id="subnet-1",
            mac_address=MacAddress("02:00:00:00:00:01"),
            ipv4_addresses=(IPv4Interface("10.0.1.5/24"),),
            gateways=("10.0.1.1",),
            expires_at=datetime(2100, 1, 1, tzinfo=UTC),
            private_dns_name="ip-10-0-1-5.ec2.internal",
            dns_servers=("10.0.0.2",),
            dns_search=("ec2.internal",),
        ),
    )


def pause_plan(task: TaskSpec) -> PausePlan:
    return PausePlan(task, f"ecs-contract-3-internalecspause-{task.task_id[:20]}")


def plan_of(task: TaskSpec, pause: ContainerSnapshot, name: str = "app") -> ContainerPlan:
    docker_name = f"ecs-contract-3-{name}-{task.task_id[:20]}"
    return ContainerPlan(task, task.container(name), docker_name, pause.container_id)


async def snapshot_where(
    changes: AsyncIterator[ContainerSnapshot], docker_name: str, **wanted: object
) -> ContainerSnapshot:
    async with asyncio.timeout(PATIENCE):
        async for snapshot in changes:
            if snapshot.docker_name == docker_name and all(
                getattr(snapshot, k) == v for k, v in wanted.items()
            ):
                return snapshot
    raise AssertionError("the changes ended")


class RuntimeContract:
    """Subclasses give the fixture ``stage``, which must leave nothing behind."""

    @pytest.fixture
    def stage(self) -> RuntimeStage:
        raise NotImplementedError

    async def up(self, stage: RuntimeStage, image: str | None = None) -> tuple[TaskSpec, ContainerSnapshot]:
        """A task of one container whose pause container runs."""
        task = a_task(ContainerSpec("app", image or stage.waiting, memory=32))
        return task, await stage.runtime.ensure_pause_started(pause_plan(task))

    # -- images --------------------------------------------------------------------------------

    async def test_an_image_that_is_present_is_found_with_its_id(self, stage):
        found = await stage.runtime.find_image(stage.waiting)
        assert found is not None
        assert found.image_id.startswith("sha256:")

    async def test_an_image_that_is_not_there_is_not_found(self, stage):
        assert await stage.runtime.find_image(stage.missing) is None

    async def test_a_pull_that_fails_raises_and_names_the_image(self, stage):
        with pytest.raises(CannotPullImage, match=stage.missing):
            await stage.runtime.pull_image(stage.missing, None)

    # -- pause ---------------------------------------------------------------------------------

    async def test_a_pause_container_runs_and_is_known_as_one(self, stage):
        task, pause = await self.up(stage)
        assert pause.is_running
        assert pause.was_started
        assert pause.pid is not None
        assert pause.is_pause
        assert pause.task_arn == task.arn
        assert pause.started_at is not None
        assert pause.exit_code is None

    async def test_a_pause_asked_for_twice_is_there_once(self, stage):
        task, pause = await self.up(stage)
        again = await stage.runtime.ensure_pause_started(pause_plan(task))
        assert (again.container_id, again.pid) == (pause.container_id, pause.pid)

    async def test_a_new_agent_finds_the_pause_and_starts_no_other(self, stage):
        task, pause = await self.up(stage)
        again = await stage.restarted().ensure_pause_started(pause_plan(task))
        assert (again.container_id, again.pid) == (pause.container_id, pause.pid)

    # -- create --------------------------------------------------------------------------------

    async def test_a_created_container_has_not_been_started(self, stage):
        task, pause = await self.up(stage)
        made = await stage.runtime.ensure_created(plan_of(task, pause))
        assert not made.is_running
        assert not made.was_started
        assert made.container_name == "app"
        assert made.task_arn == task.arn
        assert made.image_id == (await stage.runtime.find_image(stage.waiting)).image_id
        assert (made.exit_code, made.finished_at, made.pid) == (None, None, None)

    async def test_creating_twice_is_creating_once(self, stage):
        task, pause = await self.up(stage)
        made = await stage.runtime.ensure_created(plan_of(task, pause))
        assert (await stage.runtime.ensure_created(plan_of(task, pause))).container_id == made.container_id
        again = await stage.restarted().ensure_created(plan_of(task, pause))
        assert again.container_id == made.container_id

    async def test_a_name_that_another_task_has_is_refused_with_both_names(self, stage):
        task, pause = await self.up(stage)
        plan = plan_of(task, pause)
        await stage.runtime.ensure_created(plan)
        other = a_task(*task.containers)
        with pytest.raises(CannotCreateContainer) as refused:
            await stage.runtime.ensure_created(replace(plan, task=other))
        assert task.arn in str(refused.value)
        assert other.arn in str(refused.value)

    async def test_a_container_of_an_image_that_is_missing_cannot_be_created(self, stage):
        task, pause = await self.up(stage, stage.missing)
        with pytest.raises(CannotCreateContainer, match="No such image"):
            await stage.runtime.ensure_created(plan_of(task, pause))

    # -- start ---------------------------------------------------------------------------------

    async def test_a_started_container_runs(self, stage):
        task, pause = await self.up(stage)
        plan = plan_of(task, pause)
        await stage.runtime.ensure_created(plan)
        started = await stage.runtime.ensure_started(plan.docker_name)
        assert started.is_running
        assert started.pid is not None
        assert started.started_at is not None

    async def test_starting_twice_is_starting_once(self, stage):
        task, pause = await self.up(stage)
        plan = plan_of(task, pause)
        await stage.runtime.ensure_created(plan)
        started = await stage.runtime.ensure_started(plan.docker_name)
        again = await stage.runtime.ensure_started(plan.docker_name)
        assert (again.pid, again.started_at) == (started.pid, started.started_at)

    async def test_a_container_that_exits_at_once_is_no_error(self, stage):
        task, pause = await self.up(stage, stage.exiting)
        plan = plan_of(task, pause)
        await stage.runtime.ensure_created(plan)
        await stage.runtime.ensure_started(plan.docker_name)
        async with aclosing(stage.runtime.changes()) as changes:
            ended = await snapshot_where(changes, plan.docker_name, is_running=False)
        assert ended.exit_code == 7
        assert ended.finished_at is not None
        assert ended.was_started

    async def test_a_container_that_ran_and_ended_is_not_run_again(self, stage):
        task, pause = await self.up(stage, stage.exiting)
        plan = plan_of(task, pause)
        await stage.runtime.ensure_created(plan)
        first = await stage.runtime.ensure_started(plan.docker_name)
        await stage.runtime.ensure_stopped(plan.docker_name, SHORT)
        for runtime in (stage.runtime, stage.restarted()):
            again = await runtime.ensure_started(plan.docker_name)
            assert again.started_at == first.started_at
            assert not again.is_running
            assert again.exit_code == 7

    async def test_a_container_does_not_start_without_its_sandbox(self, stage):
        task, pause = await self.up(stage)
        plan = plan_of(task, pause)
        await stage.runtime.ensure_created(plan)
        await stage.runtime.ensure_stopped(pause.docker_name, SHORT)
        with pytest.raises(CannotStartContainer, match="non running container"):
            await stage.runtime.ensure_started(plan.docker_name)

    async def test_starting_what_does_not_exist_is_refused(self, stage):
        with pytest.raises(CannotStartContainer, match="No such container"):
            await stage.runtime.ensure_started(f"ecs-contract-{uuid.uuid4().hex}")

    # -- stop ----------------------------------------------------------------------------------

    async def test_a_container_that_is_told_to_end_ends_with_its_own_code(self, stage):
        task, pause = await self.up(stage)
        plan = plan_of(task, pause)
        await stage.runtime.ensure_created(plan)
        await stage.runtime.ensure_started(plan.docker_name)
        await stage.settled(plan.docker_name)
        stopped = await stage.runtime.ensure_stopped(plan.docker_name, timedelta(seconds=20))
        assert stopped is not None
        assert not stopped.is_running
        assert stopped.exit_code == 0
        assert stopped.finished_at is not None
        assert stopped.pid is None

    async def test_a_container_that_does_not_react_is_killed_after_the_grace(self, stage):
        task, pause = await self.up(stage, stage.stubborn)
        plan = plan_of(task, pause)
        await stage.runtime.ensure_created(plan)
        await stage.runtime.ensure_started(plan.docker_name)
        stopped = await stage.runtime.ensure_stopped(plan.docker_name, SHORT)
        assert stopped is not None
        assert (stopped.is_running, stopped.exit_code) == (False, 137)

    async def test_stopping_twice_is_stopping_once(self, stage):
        _, pause = await self.up(stage)
        first = await stage.runtime.ensure_stopped(pause.docker_name, SHORT)
        again = await stage.runtime.ensure_stopped(pause.docker_name, SHORT)
        assert first is not None
        assert again is not None
        assert again.finished_at == first.finished_at

    async def test_what_was_never_started_is_stopped_as_it_is(self, stage):
        task, pause = await self.up(stage)
        plan = plan_of(task, pause)
        await stage.runtime.ensure_created(plan)
        stopped = await stage.runtime.ensure_stopped(plan.docker_name, SHORT)
        assert stopped is not None
        assert (stopped.is_running, stopped.was_started, stopped.exit_code) == (False, False, None)

    async def test_stopping_what_does_not_exist_finds_nothing(self, stage):
        assert await stage.runtime.ensure_stopped(f"ecs-contract-{uuid.uuid4().hex}", SHORT) is None

    async def test_a_container_that_somebody_removed_is_gone_when_it_is_stopped(self, stage):
        _, pause = await self.up(stage)
        await stage.vanish(pause.docker_name)
        assert await stage.runtime.ensure_stopped(pause.docker_name, SHORT) is None

    # -- remove --------------------------------------------------------------------------------

    async def test_a_removed_container_is_gone_and_removing_it_again_is_fine(self, stage):
        task, pause = await self.up(stage)
        plan = plan_of(task, pause)
        await stage.runtime.ensure_created(plan)
        await stage.runtime.ensure_removed(plan.docker_name)
        await stage.runtime.ensure_removed(plan.docker_name)
        assert plan.docker_name not in {each.docker_name for each in await stage.runtime.observe()}

    async def test_a_container_that_runs_is_not_removed(self, stage):
        _, pause = await self.up(stage)
        with pytest.raises(CannotRemoveContainer):
            await stage.runtime.ensure_removed(pause.docker_name)
        assert any(each.is_running for each in await stage.runtime.observe())

    async def test_a_sandbox_goes_with_its_volumes_and_twice_is_once(self, stage):
        spec = ContainerSpec("app", stage.waiting, memory=32, mount_points=(MountPoint("data", "/data"),))
        task = a_task(spec, volumes=(Volume("data"),))
        pause = await stage.runtime.ensure_pause_started(pause_plan(task))
        plan = plan_of(task, pause)
        await stage.runtime.ensure_created(plan)
        unknown = await stage.restarted().leftovers(frozenset())
        assert len(unknown) >= 1
        assert await stage.restarted().leftovers(frozenset({task.task_id})) == ()
        await stage.runtime.ensure_stopped(pause.docker_name, SHORT)
        await stage.runtime.ensure_removed(plan.docker_name)
        await stage.runtime.ensure_sandbox_removed(task, pause.docker_name)
        await stage.runtime.ensure_sandbox_removed(task, pause.docker_name)
        assert await stage.runtime.observe() == ()
        assert await stage.runtime.leftovers(frozenset()) == ()

    async def test_a_sandbox_is_not_removed_while_its_pause_runs(self, stage):
        task, pause = await self.up(stage)
        with pytest.raises(CannotRemoveContainer):
            await stage.runtime.ensure_sandbox_removed(task, pause.docker_name)
        assert [each.is_running for each in await stage.runtime.observe()] == [True]

    async def test_leftovers_of_an_unknown_task_are_removed_by_name(self, stage):
        spec = ContainerSpec("app", stage.waiting, memory=32, mount_points=(MountPoint("data", "/data"),))
        task = a_task(spec, volumes=(Volume("data"),))
        pause = await stage.runtime.ensure_pause_started(pause_plan(task))
        plan = plan_of(task, pause)
        await stage.runtime.ensure_created(plan)
        await stage.vanish(plan.docker_name)
        await stage.vanish(pause.docker_name)
        successor = stage.restarted()
        found = await successor.leftovers(frozenset())
        assert found != ()
        assert await successor.remove_leftovers(frozenset({task.task_id})) == ()
        assert await successor.remove_leftovers(frozenset()) == found
        assert await successor.leftovers(frozenset()) == ()

    # -- looking -------------------------------------------------------------------------------

    async def test_everything_is_observed_running_or_not(self, stage):
        task, pause = await self.up(stage)
        plan = plan_of(task, pause)
        await stage.runtime.ensure_created(plan)
        seen = {each.container_name: each for each in await stage.restarted().observe()}
        assert set(seen) == {PAUSE_NAME, "app"}
        assert (seen[PAUSE_NAME].is_running, seen["app"].is_running) == (True, False)
        assert seen["app"].docker_name == plan.docker_name

    async def test_the_changes_begin_with_everything_there_is(self, stage):
        _, pause = await self.up(stage)
        async with aclosing(stage.runtime.changes()) as changes:
            first = await snapshot_where(changes, pause.docker_name)
        assert first.is_running

    async def test_a_death_is_a_change(self, stage):
        _, pause = await self.up(stage)
        async with aclosing(stage.runtime.changes()) as changes:
            await snapshot_where(changes, pause.docker_name, is_running=True)
            await stage.kill(pause.docker_name)
            dead = await snapshot_where(changes, pause.docker_name, is_running=False)
        assert dead.exit_code == 137

    async def test_after_a_break_of_the_events_everything_is_listed_again(self, stage):
        _, pause = await self.up(stage)
        async with aclosing(stage.runtime.changes()) as changes:
            await snapshot_where(changes, pause.docker_name)
            await stage.drop_events()
            assert (await snapshot_where(changes, pause.docker_name)).is_running

    # -- faults --------------------------------------------------------------------------------

    async def test_a_check_passes_while_the_runtime_answers_and_only_then(self, stage):
        await stage.runtime.check()
        with pytest.raises(RuntimeUnavailable):
            await stage.unreachable().check()

    async def test_a_daemon_that_is_not_there_is_never_a_missing_container(self, stage):
        task, pause = await self.up(stage)
        absent = stage.unreachable()
        plan = plan_of(task, pause)
        for call in (
            absent.find_image(stage.waiting),
            absent.pull_image(stage.waiting, None),
            absent.ensure_pause_started(pause_plan(task)),
            absent.ensure_created(plan),
            absent.ensure_started(pause.docker_name),
            absent.ensure_stopped(pause.docker_name, SHORT),
            absent.ensure_removed(pause.docker_name),
            absent.ensure_sandbox_removed(task, pause.docker_name),
            absent.observe(),
            absent.leftovers(frozenset()),
            absent.remove_leftovers(frozenset()),
        ):
            with pytest.raises(RuntimeUnavailable):
                await call

    async def test_a_later_call_waits_for_the_end_of_a_cancelled_one(self, stage):
        task, pause = await self.up(stage)
        plan = plan_of(task, pause)
        await stage.runtime.ensure_created(plan)
        async with asyncio.TaskGroup() as group:
            start = group.create_task(stage.runtime.ensure_started(plan.docker_name))
            await asyncio.sleep(0.01)
            start.cancel()
            # Had the stop overtaken the start, the container would run in the end.
            await stage.runtime.ensure_stopped(plan.docker_name, SHORT)
        [after] = [each for each in await stage.runtime.observe() if each.docker_name == plan.docker_name]
        assert not after.is_running
