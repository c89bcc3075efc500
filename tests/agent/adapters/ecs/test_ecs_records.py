"""What is remembered of a cluster: it comes back as it was, or is refused by name."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from agent.adapters.ecs.change import Change
from agent.adapters.ecs.identity import identify
from agent.adapters.ecs.records import (
    AttachmentRecord,
    InstanceRecord,
    RecordInvalid,
    TaskRecord,
    Told,
    attachments_document,
    instance_document,
    read_attachments,
    read_instance,
    read_task_record,
    task_document,
)
from agent.adapters.ecs.store import REMEMBERED_AT_MOST, REMEMBERED_FOR, Store
from agent.model.errors import CannotStart
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
    await store.save_instance(INSTANCE)
    await store.save_task(TASK)
    await store.save_attachment(ATTACHMENT)
    again = await opened(documents, clock)
    assert again.instance == INSTANCE
    assert again.tasks() == (TASK,)
    assert again.attachments() == (ATTACHMENT,)
    assert again.is_whole


async def test_a_damaged_document_costs_itself_only(documents, clock):
    store = await opened(documents, clock)
    await store.save_instance(INSTANCE)
    await store.save_task(TASK)
    documents.documents["attachments"] = {"format": 1, "attachments": "none"}
    again = await opened(documents, clock)
    assert (again.instance, again.tasks(), again.attachments()) == (INSTANCE, (TASK,), ())
    assert not again.is_whole
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
        await store.save_task(record)
        assert waiting.is_set() is is_news


async def test_the_number_of_the_manifest_only_rises(documents, clock):
    store = await opened(documents, clock)
    assert store.manifest_sequence == -1
    await store.save_instance(INSTANCE)
    await store.raise_manifest_sequence(5)
    assert store.manifest_sequence == 7
    await store.raise_manifest_sequence(9)
    assert (await opened(documents, clock)).manifest_sequence == 9


async def test_an_ended_task_is_known_again_for_a_day_and_holds_nothing(documents, clock):
    store = await opened(documents, clock)
    await store.save_task(TASK)
    await store.save_attachment(ATTACHMENT)
    await store.end_task(TASK.arn)
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
        await store.save_task(record)
        await store.end_task(record.arn)
        clock.advance(0.001)
    assert len(documents.documents) == REMEMBERED_AT_MOST
    assert store.task(task_arn(0)) is None
    assert store.task(task_arn(REMEMBERED_AT_MOST + 2)) is not None


class TestIdentity:
    async def test_a_first_start_remembers_the_cluster(self, documents, clock):
        store = await opened(documents, clock)
        found = await identify(store, configured_cluster="prod", ec2_instance="i-1")
        assert (found.cluster, found.is_new) == ("prod", False)
        assert (await opened(documents, clock)).instance == InstanceRecord("prod", ec2_instance="i-1")

    async def test_no_cluster_is_joined_silently(self, documents, clock):
        store = await opened(documents, clock)
        with pytest.raises(CannotStart, match="set ECS_CLUSTER") as refused:
            await identify(store, configured_cluster="", ec2_instance="i-1")
        assert not refused.value.is_final
        assert documents.documents == {}

    async def test_the_saved_cluster_is_taken_when_none_is_configured(self, documents, clock):
        store = await opened(documents, clock)
        await store.save_instance(INSTANCE)
        found = await identify(store, configured_cluster="", ec2_instance="i-1")
        assert found.cluster == "prod"
        assert store.instance == INSTANCE

    async def test_another_cluster_is_refused_for_good(self, documents, clock):
        store = await opened(documents, clock)
        await store.save_instance(INSTANCE)
        with pytest.raises(CannotStart) as refused:
            await identify(store, configured_cluster="test", ec2_instance="i-1")
        assert refused.value.is_final
        assert str(refused.value) == (
            "Data mismatch; saved cluster 'prod' does not match configured cluster 'test'. "
            "Perhaps you want to delete the configured checkpoint file?"
        )

    async def test_another_machine_begins_anew(self, documents, clock):
        store = await opened(documents, clock)
        await store.save_instance(INSTANCE)
        await store.save_task(TASK)
        await store.save_attachment(ATTACHMENT)
        found = await identify(store, configured_cluster="test", ec2_instance="i-2")
        assert (found.cluster, found.is_new) == ("test", True)
        assert documents.documents == {
            "instance": instance_document(InstanceRecord("test", ec2_instance="i-2"))
        }

    async def test_a_machine_that_cannot_say_who_it_is_is_the_same(self, documents, clock):
        store = await opened(documents, clock)
        await store.save_instance(INSTANCE)
        assert not (await identify(store, configured_cluster="prod", ec2_instance="")).is_new
        assert store.instance == INSTANCE

    async def test_a_machine_that_can_say_it_now_is_remembered(self, documents, clock):
        store = await opened(documents, clock)
        await store.save_instance(replace(INSTANCE, ec2_instance=""))
        await identify(store, configured_cluster="prod", ec2_instance="i-1")
        assert store.instance == INSTANCE


async def test_nobody_misses_a_change_that_comes_while_he_looks():
    change = Change()
    waiting = change.next
    change.notify()
    await asyncio.wait_for(waiting.wait(), 1)
    assert not change.next.is_set()
