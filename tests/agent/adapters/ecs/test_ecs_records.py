"""What is remembered of a cluster: it comes back as it was, or is refused by name."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.adapters.ecs.change import Change
from agent.adapters.ecs.identity import Identity, identify, settle_in
from agent.adapters.ecs.records import (
    AttachmentRecord,
    InstanceRecord,
    RecordInvalid,
    TaskRecord,
    Told,
    attachments_document,
    instance_document,
    over,
    read_attachments,
    read_instance,
    read_task_record,
    task_document,
)
from agent.adapters.ecs.store import REMEMBERED_AT_MOST, REMEMBERED_FOR, Store
from agent.model.errors import CannotStart, CheckpointFailed
from agent.model.ids import MacAddress
from tests.builders import NOON, task_arn
from tests.fakes.clock import FakeClock
from tests.fakes.documents import MemoryDocuments

INSTANCE = InstanceRecord(
    "prod", "arn:aws:ecs:us-west-2:111122223333:container-instance/prod/1", "i-1", "z", 7
)
ATTACHMENT = AttachmentRecord("arn:a", MacAddress("0a:00:00:00:00:01"), task_arn(), NOON, is_told=True)
TASK = TaskRecord(
    task_arn(),
    {"arn": task_arn(), "containers": []},
    NOON,
    stop=True,
    told=Told("RUNNING", {"app": "RUNNING"}),
    held=({"containerName": "app", "status": "STOPPED"},),
)


@pytest.fixture
def documents():
    return MemoryDocuments()


@pytest.fixture
def clock():
    return FakeClock()


async def opened(documents, clock, change=None):
    store = Store(documents, clock, change or Change())
    await store.open()
    return store


async def keep(store, record):
    """Write one record, whatever was there."""
    match record:
        case InstanceRecord():
            await store.update_instance(lambda _: record)
        case TaskRecord():
            await store.update_task(record.arn, lambda _: record)
        case AttachmentRecord():
            await store.update_attachment(record.mac_address, lambda _: record)


async def end(store, clock, arn):
    """Everything was said of the task."""
    await store.update_task(arn, lambda known: over(known, clock.now()))


def test_documents_come_back_as_records():
    assert read_instance(instance_document(INSTANCE)) == INSTANCE
    assert read_attachments(attachments_document((ATTACHMENT,))) == (ATTACHMENT,)
    assert read_task_record(task_document(TASK)) == TASK
    over = replace(TASK, ended_at=NOON)
    assert read_task_record(task_document(over)) == over


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": 2}, "format 2, expected 1"),
        ({"stop": "yes"}, "stop is 'yes', expected bool"),
        ({"told": None}, "told is None, expected dict"),
        ({"expires_at": "soon"}, "expires_at is 'soon', expected a time"),
        ({"expires_at": "2026-01-01T00:00:00"}, "expected a time with its zone"),
    ],
)
def test_a_record_of_another_kind_is_refused_by_field(change, why):
    with pytest.raises(RecordInvalid, match=why):
        read_task_record({**task_document(TASK), **change})


async def test_everything_is_there_after_a_restart(documents, clock):
    store = await opened(documents, clock)
    await keep(store, INSTANCE)
    await keep(store, TASK)
    await keep(store, ATTACHMENT)
    again = await opened(documents, clock)
    assert again.instance == INSTANCE
    assert again.tasks() == (TASK,)
    assert again.attachments() == (ATTACHMENT,)
    assert again.is_whole


async def test_a_damaged_document_costs_itself_only(documents, clock):
    store = await opened(documents, clock)
    await keep(store, INSTANCE)
    await keep(store, TASK)
    documents.documents["attachments"] = {"format": 1, "attachments": "none"}
    again = await opened(documents, clock)
    assert (again.instance, again.tasks(), again.attachments()) == (INSTANCE, (TASK,), ())
    assert not again.is_whole
    assert list(documents.set_aside_for) == ["attachments"]
    documents.broken.add("instance")
    assert (await opened(documents, clock)).instance is None


async def test_a_change_of_what_should_be_here_is_told(documents, clock):
    change = Change()
    store = await opened(documents, clock, change)
    for record, is_news in (
        (replace(TASK, stop=False), True),
        (replace(TASK, stop=False), False),
        (TASK, True),
    ):
        waiting = change.next
        await keep(store, record)
        assert waiting.is_set() is is_news


async def test_an_ended_task_is_known_again_for_a_day_and_holds_nothing(documents, clock):
    store = await opened(documents, clock)
    await keep(store, TASK)
    await keep(store, ATTACHMENT)
    await end(store, clock, TASK.arn)
    assert store.tasks() == ()
    assert store.attachments() == ()
    kept = store.task(TASK.arn)
    assert kept is not None
    assert kept.is_over
    assert kept.payload == {}
    clock.advance(REMEMBERED_FOR + timedelta(seconds=1))
    assert (await opened(documents, clock)).task(TASK.arn) is None
    assert list(documents.documents) == ["attachments"]


async def test_not_more_ended_tasks_are_remembered_than_so_many(documents, clock):
    store = await opened(documents, clock)
    for number in range(REMEMBERED_AT_MOST + 3):
        record = replace(TASK, arn=task_arn(number))
        await keep(store, record)
        await end(store, clock, record.arn)
        clock.advance(0.001)
    assert len(documents.documents) == REMEMBERED_AT_MOST
    assert store.task(task_arn(0)) is None
    assert store.task(task_arn(REMEMBERED_AT_MOST + 2)) is not None


class TestIdentity:
    async def test_a_first_start_remembers_the_cluster(self, documents, clock):
        store = await opened(documents, clock)
        found = identify(store, configured_cluster="prod", ec2_instance="i-1")
        assert found == Identity("prod", "i-1", is_new=False)
        assert documents.documents == {}, "nothing is written before the start has come further"
        await settle_in(store, found)
        assert (await opened(documents, clock)).instance == InstanceRecord("prod", ec2_instance="i-1")

    async def test_no_cluster_is_joined_silently(self, documents, clock):
        store = await opened(documents, clock)
        with pytest.raises(CannotStart, match="set ECS_CLUSTER") as refused:
            identify(store, configured_cluster="", ec2_instance="i-1")
        assert not refused.value.is_final

    async def test_the_saved_cluster_is_taken_when_none_is_configured(self, documents, clock):
        store = await opened(documents, clock)
        await keep(store, INSTANCE)
        found = identify(store, configured_cluster="", ec2_instance="i-1")
        assert found.cluster == "prod"
        await settle_in(store, found)
        assert store.instance == INSTANCE

    async def test_another_cluster_is_refused_for_good(self, documents, clock):
        store = await opened(documents, clock)
        await keep(store, INSTANCE)
        with pytest.raises(CannotStart) as refused:
            identify(store, configured_cluster="test", ec2_instance="i-1")
        assert refused.value.is_final
        assert str(refused.value) == (
            "Data mismatch; saved cluster 'prod' does not match configured cluster 'test'. "
            "Perhaps you want to delete the configured checkpoint file?"
        )

    async def test_another_machine_begins_anew(self, documents, clock):
        store = await opened(documents, clock)
        for record in (INSTANCE, TASK, ATTACHMENT):
            await keep(store, record)
        found = identify(store, configured_cluster="test", ec2_instance="i-2")
        assert found == Identity("test", "i-2", is_new=True)
        await settle_in(store, found)
        new = InstanceRecord("test", ec2_instance="i-2")
        assert documents.documents == {"instance": instance_document(new)}
        assert (store.tasks(), store.attachments(), store.instance) == ((), (), new)

    async def test_another_machine_that_dies_while_it_begins_is_still_another_one(self, documents, clock):
        store = await opened(documents, clock)
        for record in (INSTANCE, TASK, ATTACHMENT):
            await keep(store, record)
        found = identify(store, configured_cluster="test", ec2_instance="i-2")
        forget, left = documents.forget, [2]

        async def dying(name):
            if not left[0]:
                raise CheckpointFailed("the power is gone")
            left[0] -= 1
            await forget(name)

        documents.forget = dying
        with pytest.raises(CheckpointFailed):
            await settle_in(store, found)
        documents.forget = forget
        again = identify(await opened(documents, clock), configured_cluster="test", ec2_instance="i-2")
        assert again.is_new

    async def test_a_machine_that_cannot_say_who_it_is_is_the_same(self, documents, clock):
        store = await opened(documents, clock)
        await keep(store, INSTANCE)
        found = identify(store, configured_cluster="prod", ec2_instance="")
        await settle_in(store, found)
        assert (found.is_new, store.instance) == (False, INSTANCE)

    async def test_a_machine_that_can_say_it_now_is_remembered(self, documents, clock):
        store = await opened(documents, clock)
        await keep(store, replace(INSTANCE, ec2_instance=""))
        await settle_in(store, identify(store, configured_cluster="prod", ec2_instance="i-1"))
        assert store.instance == INSTANCE


class TestFailedWrites:
    """A change that could not be written has not happened."""

    @pytest.mark.parametrize("record", [INSTANCE, replace(TASK, stop=False), ATTACHMENT])
    async def test_nothing_has_changed_and_the_next_try_counts(self, documents, clock, record):
        change = Change()
        store = await opened(documents, clock, change)
        waiting = change.next
        documents.failures = 1
        with pytest.raises(CheckpointFailed):
            await keep(store, record)
        assert (store.instance, store.tasks(), store.attachments()) == (None, (), ())
        assert not waiting.is_set()
        await keep(store, record)
        assert record in (store.instance, *store.tasks(), *store.attachments())
        assert waiting.is_set() is isinstance(record, TaskRecord)

    async def test_changes_of_one_task_are_made_upon_each_other(self, documents, clock):
        store = await opened(documents, clock)
        await keep(store, replace(TASK, stop=False, held=()))
        async with asyncio.TaskGroup() as group:
            group.create_task(store.update_task(TASK.arn, lambda known: replace(known, stop=True)))
            group.create_task(store.update_task(TASK.arn, lambda known: replace(known, told=Told("RUNNING"))))
        (left,) = (await opened(documents, clock)).tasks()
        assert (left.stop, left.told) == (True, Told("RUNNING"))

    async def test_two_tasks_may_end_while_old_ones_are_due(self, documents, clock):
        store = await opened(documents, clock)
        for number in (1, 2, 3):
            await keep(store, replace(TASK, arn=task_arn(number)))
        await end(store, clock, task_arn(1))
        clock.advance(REMEMBERED_FOR + timedelta(seconds=1))
        async with asyncio.TaskGroup() as group:
            for number in (2, 3):
                group.create_task(end(store, clock, task_arn(number)))
        assert store.task(task_arn(1)) is None


async def test_what_another_version_wrote_is_set_aside(documents, clock):
    documents.documents[f"task-{'1' * 32}"] = {"format": 99}
    store = await opened(documents, clock)
    assert not store.is_whole
    assert documents.set_aside_for == {f"task-{'1' * 32}": "format 99, expected 1"}
    assert (await opened(documents, clock)).is_whole


async def test_nobody_misses_a_change_that_comes_while_he_looks():
    change = Change()
    waiting = change.next
    change.notify()
    await asyncio.wait_for(waiting.wait(), 1)
    assert not change.next.is_set()
