"""Tells the cluster what is news, in order for each task, until it has been accepted."""

import asyncio
import random
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from agent.adapters.ecs.records import AttachmentRecord, Told
from agent.adapters.ecs.store import Store
from agent.adapters.ecs.wire import submissions
from agent.model.errors import BackendUnavailable, ReportRejected
from agent.model.ids import MacAddress, TaskArn, task_id
from agent.model.report import TaskReport
from agent.model.status import TaskStatus
from agent.ports.clock import Clock

log = structlog.get_logger()

FIRST_DELAY, LONGEST_DELAY, GROWTH = 1.0, 30.0, 1.3
AT_ONCE = 10
"""Seconds between tries, their growth, and how many calls are made side by side (ecs-protocol 1.7)."""

FLUSH_BETWEEN = (10.0, 30.0)
"""Seconds until container news leave that no news of their task took along (ecs-protocol 1.8)."""

REFUSALS_REMEMBERED = 1000


ATTACHMENT_CHANGES = "SubmitAttachmentStateChanges"
"""The operation that tells of the machine's own attachments (ecs-protocol 1.9)."""


class Submitter(Protocol):
    """The calls that tell the cluster something."""

    async def submit(self, body: dict[str, Any], *, operation: str = "SubmitTaskStateChange") -> None:
        """Make the call. Raise ``BackendUnavailable`` or ``ReportRejected``."""


@dataclass(frozen=True, slots=True)
class _Errand:
    """Something that is tried until it is done. ``do`` raises what a ``Submitter`` raises."""

    name: str
    do: Callable[[], Awaitable[None]]


