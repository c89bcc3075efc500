"""What the agent must still know after a restart: itself, its tasks, its attachments."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

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
    read_attachments,
    read_instance,
    read_task_record,
    task_document,
)
from agent.model.errors import CheckpointFailed
from agent.model.ids import MacAddress, TaskArn, task_id
from agent.ports.clock import Clock
from agent.ports.documents import Document, DocumentStore

log = structlog.get_logger()

REMEMBERED_FOR = timedelta(hours=24)
REMEMBERED_AT_MOST = 2000
"""How long ended tasks are known again, and how many, so that a late payload does not start one anew."""

_INSTANCE, _ATTACHMENTS, _TASK = "instance", "attachments", "task-"


class Store:
    """Answers from memory what is on the disk: a change counts when it has been written, never before.

    Changes are made one after another, each upon what the one before has left, so that none is lost. They
    raise ``CheckpointFailed``, and then nothing has changed. ``open`` comes first. ``tasks_changed`` is
    notified when other tasks should be here than before.
    """

    def __init__(self, documents: DocumentStore, clock: Clock, tasks_changed: Change) -> None:
        self._documents = documents
        self._clock = clock
        self._tasks_changed = tasks_changed
        self._turn = asyncio.Lock()
        self._instance: InstanceRecord | None = None
        self._attachments: dict[MacAddress, AttachmentRecord] = {}
        self._tasks: dict[TaskArn, TaskRecord] = {}
        self.is_whole = True

    async def open(self) -> None:
        """Read everything. What is damaged is set aside; then ``is_whole`` is False until the next start."""
        found = await self._documents.load_all()
        self.is_whole = not found.set_aside
        for name, document in found.documents.items():
            try:
                self._take(name, document)
            except RecordInvalid as problem:
                self.is_whole = False
                await self._documents.set_aside(name, str(problem))
        await self._forget_old_tasks()

    # -- this machine --------------------------------------------------------------------------

    @property
    def instance(self) -> InstanceRecord | None:
        """Who this machine is. None: it has never been in a cluster."""
        return self._instance

    @property
    def manifest_sequence(self) -> int:
        """The highest number of a manifest or payload so far."""
        return self._instance.manifest_sequence if self._instance is not None else NO_MANIFEST

    async def update_instance(self, change: Callable[[InstanceRecord | None], InstanceRecord | None]) -> None:
        """Remember who this machine is. ``change`` gives the new record, or None to leave it as it is."""
        async with self._turn:
            record = change(self._instance)
            if record is not None and record != self._instance:
                await self._documents.save(_INSTANCE, instance_document(record))
                self._instance = record

    async def forget_everything(self) -> None:
        """This is another machine than the one that was remembered."""
        async with self._turn:
            for arn in tuple(self._tasks):
                await self._documents.forget(_name(arn))
                del self._tasks[arn]
            await self._documents.forget(_ATTACHMENTS)
            self._attachments = {}
            # the last, so that a crash before it leaves a machine that is still seen to be another one
            await self._documents.forget(_INSTANCE)
            self._instance = None

    # -- tasks ---------------------------------------------------------------------------------

    def task(self, arn: TaskArn) -> TaskRecord | None:
        """The record of a task, also of one that has ended lately."""
        return self._tasks.get(arn)

    def tasks(self) -> tuple[TaskRecord, ...]:
        """The tasks that have not ended."""
        return tuple(each for each in self._tasks.values() if not each.is_over)

    async def update_task(
        self, arn: TaskArn, change: Callable[[TaskRecord | None], TaskRecord | None]
    ) -> TaskRecord | None:
        """Remember a task, or what has changed about it; the record afterwards.

        ``change`` is given the record as it is then, and gives the new one, or None to leave it.
        """
        async with self._turn:
            before = self._tasks.get(arn)
            record = change(before)
            if record is None or record == before:
                return before
            await self._documents.save(_name(arn), task_document(record))
            self._tasks[arn] = record
            if before is None or before.stop != record.stop or record.is_over:
                self._tasks_changed.notify()
        if record.is_over:
            await self._tidy_after(arn)
        return record

    # -- attachments ---------------------------------------------------------------------------

    def attachment(self, mac: MacAddress) -> AttachmentRecord | None:
        """The attachment of the interface with that address."""
        return self._attachments.get(mac)

    def attachments(self) -> tuple[AttachmentRecord, ...]:
        """All attachments."""
        return tuple(self._attachments.values())

    async def update_attachment(
        self, mac: MacAddress, change: Callable[[AttachmentRecord | None], AttachmentRecord | None]
    ) -> None:
        """Remember an attachment, or what has changed about it. ``change``: as for ``update_task``."""
        async with self._turn:
            record = change(self._attachments.get(mac))
            if record is not None and record != self._attachments.get(mac):
                await self._save_attachments({**self._attachments, mac: record})

    async def forget_attachments(self, is_over: Callable[[AttachmentRecord], bool]) -> None:
        """Forget those of which that is true when it is their turn."""
        async with self._turn:
            left = {mac: each for mac, each in self._attachments.items() if not is_over(each)}
            if len(left) < len(self._attachments):
                await self._save_attachments(left)

    async def _save_attachments(self, records: dict[MacAddress, AttachmentRecord]) -> None:
        await self._documents.save(_ATTACHMENTS, attachments_document(tuple(records.values())))
        self._attachments = records

    async def _tidy_after(self, arn: TaskArn) -> None:
        try:
            await self.forget_attachments(lambda each: each.task_arn == arn)
            await self._forget_old_tasks()
        except CheckpointFailed as error:
            # The change itself has been made; what is left over is looked at again later.
            log.warning("record.kept", task_id=task_id(arn), reason=str(error))

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
            log.warning("record.unknown", record=name)

    async def _forget_old_tasks(self) -> None:
        async with self._turn:
            now = self._clock.now()
            ended = sorted(
                ((each.ended_at, arn) for arn, each in self._tasks.items() if each.ended_at is not None),
                reverse=True,
            )
            for number, (ended_at, arn) in enumerate(ended):
                if number >= REMEMBERED_AT_MOST or now - ended_at > REMEMBERED_FOR:
                    await self._documents.forget(_name(arn))
                    del self._tasks[arn]


def _name(arn: TaskArn) -> str:
    return f"{_TASK}{task_id(arn)}"
