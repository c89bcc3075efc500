"""EC2's part: every task's network interface is made, and removed after it, whatever fails in between."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from agent.adapters.local.database import DatabaseFailed
from agent.adapters.local.ledger import Ledger
from agent.adapters.local.progress import interface_made, interface_removed
from agent.adapters.local.records import AttachmentRecord, TaskRecord
from agent.adapters.local.store import Store
from agent.adapters.local.vpc.errors import VpcError
from agent.adapters.local.vpc.plan import DEFAULT_MTU, InterfacePlan
from agent.model.progress import Loop, Progress

log = structlog.get_logger()

_FIRST_RETRY, _LAST_RETRY = 0.2, 10.0  # seconds
_LONGEST_WAIT = 30.0
_SWEEP_EVERY = 600.0


class ElasticNetwork(Protocol):
    """What is needed of the simulated VPC. Every verb may be repeated and raises ``VpcError``."""

    async def ensure(self) -> None:
        """The router of the VPC is there."""

    async def ensure_interface(self, eni: InterfacePlan) -> None:
        """The interface exists, on the machine or in a task already."""

    async def remove_interface(self, eni_id: str) -> None:
        """The interface is gone, wherever it was."""

    async def interfaces(self) -> frozenset[str]:
        """The ids of the tasks' interfaces that exist."""

    async def ensure_instance_interface(self, eni: InterfacePlan) -> None:
        """The machine itself is a host of the VPC."""


@dataclass(frozen=True, slots=True)
class _Retry:
    failures: int
    not_before: float


