"""What every ``CheckpointStore`` must do. Run by the fake's and each adapter's own test file."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Interface
from typing import Protocol

import pytest

from agent.model.errors import CheckpointFailed
from agent.model.ids import MacAddress, TaskArn
from agent.model.spec import ContainerSpec, NetworkInterface, TaskSpec
from agent.model.state import Container, Sandbox, TaskState
from agent.model.status import Goal
from agent.ports.checkpoint import CheckpointStore

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class CheckpointStage(Protocol):
    """What a test of the contract needs beside the port."""

    store: CheckpointStore

    async def restarted(self) -> CheckpointStore:
        """The store as the agent finds it after a restart."""

    def damage(self, task: TaskState) -> None:
        """Cut the task's record in half."""

    def forbid_writing(self) -> None:
        """Let every later write fail, as a full disk does."""


def a_task(number: int = 1) -> TaskState:
    spec = TaskSpec(
        arn=TaskArn(f"arn:aws:ecs:us-east-1:000000000000:task/default/{number:032x}"),
        cluster="default",
        family="web",
        revision="1",
        containers=(ContainerSpec("app", "app:1", memory=64),),
        network=NetworkInterface(
            attachment_arn="arn:aws:ecs:us-east-1:000000000000:attachment/1",
            eni_id="eni-1",
            subnet_id="subnet-1",
            mac_address=MacAddress("02:00:00:00:00:01"),
            ipv4_addresses=(IPv4Interface("10.0.1.5/24"),),
            gateways=("10.0.1.1",),
            expires_at=NOON + timedelta(minutes=5),
        ),
    )
    return TaskState(
        spec=spec,
        sandbox=Sandbox(docker_name="ecs-web-1-pause"),
        containers=(Container(name="app", docker_name="ecs-web-1-app"),),
        accepted_at=NOON,
        now=NOON,
    )


class CheckpointContract:
    """Subclass it, and give a fixture ``stage``."""

    @pytest.fixture
    def stage(self) -> CheckpointStage:
        raise NotImplementedError("a contract needs a stage")

    async def test_an_empty_store_loads_as_no_tasks(self, stage):
        loaded = await stage.store.load_all()
        assert loaded.tasks == ()
        assert loaded.set_aside == ()

    async def test_what_was_saved_last_is_what_a_restart_finds(self, stage):
        task = a_task()
        later = replace(task, goal=Goal.STOP, stop_requested_at=NOON + timedelta(microseconds=1), next_step=7)
        await stage.store.save(task)
        await stage.store.save(later)
        loaded = await (await stage.restarted()).load_all()
        assert loaded.tasks == (later,)

    async def test_each_task_has_a_record_of_its_own(self, stage):
        tasks = tuple(a_task(number) for number in (1, 2, 3))
        for task in reversed(tasks):
            await stage.store.save(task)
        loaded = await (await stage.restarted()).load_all()
        assert loaded.tasks == tasks

    async def test_a_forgotten_task_does_not_come_back(self, stage):
        await stage.store.save(a_task(1))
        await stage.store.save(a_task(2))
        await stage.store.forget(a_task(1).arn)
        loaded = await (await stage.restarted()).load_all()
        assert loaded.tasks == (a_task(2),)

    async def test_forgetting_what_was_never_saved_is_fine(self, stage):
        await stage.store.forget(a_task().arn)
        await stage.store.forget(a_task().arn)
        assert (await stage.store.load_all()).tasks == ()

    async def test_a_damaged_record_is_set_aside_once_and_the_others_are_loaded(self, stage):
        await stage.store.save(a_task(1))
        await stage.store.save(a_task(2))
        stage.damage(a_task(1))
        store = await stage.restarted()
        first = await store.load_all()
        assert first.tasks == (a_task(2),)
        assert len(first.set_aside) == 1
        assert a_task(1).task_id in first.set_aside[0]
        again = await store.load_all()
        assert again.tasks == (a_task(2),)
        assert again.set_aside == ()

    async def test_a_task_can_be_saved_anew_after_its_record_was_set_aside(self, stage):
        await stage.store.save(a_task())
        stage.damage(a_task())
        store = await stage.restarted()
        await store.load_all()
        await store.save(a_task())
        assert (await store.load_all()).tasks == (a_task(),)

    async def test_a_write_that_fails_says_so_and_keeps_the_old_record(self, stage):
        task = a_task()
        await stage.store.save(task)
        stage.forbid_writing()
        with pytest.raises(CheckpointFailed) as caught:
            await stage.store.save(replace(task, next_step=9))
        assert task.task_id in str(caught.value)
        assert (await (await stage.restarted()).load_all()).tasks == (task,)
