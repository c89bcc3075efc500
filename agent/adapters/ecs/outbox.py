"""Tells the cluster what is news, in order for each task, until it has been accepted."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol
from weakref import WeakValueDictionary

import structlog

from agent.adapters.ecs.records import AttachmentRecord, TaskRecord, Told, over
from agent.adapters.ecs.store import Store
from agent.adapters.ecs.wire import submissions
from agent.model.errors import BackendUnavailable, CheckpointFailed, ReportRejected
from agent.model.ids import TaskArn, task_id
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
"""How many tasks are remembered that could not be read, so that each is told once."""

ATTACHMENT_CHANGES = "SubmitAttachmentStateChanges"
"""The operation that tells of the machine's own attachments (ecs-protocol 1.9)."""


class Submitter(Protocol):
    """The calls that tell the cluster something."""

    async def submit(self, body: dict[str, Any], *, operation: str = "SubmitTaskStateChange") -> None:
        """Make the call. Raise ``BackendUnavailable`` or ``ReportRejected``."""


@dataclass(frozen=True, slots=True)
class _Errand:
    """Something that is tried until it is done. ``do`` may raise anything, and is called again."""

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
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._seen: dict[str, AttachmentRecord] = {}
        self._refused: dict[TaskArn, bool] = {}
        self._strangers: dict[TaskArn, Told] = {}
        self._errands: asyncio.Queue[_Errand] = asyncio.Queue()

    async def report(self, report: TaskReport) -> bool:
        """Tell what is news about a task. Container news alone are kept for the next news of their task.

        Whether the cluster was told something just now. Raise ``BackendUnavailable``, ``CheckpointFailed``,
        or ``ReportRejected`` if the cluster will never take it.
        """
        arn = report.task_arn
        async with self._turn(arn):
            await self._tell_seen(arn)
            record = self._store.task(arn)
            if record is not None and record.is_over:
                return False
            found = submissions.news(report, self._told(arn))
            if found.status:
                await self._tell_status(report, found)
                return True
            if found.containers:
                await self._store.update_task(arn, lambda known: _holding(known, found))
            return False

    def attachment_seen(self, record: AttachmentRecord) -> None:
        """The attachment's interface has appeared. Tell it as soon as possible, once. Never waits."""
        if record.is_told or record.arn in self._seen:
            return
        self._seen[record.arn] = record
        self._errands.put_nowait(_Errand("attached", lambda: self._in_turn(record.task_arn)))

    def refuse(self, arn: TaskArn, reason: str) -> None:
        """The task could not be read: tell that it is STOPPED, once. Never waits.

        Nothing of it is on record: the cluster was not told that we took it, and sends it again.
        """
        if arn in self._refused:
            return
        if len(self._refused) >= REFUSALS_REMEMBERED:
            told = next((each for each, is_told in self._refused.items() if is_told), None)
            if told is None:
                log.warning("refusal.postponed", task_arn=arn, problem="too many are waiting to be told")
                return
            del self._refused[told]
        self._refused[arn] = False
        change = submissions.refusal(self._cluster, arn, reason)

        async def tell() -> None:
            try:
                await self._submitter.submit(change)
            except ReportRejected:
                self._refused[arn] = True
                raise
            self._refused[arn] = True

        self._errands.put_nowait(_Errand("refused", tell))

    def refusal_kept(self, arn: TaskArn) -> None:
        """A refusal is on record: tell it. Never waits."""
        self._errands.put_nowait(_Errand("refused", lambda: self._tell_refusal(arn)))

    async def run(self) -> None:
        """Carry out errands and flush held news, until cancelled."""
        for record in self._store.tasks():
            if record.refusal:
                self.refusal_kept(record.arn)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._flush_for_ever())
            while True:
                errand = await self._errands.get()
                group.create_task(self._keep_trying(errand))

    # -- errands -------------------------------------------------------------------------------

    async def _keep_trying(self, errand: _Errand) -> None:
        delay = FIRST_DELAY
        while True:
            if await self._is_done(errand, delay):
                return
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311  # jitter is no secret
            delay = min(delay * GROWTH, LONGEST_DELAY)

    async def _is_done(self, errand: _Errand, delay: float) -> bool:
        try:
            async with self._slots:
                await errand.do()
        except (BackendUnavailable, CheckpointFailed) as error:
            log.warning("report.delayed", errand=errand.name, reason=str(error), retry_in=round(delay, 1))
            return False
        except ReportRejected as error:
            log.warning("report.rejected", errand=errand.name, reason=str(error))
        except Exception:
            # A bug that one errand meets must not end the agent, nor be forgotten.
            log.exception("errand.crashed", errand=errand.name)
            return False
        return True

    async def _in_turn(self, owner: str) -> None:
        async with self._turn(owner):
            await self._tell_seen(owner)

    async def _tell_seen(self, owner: str) -> None:
        """Tell of the owner's interfaces that have appeared; those that are too late by now are not told."""
        for seen in [each for each in self._seen.values() if each.task_arn == owner]:
            current = self._store.attachment(seen.mac_address)
            is_wanted = current is not None and current.arn == seen.arn and not current.is_told
            if current is None or not is_wanted or self._clock.now() >= current.expires_at:
                del self._seen[seen.arn]
                if not seen.is_told:
                    log.warning("attachment.untold", attachment=seen.arn, mac_address=seen.mac_address)
                continue
            if not seen.is_told:
                await self._tell_attached(current)
                self._seen[seen.arn] = replace(seen, is_told=True)  # also if that cannot be written down
            await self._store.update_attachment(seen.mac_address, partial(_as_told, arn=seen.arn))
            del self._seen[seen.arn]
            log.info("attachment.told", attachment=seen.arn, mac_address=seen.mac_address)

    async def _tell_attached(self, record: AttachmentRecord) -> None:
        try:
            if record.task_arn:
                change = submissions.attached(self._cluster, record.task_arn, record.arn)
                await self._submitter.submit(change)
            else:
                change = submissions.machine_attached(self._cluster, record.arn)
                await self._submitter.submit(change, operation=ATTACHMENT_CHANGES)
        except ReportRejected as error:
            log.warning("report.rejected", errand="attached", reason=str(error))

    async def _tell_refusal(self, arn: TaskArn) -> None:
        record = self._store.task(arn)
        if record is None or record.is_over:
            return
        try:
            await self._submitter.submit(submissions.refusal(self._cluster, arn, record.refusal))
        except ReportRejected as error:
            log.warning("report.rejected", errand="refused", task_id=task_id(arn), reason=str(error))
        await self._remember(arn, Told(TaskStatus.STOPPED))

    # -- tasks ---------------------------------------------------------------------------------

    def _turn(self, owner: str) -> asyncio.Lock:
        """What keeps the calls about one task in their order; gone when nobody holds it or waits for it."""
        return self._turns.setdefault(owner, asyncio.Lock())

    def _told(self, arn: TaskArn) -> Told:
        record = self._store.task(arn)
        return record.told if record is not None else self._strangers.get(arn, Told())

    async def _tell_status(self, report: TaskReport, found: submissions.News) -> None:
        record = self._store.task(report.task_arn)
        held = record.held if record is not None else ()
        found = replace(found, containers=submissions.merged(held, found.containers))
        told = _with_containers(found.told, found.containers)
        try:
            await self._submitter.submit(submissions.task_change(self._cluster, report, found))
        except ReportRejected:
            await self._remember(report.task_arn, told)
            raise
        await self._remember(report.task_arn, told)

    async def _remember(self, arn: TaskArn, told: Told) -> None:
        """What the cluster knows now. With its end told, nothing but the task's name is kept."""
        is_end = told.status == TaskStatus.STOPPED
        if self._store.task(arn) is None:
            self._strangers[arn] = told
            if is_end:
                del self._strangers[arn]
            return
        now = self._clock.now()

        def remembered(known: TaskRecord | None) -> TaskRecord | None:
            if known is None:
                return None
            return over(replace(known, told=told), now) if is_end else replace(known, told=told, held=())

        await self._store.update_task(arn, remembered)

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(*FLUSH_BETWEEN))  # noqa: S311  # jitter is no secret
            async with asyncio.TaskGroup() as group:
                for record in self._store.tasks():
                    if record.held:
                        errand = _Errand("containers", partial(self._flush, record.arn))
                        group.create_task(self._is_done(errand, 0.0))

    async def _flush(self, arn: TaskArn) -> None:
        async with self._turn(arn):
            record = self._store.task(arn)
            if record is None or not record.held or record.told.status == TaskStatus.STOPPED:
                return
            change = submissions.containers_change(self._cluster, arn, record.told.status, record.held)
            try:
                await self._submitter.submit(change)
            except ReportRejected as error:
                log.warning("report.rejected", errand="containers", task_id=task_id(arn), reason=str(error))
            await self._remember(arn, _with_containers(record.told, record.held))


def _with_containers(told: Told, containers: tuple[dict[str, Any], ...]) -> Told:
    statuses = {each["containerName"]: each["status"] for each in containers}
    return Told(told.status, {**told.containers, **statuses})


def _holding(known: TaskRecord | None, found: submissions.News) -> TaskRecord | None:
    if known is None:
        return None
    return replace(known, held=submissions.merged(known.held, found.containers))


def _as_told(known: AttachmentRecord | None, arn: str) -> AttachmentRecord | None:
    return replace(known, is_told=True) if known is not None and known.arn == arn else None