class InterfaceKeeper:
    """Compares what the store says with what was done, and closes the gap. One interface, one step at a time.

    ``mtu`` None: as the VPC does by default.
    """

    def __init__(
        self, store: Store, vpc: ElasticNetwork, mtu: int | None = None, progress: Progress | None = None
    ) -> None:
        self._store = store
        self._vpc = vpc
        self._progress = progress or Progress()
        self._mtu = mtu if mtu is not None else DEFAULT_MTU
        self._changed = asyncio.Event()
        self._made: set[str] = set()
        self._busy: set[str] = set()
        self._retries: dict[str, _Retry] = {}

    def look(self) -> None:
        """Something may have changed."""
        self._changed.set()

    async def orphans(self) -> tuple[str, ...]:
        """The ids of interfaces that belong to no task, sorted. Raise ``VpcError`` or ``DatabaseFailed``."""
        made = await self._vpc.interfaces()
        # Asked after the look, since a record comes before its interface.
        attachments = await self._store.transact(Ledger.live_attachments)
        orphans = made - {one.eni_id for one in attachments}
        # Looked at again: one that was being removed has gone before its record.
        return tuple(sorted(orphans & await self._vpc.interfaces())) if orphans else ()

    async def remove_orphans(self) -> None:
        """Remove interfaces that belong to no task. Raise ``VpcError`` or ``DatabaseFailed``."""
        for eni_id in await self.orphans():
            await self._vpc.remove_interface(eni_id)
            log.warning("interface.orphan_removed", eni_id=eni_id)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as steps:
            steps.create_task(self._sweep())
            with self._progress.watched("interfaces of the simulated VPC") as loop:
                await self._close_gaps(steps, loop)

    async def _close_gaps(self, steps: asyncio.TaskGroup, loop: Loop) -> None:
        while True:
            loop.beat(_LONGEST_WAIT)
            self._changed.clear()
            try:
                goals = await self._store.transact(Ledger.interface_goals)
                self._retries.pop("", None)
            except DatabaseFailed as failure:
                log.warning("interfaces.unreadable", problem=str(failure))
                goals = ()
                self._retries[""] = self._later("")
            for task_id, must_go in goals:
                if self._is_due(task_id) and (must_go or task_id not in self._made):
                    self._busy.add(task_id)
                    steps.create_task(self._step(task_id, self._remove if must_go else self._make))
            await self._wait()

    async def _wait(self) -> None:
        now = asyncio.get_running_loop().time()
        due = [one.not_before - now for key, one in self._retries.items() if key not in self._busy]
        try:
            async with asyncio.timeout(max(0.0, min(due, default=_LONGEST_WAIT))):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY)
            try:
                await self.remove_orphans()
            except (VpcError, OSError, DatabaseFailed) as problem:
                log.warning("interfaces.unswept", problem=str(problem))

    def _is_due(self, task_id: str) -> bool:
        retry = self._retries.get(task_id)
        is_early = retry is not None and asyncio.get_running_loop().time() < retry.not_before
        return task_id not in self._busy and not is_early

    async def _step(self, task_id: str, work: Callable[[str], Awaitable[None]]) -> None:
        try:
            await work(task_id)
            self._retries.pop(task_id, None)
        except (VpcError, OSError, DatabaseFailed) as problem:
            self._retries[task_id] = self._later(task_id)
            log.warning(
                "interface.step_failed",
                task_id=task_id,
                step=work.__name__.strip("_"),
                problem=str(problem),
                failures=self._retries[task_id].failures,
            )
        except Exception:
            # A bug about one interface must not end the care for all others.
            self._retries[task_id] = self._later(task_id)
            log.exception("interface.step_crashed", task_id=task_id, step=work.__name__.strip("_"))
        finally:
            self._busy.discard(task_id)
            self._changed.set()

    def _later(self, task_id: str) -> _Retry:
        before = self._retries.get(task_id)
        failures = before.failures + 1 if before is not None else 1
        delay = min(_LAST_RETRY, _FIRST_RETRY * 2 ** min(failures - 1, 10))
        return _Retry(failures, asyncio.get_running_loop().time() + delay)

    async def _make(self, task_id: str) -> None:
        attachment = await self._store.transact(lambda ledger: ledger.attachment_of(task_id))
        if attachment is None:
            return
        await self._vpc.ensure_interface(self._plan(attachment))
        await self._store.transact(lambda ledger: _note_made(ledger, task_id))
        # Only now: what was made and could not be written down must be tried again.
        self._made.add(task_id)

    async def _remove(self, task_id: str) -> None:
        attachment = await self._store.transact(lambda ledger: ledger.attachment_of(task_id))
        if attachment is None:
            return
        await self._vpc.remove_interface(attachment.eni_id)
        await self._store.transact(lambda ledger: _note_removed(ledger, task_id))
        self._made.discard(task_id)

    def _plan(self, attachment: AttachmentRecord) -> InterfacePlan:
        return InterfacePlan(
            eni_id=attachment.eni_id,
            subnet_id=attachment.subnet_id,
            mac_address=attachment.mac_address,
            ipv4_address=attachment.ipv4_address,
            ipv6_address=attachment.ipv6_address,
            mtu=self._mtu,
        )


def _note_made(ledger: Ledger, task_id: str) -> None:
    attachment, task = ledger.attachment_of(task_id), ledger.task(None, task_id)
    if attachment is not None and attachment.status == "PRECREATED":
        ledger.save_attachment(replace(attachment, status="ATTACHING"))
        ledger.note(task_id, "interface.made", attachment.eni_id)
    if task is not None:
        _save_if_new(ledger, task, interface_made(task))


def _note_removed(ledger: Ledger, task_id: str) -> None:
    attachment, task = ledger.attachment_of(task_id), ledger.task(None, task_id)
    if attachment is not None:
        ledger.save_attachment(replace(attachment, status="DELETED", released_at=ledger.now))
        ledger.note(task_id, "interface.removed", attachment.eni_id)
    if task is not None:
        stopped = interface_removed(task, ledger.now)
        _save_if_new(ledger, task, stopped)
        ledger.note(task_id, "task.stopped", stopped.stopped_reason or "")


def _save_if_new(ledger: Ledger, before: TaskRecord, after: TaskRecord) -> None:
    if after != before:
        ledger.save_task(after)
