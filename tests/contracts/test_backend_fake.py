"""The fake backend keeps the contract, and its faults are the ones that it names."""

import uuid
from contextlib import aclosing
from datetime import UTC, datetime
from ipaddress import IPv4Interface

import pytest

from agent.model.errors import BackendUnavailable
from agent.model.ids import MacAddress, TaskArn
from agent.model.spec import ContainerSpec, NetworkInterface, TaskSpec
from agent.model.status import TaskStatus
from tests.contracts.backend import BackendContract, names, report_of, snapshot_where, task_of
from tests.fakes.backend import FakeBackend


def a_spec() -> TaskSpec:
    return TaskSpec(
        arn=TaskArn(f"arn:aws:ecs:us-east-1:000000000000:task/default/{uuid.uuid4().hex}"),
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
            expires_at=datetime(2030, 1, 1, tzinfo=UTC),
        ),
    )


class FakeStage:
    def __init__(self) -> None:
        self.backend = FakeBackend()

    async def assign(self) -> TaskArn:
        return self.backend.want(a_spec())

    async def ask_to_stop(self, arn: TaskArn, reason: str) -> None:
        self.backend.ask_to_stop(arn, reason)

    async def held_status(self, arn: TaskArn) -> TaskStatus | None:
        latest = self.backend.latest(arn)
        return latest.status if latest is not None else None


class TestFakeBackend(BackendContract):
    @pytest.fixture
    def stage(self):
        return FakeStage()


async def test_an_unavailable_backend_takes_no_reports_and_gives_no_snapshots_until_it_is_back():
    backend = FakeBackend()
    arn = backend.want(a_spec())
    async with aclosing(backend.desired()) as snapshots:
        wanted = task_of(await snapshot_where(snapshots, names(arn)), arn)
        backend.is_unavailable = True
        with pytest.raises(BackendUnavailable):
            await backend.report(report_of(wanted, TaskStatus.RUNNING))
        assert backend.reports == []
        backend.is_unavailable = False
        await snapshot_where(snapshots, names(arn))
    await backend.report(report_of(wanted, TaskStatus.RUNNING))
    assert backend.statuses(arn) == (TaskStatus.RUNNING,)


async def test_copies_and_reordering_repeat_snapshots_with_their_own_numbers():
    backend = FakeBackend()
    backend.copies = 2
    backend.is_reordered = True
    first, second = backend.want(a_spec()), backend.want(a_spec())
    seen = []
    async with aclosing(backend.desired()) as snapshots:
        async for snapshot in snapshots:
            seen.append(snapshot)
            if len(seen) == 2:
                backend.announce()
            if len(seen) == 5:
                break
    assert [one.sequence for one in seen] == [2, 2, 3, 3, 2]
    assert [task.arn for task in seen[0].tasks] == [second, first]


async def test_an_incomplete_snapshot_says_so_and_may_hide_tasks():
    backend = FakeBackend()
    arn = backend.want(a_spec())
    backend.is_complete = False
    backend.hidden.add(arn)
    async with aclosing(backend.desired()) as snapshots:
        snapshot = await snapshot_where(snapshots, lambda _: True)
    assert not snapshot.complete
    assert snapshot.tasks == ()
