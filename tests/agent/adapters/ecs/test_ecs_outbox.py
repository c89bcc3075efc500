"""The outbox: in order for each task, until it is accepted, each thing once."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from agent.adapters.ecs.attachments import Attachments
from agent.adapters.ecs.change import Change
from agent.adapters.ecs.outbox import REFUSALS_REMEMBERED, Outbox
from agent.adapters.ecs.records import AttachmentRecord, TaskRecord
from agent.adapters.ecs.store import Store
from agent.model.errors import BackendUnavailable, CheckpointFailed, ReportRejected
from agent.model.ids import MacAddress
from agent.model.report import ContainerReport, TaskReport
from agent.model.status import TaskStatus
from tests.builders import NOON, task_arn
from tests.fakes.documents import MemoryDocuments
from tests.fakes.interfaces import FakeInterfaces

RUNNING, STOPPED, PENDING = TaskStatus.RUNNING, TaskStatus.STOPPED, TaskStatus.PENDING
MAC = MacAddress("0a:00:00:00:00:01")


@dataclass
class FakeSubmitter:
    """Accepts what it is told, unless it was told not to: ``problems`` are raised first, one per call."""

    accepted: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Exception] = field(default_factory=list)
    takes: float = 0.0
    at_once: int = 0
    most_at_once: int = 0

    async def submit(self, body: dict[str, Any], *, operation: str = "SubmitTaskStateChange") -> None:
        assert ("status" in body or "task" in body) is (operation == "SubmitTaskStateChange")
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.takes)
            if self.problems:
                raise self.problems.pop(0)
            self.accepted.append(body)
        finally:
            self.at_once -= 1

    def said(self) -> list[str]:
        """What was accepted, in short."""
        return [
            change["attachments"][0]["status"] if "attachments" in change else change["status"]
            for change in self.accepted
        ]


@dataclass
class Stage:
    submitter: FakeSubmitter
    documents: MemoryDocuments
    store: Store
    outbox: Outbox
    interfaces: FakeInterfaces
    attachments: Attachments


@asynccontextmanager
async def a_stage(clock, documents=None):
    documents = documents or MemoryDocuments()
    store = Store(documents, clock, Change())
    await store.open()
    submitter, interfaces = FakeSubmitter(), FakeInterfaces()
    outbox = Outbox(submitter, store, clock, cluster="prod")
    attachments = Attachments(store, interfaces, outbox, clock, timedelta(minutes=5))
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(outbox.run()), group.create_task(attachments.run())]
        await asyncio.sleep(0)
        yield Stage(submitter, documents, store, outbox, interfaces, attachments)
        for each in running:
            each.cancel()


def a_task(number: int = 1) -> TaskRecord:
    return TaskRecord(task_arn(number), {"arn": task_arn(number)}, NOON)


def a_report(status: TaskStatus, number: int = 1, **containers: TaskStatus) -> TaskReport:
    return TaskReport(
        task_arn(number), status, tuple(ContainerReport(name, each) for name, each in containers.items())
    )


def an_attachment(clock, owner: str = task_arn(), *, seconds: float = 300) -> AttachmentRecord:
    return AttachmentRecord("arn:attachment", MAC, owner, clock.now() + timedelta(seconds=seconds))


def test_each_status_is_told_once_also_after_a_restart(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.store.update_task(task_arn(), lambda _: a_task())
            for _ in range(2):
                await stage.outbox.report(a_report(RUNNING, app=RUNNING))
        async with a_stage(jumping.clock, stage.documents) as again:
            await again.outbox.report(a_report(RUNNING, app=RUNNING))
            assert again.submitter.accepted == []
            await again.outbox.report(a_report(STOPPED, app=STOPPED))
            await again.outbox.report(a_report(STOPPED, app=STOPPED))
            assert again.submitter.said() == ["STOPPED"]
            assert again.store.tasks() == ()
        return stage.submitter.said()

    assert jumping.run(story()) == ["RUNNING"]


def test_what_is_not_accepted_is_told_again_by_the_reporter(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.store.update_task(task_arn(), lambda _: a_task())
            stage.submitter.problems = [BackendUnavailable("throttled")]
            with pytest.raises(BackendUnavailable):
                await stage.outbox.report(a_report(RUNNING, app=RUNNING))
            await stage.outbox.report(a_report(RUNNING, app=RUNNING))
            return stage.submitter.said()

    assert jumping.run(story()) == ["RUNNING"]


def test_what_will_never_be_accepted_is_dropped_and_the_next_is_told(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.store.update_task(task_arn(), lambda _: a_task())
            stage.submitter.problems = [ReportRejected("poison")]
            with pytest.raises(ReportRejected):
                await stage.outbox.report(a_report(RUNNING, app=RUNNING))
            await stage.outbox.report(a_report(RUNNING, app=RUNNING))
            await stage.outbox.report(a_report(STOPPED, app=STOPPED))
            return stage.submitter.said()

    assert jumping.run(story()) == ["STOPPED"]


def test_container_news_alone_wait_for_the_next_news_of_their_task(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.store.update_task(task_arn(), lambda _: a_task())
            await stage.outbox.report(a_report(PENDING, app=RUNNING, late=PENDING))
            assert stage.submitter.accepted == []
            await stage.outbox.report(a_report(RUNNING, app=RUNNING, late=RUNNING))
            (change,) = stage.submitter.accepted
            return [each["containerName"] for each in change["containers"]]

    assert jumping.run(story()) == ["app", "late"]


@pytest.mark.parametrize("is_restarted", [False, True])
def test_container_news_leave_by_themselves_within_half_a_minute(jumping, is_restarted):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.store.update_task(task_arn(), lambda _: a_task())
            await stage.outbox.report(a_report(RUNNING, app=RUNNING, side=RUNNING))
            await stage.outbox.report(a_report(RUNNING, app=RUNNING, side=STOPPED))
            if not is_restarted:
                await asyncio.sleep(31)
        if is_restarted:
            async with a_stage(jumping.clock, stage.documents) as stage:
                await asyncio.sleep(31)
        return stage.submitter.accepted[-1]

    change = jumping.run(story())
    assert change["status"] == "RUNNING"
    assert change["containers"] == [{"containerName": "side", "status": "STOPPED"}]


def test_flushed_news_are_not_told_again_and_wait_out_an_outage(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.store.update_task(task_arn(), lambda _: a_task())
            await stage.outbox.report(a_report(RUNNING, app=RUNNING, side=RUNNING))
            await stage.outbox.report(a_report(RUNNING, app=RUNNING, side=STOPPED))
            stage.submitter.problems = [BackendUnavailable("away")] * 3
            await asyncio.sleep(150)
            assert len(stage.submitter.accepted) == 2
            await stage.outbox.report(a_report(STOPPED, app=STOPPED, side=STOPPED))
            return stage.submitter.accepted[-1]["containers"]

    assert jumping.run(story()) == [{"containerName": "app", "status": "STOPPED"}]


def test_an_interface_is_told_once_as_soon_as_it_appears(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.attachments.announce([an_attachment(jumping.clock)])
            await asyncio.sleep(5)
            assert stage.submitter.accepted == []
            for _ in range(3):
                stage.interfaces.appear(MAC)
            await asyncio.sleep(100)
            assert stage.submitter.said() == ["ATTACHED"]
        async with a_stage(jumping.clock, stage.documents) as again:
            again.interfaces.appear(MAC)
            await asyncio.sleep(100)
            return again.submitter.said()

    assert jumping.run(story()) == []


def test_an_interface_may_be_there_before_it_is_announced(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            stage.interfaces.appear(MAC)
            await asyncio.sleep(1)
            await stage.attachments.announce([an_attachment(jumping.clock)])
            await asyncio.sleep(0.01)
            return stage.submitter.said()

    assert jumping.run(story()) == ["ATTACHED"]


def test_an_announcement_outlives_a_restart(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.attachments.announce([an_attachment(jumping.clock)])
        async with a_stage(jumping.clock, stage.documents) as again:
            again.interfaces.appear(MAC)
            await asyncio.sleep(0.01)
            return again.submitter.said()

    assert jumping.run(story()) == ["ATTACHED"]


def test_an_interface_that_comes_too_late_is_never_told(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.attachments.announce([an_attachment(jumping.clock, seconds=10)])
            await asyncio.sleep(10.5)
            assert stage.store.attachments() == ()
            stage.interfaces.appear(MAC)
            await asyncio.sleep(100)
            return stage.submitter.said()

    assert jumping.run(story()) == []


def test_an_interface_that_the_cluster_could_not_be_told_of_in_time_is_not_told_late(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            stage.submitter.problems = [BackendUnavailable("away")] * 8
            await stage.attachments.announce([an_attachment(jumping.clock, seconds=20)])
            stage.interfaces.appear(MAC)
            await asyncio.sleep(300)
            return stage.submitter.said()

    assert jumping.run(story()) == []


def test_an_announcement_that_is_repeated_gets_the_newer_limit(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.attachments.announce([an_attachment(jumping.clock, seconds=10)])
            await asyncio.sleep(8)
            await stage.attachments.announce([an_attachment(jumping.clock, seconds=10)])
            await asyncio.sleep(8)
            stage.interfaces.appear(MAC)
            await asyncio.sleep(1)
            return stage.submitter.said()

    assert jumping.run(story()) == ["ATTACHED"]


def test_an_interface_is_told_before_its_task_runs(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            stage.submitter.problems = [BackendUnavailable("throttled")]
            await stage.store.update_task(task_arn(), lambda _: a_task())
            await stage.attachments.announce([an_attachment(jumping.clock)])
            stage.interfaces.appear(MAC)
            await asyncio.sleep(0.01)
            await stage.outbox.report(a_report(RUNNING, app=RUNNING))
            await asyncio.sleep(10)
            return stage.submitter.said()

    assert jumping.run(story()) == ["ATTACHED", "RUNNING"]


def test_an_interface_of_the_machine_itself_is_told_as_one(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.attachments.announce([an_attachment(jumping.clock, owner="")])
            stage.interfaces.appear(MAC)
            await asyncio.sleep(0.01)
            return stage.submitter.accepted

    assert jumping.run(story()) == [
        {"cluster": "prod", "attachments": [{"attachmentArn": "arn:attachment", "status": "ATTACHED"}]}
    ]


def test_a_refused_task_is_told_once_and_until_it_is_accepted(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            stage.submitter.problems = [BackendUnavailable("away")] * 5
            for _ in range(3):
                stage.outbox.refuse(task_arn(), "UnrecogniedTaskError: Error loading task - no containers")
            await asyncio.sleep(60)
            return stage.submitter.said()

    assert jumping.run(story()) == ["STOPPED"]


def test_an_outage_of_a_day_costs_one_call_per_task_in_the_end(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.store.update_task(task_arn(), lambda _: a_task())
            stage.submitter.problems = [BackendUnavailable("away")] * 100_000
            for status in [RUNNING] * 1000:
                with pytest.raises(BackendUnavailable):
                    await stage.outbox.report(a_report(status, app=status))
                await asyncio.sleep(86)
            stage.submitter.problems.clear()
            await stage.outbox.report(a_report(STOPPED, app=STOPPED))
            return stage.submitter.said(), len(stage.documents.documents)

    assert jumping.run(story()) == (["STOPPED"], 1)


def test_errands_share_the_line_with_at_most_ten(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            stage.submitter.takes = 1.0
            for number in range(50):
                stage.outbox.refuse(task_arn(number), "UnrecogniedTaskError: Error loading task - x")
            await asyncio.sleep(20)
            return len(stage.submitter.accepted), stage.submitter.most_at_once

    assert jumping.run(story()) == (50, 10)


def test_an_errand_that_meets_a_bug_or_a_full_disk_ends_nothing_and_is_tried_again(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            stage.submitter.problems = [ValueError("a bug")]
            stage.outbox.refuse(task_arn(), "UnrecogniedTaskError: Error loading task - x")
            await asyncio.sleep(5)
            await stage.attachments.announce([an_attachment(jumping.clock, task_arn(2))])
            stage.documents.failures = 2
            stage.interfaces.appear(MAC)
            await asyncio.sleep(10)
            (record,) = stage.store.attachments()
            return stage.submitter.said(), record.is_told

    assert jumping.run(story()) == (["STOPPED", "ATTACHED"], True)


def test_the_end_of_a_task_is_one_write(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.store.update_task(task_arn(), lambda _: a_task())
            stage.documents.failures = 1
            with pytest.raises(CheckpointFailed):
                await stage.outbox.report(a_report(STOPPED, app=STOPPED))
        async with a_stage(jumping.clock, stage.documents) as again:
            assert [each.arn for each in again.store.tasks()] == [task_arn()], "nothing was written"
            await again.outbox.report(a_report(STOPPED, app=STOPPED))
            return again.store.tasks()

    assert jumping.run(story()) == ()


def test_attachments_of_tasks_that_never_come_do_not_pile_up(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            for number in range(50):
                mac = MacAddress(f"0a:00:00:00:01:{number:02x}")
                expires_at = jumping.clock.now() + timedelta(minutes=5)
                await stage.attachments.announce(
                    [AttachmentRecord(f"a-{number}", mac, task_arn(number), expires_at)]
                )
                stage.interfaces.appear(mac)
                await asyncio.sleep(60)
            assert stage.submitter.said() == ["ATTACHED"] * 50
            await asyncio.sleep(400)
            return stage.store.attachments(), stage.documents.documents["attachments"]["attachments"]

    assert jumping.run(story()) == ((), [])


def test_the_attachment_of_a_live_task_is_known_for_as_long_as_the_task(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.store.update_task(task_arn(), lambda _: a_task())
            await stage.attachments.announce([an_attachment(jumping.clock)])
            stage.interfaces.appear(MAC)
            await asyncio.sleep(3600)
            assert len(stage.store.attachments()) == 1
            await stage.outbox.report(a_report(STOPPED, app=STOPPED))
            return stage.store.attachments()

    assert jumping.run(story()) == ()


def test_an_address_that_gets_another_attachment_while_the_old_one_is_told_loses_neither(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            stage.submitter.takes = 1.0
            await stage.attachments.announce([an_attachment(jumping.clock)])
            stage.interfaces.appear(MAC)
            await asyncio.sleep(0.5)
            newer = replace(an_attachment(jumping.clock, task_arn(2)), arn="arn:newer")
            await stage.attachments.announce([newer])
            await asyncio.sleep(5)
            told = [change["attachments"][0]["attachmentArn"] for change in stage.submitter.accepted]
            (record,) = stage.store.attachments()
            return told, record.arn, record.is_told

    assert jumping.run(story()) == (["arn:attachment", "arn:newer"], "arn:newer", True)


def test_refusals_that_cannot_be_told_are_bounded(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            stage.submitter.problems = [BackendUnavailable("away")] * 100_000
            for number in range(REFUSALS_REMEMBERED + 50):
                stage.outbox.refuse(task_arn(number), "UnrecogniedTaskError: Error loading task - x")
            stage.submitter.problems.clear()
            await asyncio.sleep(120)
            assert len(stage.submitter.accepted) == REFUSALS_REMEMBERED
            stage.outbox.refuse(
                task_arn(REFUSALS_REMEMBERED + 1), "UnrecogniedTaskError: Error loading task - x"
            )
            await asyncio.sleep(60)
            return len(stage.submitter.accepted) - REFUSALS_REMEMBERED

    assert jumping.run(story()) == 1


def test_a_disk_that_stays_full_is_not_written_to_all_the_time(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.attachments.announce([an_attachment(jumping.clock, seconds=5)])
            tried = []
            save = stage.documents.save

            async def counted(name, document):
                tried.append(name)
                await save(name, document)

            stage.documents.save, stage.documents.is_full = counted, True
            await asyncio.sleep(600)
            stage.documents.is_full = False
            await asyncio.sleep(60)
            return len(tried), stage.store.attachments()

    tries, left = jumping.run(story())
    assert tries <= 25
    assert left == ()


def test_refusals_that_will_never_be_accepted_make_room_for_others(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            stage.submitter.problems = [ReportRejected("no such task")] * REFUSALS_REMEMBERED
            for number in range(REFUSALS_REMEMBERED):
                stage.outbox.refuse(task_arn(number), "UnrecogniedTaskError: Error loading task - x")
            await asyncio.sleep(60)
            stage.outbox.refuse(task_arn(REFUSALS_REMEMBERED), "UnrecogniedTaskError: Error loading task - x")
            await asyncio.sleep(1)
            return stage.submitter.said()

    assert jumping.run(story()) == ["STOPPED"]


def test_only_what_was_told_says_that_the_cluster_answers(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.store.update_task(task_arn(), lambda _: a_task())
            return [
                await stage.outbox.report(a_report(status, app=container))
                for status, container in (
                    (PENDING, PENDING),
                    (PENDING, RUNNING),
                    (RUNNING, RUNNING),
                    (RUNNING, RUNNING),
                )
            ]

    assert jumping.run(story()) == [False, False, True, False]


def test_what_cannot_be_tidied_after_the_end_of_a_task_is_tidied_later(jumping):
    async def story():
        async with a_stage(jumping.clock) as stage:
            await stage.store.update_task(task_arn(), lambda _: a_task())
            await stage.attachments.announce([an_attachment(jumping.clock)])
            stage.interfaces.appear(MAC)
            await asyncio.sleep(1)
            save = stage.documents.save

            async def failing(name, document):
                if name == "attachments":
                    raise CheckpointFailed("cannot write attachments: Input/output error")
                await save(name, document)

            stage.documents.save = failing
            await stage.outbox.report(a_report(STOPPED, app=STOPPED))
            assert stage.store.tasks() == ()
            stage.documents.save = save
            await asyncio.sleep(400)
            return stage.store.attachments()

    assert jumping.run(story()) == ()
