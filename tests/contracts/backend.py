"""What every ``TaskStateBackend`` must do. Run by the fake's and each adapter's own test file."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Protocol

import pytest

from agent.model.desired import DesiredTasks, WantedTask
from agent.model.errors import ReportRejected
from agent.model.ids import TaskArn
from agent.model.report import ContainerReport, TaskReport
from agent.model.status import TaskStatus
from agent.ports.backend import TaskStateBackend

LIMIT = 5.0


class BackendStage(Protocol):
    """What a test of the contract needs beside the port: the other side of the backend."""

    backend: TaskStateBackend

    async def assign(self) -> TaskArn:
        """Let the control plane place one more task on this machine."""

    async def ask_to_stop(self, arn: TaskArn, reason: str) -> None:
        """Let a user stop the task."""

    async def held_status(self, arn: TaskArn) -> TaskStatus | None:
        """What the control plane believes of the task."""


def report_of(wanted: WantedTask, status: TaskStatus) -> TaskReport:
    containers = tuple(
        ContainerReport(name=one.name, status=status, exit_code=0 if status is TaskStatus.STOPPED else None)
        for one in wanted.spec.containers
    )
    return TaskReport(task_arn=wanted.arn, status=status, containers=containers)


async def snapshot_where(snapshots: AsyncIterator[DesiredTasks], condition) -> DesiredTasks:
    async with asyncio.timeout(LIMIT):
        async for snapshot in snapshots:
            if condition(snapshot):
                return snapshot
    raise AssertionError("desired() ended; it must never end")


def names(arn: TaskArn):
    return lambda snapshot: any(task.arn == arn for task in snapshot.tasks)


def omits(arn: TaskArn):
    return lambda snapshot: not names(arn)(snapshot)


def task_of(snapshot: DesiredTasks, arn: TaskArn) -> WantedTask:
    return next(task for task in snapshot.tasks if task.arn == arn)


class BackendContract:
    """Subclass it, and give a fixture ``stage``."""

    @pytest.fixture
    def stage(self) -> BackendStage:
        raise NotImplementedError("a contract needs a stage")

    async def test_the_newest_snapshot_comes_first_even_when_nothing_is_wanted(self, stage):
        async with aclosing(stage.backend.desired()) as snapshots:
            first = await snapshot_where(snapshots, lambda _: True)
        assert first.tasks == ()
        assert first.complete

    async def test_a_new_task_arrives_with_its_spec_and_no_stop(self, stage):
        arn = await stage.assign()
        async with aclosing(stage.backend.desired()) as snapshots:
            wanted = task_of(await snapshot_where(snapshots, names(arn)), arn)
        assert wanted.stop is None
        assert wanted.spec.arn == arn
        assert wanted.spec.containers

    async def test_a_task_that_is_assigned_while_listening_arrives_without_asking_again(self, stage):
        async with aclosing(stage.backend.desired()) as snapshots:
            await snapshot_where(snapshots, lambda _: True)
            arn = await stage.assign()
            await snapshot_where(snapshots, names(arn))

    async def test_numbers_rise_and_a_spec_never_changes(self, stage):
        first = await stage.assign()
        async with aclosing(stage.backend.desired()) as snapshots:
            before = await snapshot_where(snapshots, names(first))
            second = await stage.assign()
            after = await snapshot_where(snapshots, names(second))
        assert after.sequence > before.sequence
        assert task_of(after, first).spec == task_of(before, first).spec

    async def test_a_stop_is_named_with_its_reason_until_the_task_is_reported_stopped(self, stage):
        arn = await stage.assign()
        await stage.ask_to_stop(arn, "no longer needed")
        async with aclosing(stage.backend.desired()) as snapshots:
            wanted = task_of(await snapshot_where(snapshots, names(arn)), arn)
            assert wanted.stop is not None
            assert "no longer needed" in wanted.stop
            await stage.backend.report(report_of(wanted, TaskStatus.STOPPED))
            await snapshot_where(snapshots, omits(arn))

    async def test_every_listener_gets_every_task(self, stage):
        arn = await stage.assign()
        async with aclosing(stage.backend.desired()) as one, aclosing(stage.backend.desired()) as other:
            await snapshot_where(one, names(arn))
            await snapshot_where(other, names(arn))
            later = await stage.assign()
            await snapshot_where(one, names(later))
            await snapshot_where(other, names(later))

    async def test_an_accepted_report_is_held_and_may_be_repeated(self, stage):
        arn = await stage.assign()
        async with aclosing(stage.backend.desired()) as snapshots:
            wanted = task_of(await snapshot_where(snapshots, names(arn)), arn)
        await stage.backend.report(report_of(wanted, TaskStatus.RUNNING))
        await stage.backend.report(report_of(wanted, TaskStatus.RUNNING))
        assert await stage.held_status(arn) is TaskStatus.RUNNING

    async def test_a_late_report_never_takes_a_status_back(self, stage):
        arn = await stage.assign()
        async with aclosing(stage.backend.desired()) as snapshots:
            wanted = task_of(await snapshot_where(snapshots, names(arn)), arn)
        await stage.backend.report(report_of(wanted, TaskStatus.STOPPED))
        await stage.backend.report(report_of(wanted, TaskStatus.RUNNING))
        await stage.backend.report(report_of(wanted, TaskStatus.PENDING))
        assert await stage.held_status(arn) is TaskStatus.STOPPED

    async def test_a_report_of_a_task_that_was_never_assigned_is_rejected(self, stage):
        arn = await stage.assign()
        async with aclosing(stage.backend.desired()) as snapshots:
            wanted = task_of(await snapshot_where(snapshots, names(arn)), arn)
        stranger = TaskArn(arn[:-8] + "ffffffff")
        report = TaskReport(task_arn=stranger, status=TaskStatus.RUNNING, containers=())
        with pytest.raises(ReportRejected):
            await stage.backend.report(report)
        await stage.backend.report(report_of(wanted, TaskStatus.RUNNING))
