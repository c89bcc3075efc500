"""What the agent must still know after a restart: itself, its tasks, its attachments."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog

from agent.adapters.ecs.change import Change
from agent.adapters.ecs.records import (
    NO_MANIFEST,
    AttachmentRecord,
    InstanceRecord,
    RecordInvalid,
    TaskRecord,
    attachments_document,
    instance_document,
    over,
    read_attachments,
    read_instance,
    read_task_record,
    task_document,
)
from agent.model.ids import MacAddress, TaskArn, task_id
from agent.ports.clock import Clock
from agent.ports.documents import Document, DocumentStore

log = structlog.get_logger()

REMEMBERED_FOR = timedelta(hours=24)
REMEMBERED_AT_MOST = 2000
"""How long ended tasks are known again, and how many, so that a late payload does not start one anew."""

_INSTANCE, _ATTACHMENTS, _TASK = "instance", "attachments", "task-"


class Store:
    """Answers from memory; every change is on the disk when its coroutine returns (``CheckpointFailed``).

    ``open`` comes first. ``tasks_changed`` is notified after each change of the tasks that should be here.
    """

    def __init__(self, documents: DocumentStore, clock: Clock, tasks_changed: Change) -> None:
        self._documents = documents
        self._clock = clock
        self._tasks_changed = tasks_changed
        self._instance: InstanceRecord | None = None
        self._attachments: dict[MacAddress, AttachmentRecord] = {}
        self._tasks: dict[TaskArn, TaskRecord] = {}
        self.is_whole = True

    async def open(self) -> None:
        """Read everything. Damaged documents are set aside; then ``is_whole`` is False."""
        found = await self._documents.load_all()
        self.is_whole = not found.set_aside
        for name, document in found.documents.items():
            try:
                self._take(name, document)
            except RecordInvalid as problem:
                self.is_whole = False
                log.warning("record.unusable", record=name, problem=str(problem))
        await self._forget_old_tasks()

    # -- this machine --------------------------------------------------------------------------

    @property
    def instance(self) -> InstanceRecord | None:
        """Who this machine is. None: it has never been in a cluster."""
        return self._instance

    async def save_instance(self, record: InstanceRecord) -> None:
        """Remember who this machine is."""
        self._instance = record
        await self._documents.save(_INSTANCE, instance_document(record))

    @property
    def manifest_sequence(self) -> int:
        """The highest number of a manifest or payload so far."""
        return self._instance.manifest_sequence if self._instance is not None else NO_MANIFEST

    async def raise_manifest_sequence(self, sequence: int) -> None:
        """Remember the number, if it is higher."""
        if self._instance is not None and sequence > self._instance.manifest_sequence:
            await self.save_instance(replace(self._instance, manifest_sequence=sequence))

    async def forget_everything(self) -> None:
        """This is another machine than the one that was remembered."""
        for arn in self._tasks:
            await self._documents.forget(_name(arn))
        await self._documents.forget(_ATTACHMENTS)
        await self._documents.forget(_INSTANCE)
        self._instance, self._attachments, self._tasks = None, {}, {}

    # -- tasks ---------------------------------------------------------------------------------

    def task(self, arn: TaskArn) -> TaskRecord | None:
        """The record of a task, also of one that has ended lately."""
        return self._tasks.get(arn)

    def tasks(self) -> tuple[TaskRecord, ...]:
        """The tasks that have not ended, in the order of their assignment."""
        return tuple(each for each in self._tasks.values() if not each.is_over)

    async def save_task(self, record: TaskRecord) -> None:
        """Remember a task, or what has changed about it."""
        before = self._tasks.get(record.arn)
        self._tasks[record.arn] = record
        await self._documents.save(_name(record.arn), task_document(record))
        if before is None or before.stop != record.stop:
            self._tasks_changed.notify()

    async def end_task(self, arn: TaskArn) -> None:
        """Everything was said of the task: keep just enough to know it again."""
        record = self._tasks.get(arn)
        if record is not None:
            await self.save_task(over(record, self._clock.now()))
            await self.forget_attachments_of(arn)
            await self._forget_old_tasks()

    # -- attachments ---------------------------------------------------------------------------

    def attachment(self, mac: MacAddress) -> AttachmentRecord | None:
        """The attachment of the interface with that address."""
        return self._attachments.get(mac)

    def attachments(self) -> tuple[AttachmentRecord, ...]:
        """All attachments."""
        return tuple(self._attachments.values())

    async def save_attachment(self, record: AttachmentRecord) -> None:
        """Remember an attachment, or what has changed about it."""
        self._attachments[record.mac_address] = record
        await self._save_attachments()

    async def forget_attachment(self, mac: MacAddress) -> None:
        """The attachment has expired."""
        if self._attachments.pop(mac, None) is not None:
            await self._save_attachments()

    async def forget_attachments_of(self, arn: TaskArn) -> None:
        """The task has ended: its interfaces are no longer ours."""
        left = {mac: each for mac, each in self._attachments.items() if each.task_arn != arn}
        if len(left) < len(self._attachments):
            self._attachments = left
            await self._save_attachments()

    async def _save_attachments(self) -> None:
        await self._documents.save(_ATTACHMENTS, attachments_document(self.attachments()))

    # -- within --------------------------------------------------------------------------------

    def _take(self, name: str, document: Document) -> None:
        if name == _INSTANCE:
            self._instance = read_instance(document)
        elif name == _ATTACHMENTS:
            self._attachments = {each.mac_address: each for each in read_attachments(document)}
        elif name.startswith(_TASK):
            record = read_task_record(document)
            self._tasks[record.arn] = record
        else:
            log.warning("record.unusable", record=name, problem="no document of this agent")

    async def _forget_old_tasks(self) -> None:
        ended = sorted(
            ((each.ended_at, arn) for arn, each in self._tasks.items() if each.ended_at is not None),
            reverse=True,
        )
        now = self._clock.now()
        for number, (ended_at, arn) in enumerate(ended):
            if number >= REMEMBERED_AT_MOST or now - ended_at > REMEMBERED_FOR:
                del self._tasks[arn]
                await self._documents.forget(_name(arn))


def _name(arn: TaskArn) -> str:
    return f"{_TASK}{task_id(arn)}"


def changed_instance(record: InstanceRecord | None, **fields: Any) -> InstanceRecord:
    """The record with other values, or a first one (then ``cluster`` is needed)."""
    return InstanceRecord(**fields) if record is None else replace(record, **fields)