class Outbox:
    """One call in flight per task. ``run`` carries what nobody waits for; ``report`` is for the reporter.

    ``cluster``: as it is configured, a name or an ARN.
    """

    def __init__(self, submitter: Submitter, store: Store, clock: Clock, *, cluster: str) -> None:
        self._submitter = submitter
        self._store = store
        self._clock = clock
        self._cluster = cluster
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._seen: dict[MacAddress, AttachmentRecord] = {}
        self._refused: OrderedDict[str, str] = OrderedDict()
        self._strangers: dict[TaskArn, Told] = {}
        self._errands: asyncio.Queue[_Errand] = asyncio.Queue()

    async def report(self, report: TaskReport) -> None:
        """Tell what is news about a task. Container news alone are kept for the next news of their task.

        Raise ``BackendUnavailable``, or ``ReportRejected`` if the cluster will never take it.
        """
        arn = report.task_arn
        async with self._turns[arn]:
            await self._tell_seen(arn)
            record = self._store.task(arn)
            if record is not None and record.is_over:
                return
            found = submissions.news(report, self._told(arn))
            if found.status:
                await self._tell_status(report, found)
            elif found.containers and record is not None:
                held = submissions.merged(record.held, found.containers)
                if held != record.held:
                    await self._store.save_task(replace(record, held=held))
        if report.status is TaskStatus.STOPPED:
            self._turns.pop(arn, None)

    def attachment_seen(self, record: AttachmentRecord) -> None:
        """The attachment's interface has appeared. Tell it as soon as possible, once. Never waits."""
        if record.is_told or record.mac_address in self._seen:
            return
        self._seen[record.mac_address] = record
        owner = record.task_arn
        self._errands.put_nowait(_Errand("attached", lambda: self._in_turn(owner)))

    def refuse(self, arn: TaskArn, reason: str) -> None:
        """The task cannot be begun: tell that it is STOPPED, once. Never waits."""
        if arn in self._refused:
            return
        self._refused[arn] = reason
        if len(self._refused) > REFUSALS_REMEMBERED:
            self._refused.popitem(last=False)
        change = submissions.refusal(self._cluster, arn, reason)
        self._errands.put_nowait(_Errand("refused", lambda: self._submitter.submit(change)))

    async def run(self) -> None:
        """Carry out errands and flush held news, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._flush_for_ever())
            while True:
                errand = await self._errands.get()
                group.create_task(self._keep_trying(errand))

    # -- errands -------------------------------------------------------------------------------

    async def _keep_trying(self, errand: _Errand) -> None:
        delay = FIRST_DELAY
        while True:
            try:
                async with self._slots:
                    await errand.do()
            except BackendUnavailable as error:
                log.warning("report.delayed", errand=errand.name, reason=str(error), retry_in=delay)
            except ReportRejected as error:
                log.warning("report.rejected", errand=errand.name, reason=str(error))
                return
            else:
                return
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311  # jitter is no secret
            delay = min(delay * GROWTH, LONGEST_DELAY)

    async def _in_turn(self, owner: str) -> None:
        async with self._turns[owner]:
            await self._tell_seen(owner)
        if self._store.task(TaskArn(owner)) is None:
            self._turns.pop(owner, None)  # its task may never come

    async def _tell_seen(self, owner: str) -> None:
        """Tell of the owner's interfaces that have appeared; those that are too late by now are not told."""
        for record in [each for each in self._seen.values() if each.task_arn == owner]:
            current = self._store.attachment(record.mac_address)
            if current is None or current.is_told or self._clock.now() >= current.expires_at:
                del self._seen[record.mac_address]
                continue
            try:
                await self._tell_attached(current)
            except ReportRejected as error:
                log.warning("report.rejected", errand="attached", reason=str(error))
            del self._seen[record.mac_address]
            await self._store.save_attachment(replace(current, is_told=True))
            log.info("attachment.told", attachment=current.arn, mac_address=current.mac_address)

    async def _tell_attached(self, record: AttachmentRecord) -> None:
        if record.task_arn:
            change = submissions.attached(self._cluster, record.task_arn, record.arn)
            await self._submitter.submit(change)
        else:
            change = submissions.machine_attached(self._cluster, record.arn)
            await self._submitter.submit(change, operation=ATTACHMENT_CHANGES)

    # -- tasks ---------------------------------------------------------------------------------

    def _told(self, arn: TaskArn) -> Told:
        record = self._store.task(arn)
        return record.told if record is not None else self._strangers.get(arn, Told())

    async def _tell_status(self, report: TaskReport, found: submissions.News) -> None:
        record = self._store.task(report.task_arn)
        held = record.held if record is not None else ()
        found = replace(found, containers=submissions.merged(held, found.containers))
        told = _with_containers(found)
        try:
            await self._submitter.submit(submissions.task_change(self._cluster, report, found))
        except ReportRejected:
            await self._remember(report.task_arn, told)
            raise
        await self._remember(report.task_arn, told)

    async def _remember(self, arn: TaskArn, told: Told) -> None:
        record = self._store.task(arn)  # anew: an order to stop may have come meanwhile
        if record is None:
            self._strangers[arn] = told
            if told.status == TaskStatus.STOPPED:
                del self._strangers[arn]
            return
        await self._store.save_task(replace(record, told=told, held=()))
        if told.status == TaskStatus.STOPPED:
            await self._store.end_task(arn)

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(*FLUSH_BETWEEN))  # noqa: S311  # jitter is no secret
            for record in self._store.tasks():
                if record.held:
                    await self._flush(record.arn)

    async def _flush(self, arn: TaskArn) -> None:
        async with self._turns[arn]:
            record = self._store.task(arn)
            if record is None or not record.held or record.told.status == TaskStatus.STOPPED:
                return
            change = submissions.containers_change(self._cluster, arn, record.told.status, record.held)
            try:
                await self._submitter.submit(change)
            except BackendUnavailable as error:
                log.warning("report.delayed", errand="containers", task_id=task_id(arn), reason=str(error))
                return
            except ReportRejected as error:
                log.warning("report.rejected", errand="containers", task_id=task_id(arn), reason=str(error))
            statuses = {each["containerName"]: each["status"] for each in record.held}
            told = Told(record.told.status, {**record.told.containers, **statuses})
            current = self._store.task(arn)
            if current is not None:
                await self._store.save_task(replace(current, told=told, held=()))


def _with_containers(found: submissions.News) -> Told:
    statuses = {each["containerName"]: each["status"] for each in found.containers}
    return Told(found.told.status, {**found.told.containers, **statuses})
