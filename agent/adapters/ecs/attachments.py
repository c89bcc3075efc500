"""The ENIs that the cluster attaches to this machine, and when each appears (ecs-protocol 2.4 and 2.5)."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import structlog

from agent.adapters.ecs.outbox import Outbox
from agent.adapters.ecs.records import AttachmentRecord
from agent.adapters.ecs.store import Store
from agent.model.errors import CheckpointFailed
from agent.model.ids import MacAddress, TaskArn
from agent.ports.clock import Clock
from agent.ports.network import InterfaceWatcher

log = structlog.get_logger()

LOOK_EVERY = 30.0
"""Seconds between looks for attachments that have expired, and for interfaces that were missed."""


class Attachments:
    """Announced interfaces. One that does not appear in its time is forgotten, and never told as ATTACHED.

    ``patience``: how long a task waits for an interface that was not announced, or was told already.
    """

    def __init__(
        self, store: Store, interfaces: InterfaceWatcher, outbox: Outbox, clock: Clock, patience: timedelta
    ) -> None:
        self._store = store
        self._interfaces = interfaces
        self._outbox = outbox
        self._clock = clock
        self._patience = patience

    async def announce(self, records: Iterable[AttachmentRecord]) -> None:
        """Expect these interfaces. One that is expected already gets the newer time limit.

        Raise ``CheckpointFailed``.
        """
        for record in records:
            await self._store.update_attachment(record.mac_address, partial(_newer, announced=record))
            log.info(
                "attachment.announced",
                attachment=record.arn,
                mac_address=record.mac_address,
                expires_at=record.expires_at.isoformat(),
            )
            self._look_for(record.mac_address)

    def expires_at(self, mac: MacAddress) -> datetime:
        """Until when a task may wait for its interface."""
        known = self._store.attachment(mac)
        if known is None or known.is_told or self._interfaces.is_present(mac):
            return self.patient_until()
        return known.expires_at

    def patient_until(self) -> datetime:
        """Until when a task waits for an interface of which nothing is known, from now on."""
        return self._clock.now() + self._patience

    async def run(self) -> None:
        """Notice interfaces, and forget those that did not come, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._expire())
            async for mac in self._interfaces.appearances():
                self._look_for(mac)

    def _look_for(self, mac: MacAddress) -> None:
        record = self._store.attachment(mac)
        if record is None or record.is_told or not self._interfaces.is_present(mac):
            return
        if self._clock.now() >= record.expires_at:
            log.warning("attachment.late", attachment=record.arn, mac_address=mac)
            return
        self._outbox.attachment_seen(record)

    async def _expire(self) -> None:
        while True:
            try:
                await self._look_at_all()
                pause = self._until_next(self._clock.now())
            except CheckpointFailed as error:
                # They are still known, and are looked at again; a full disk is not written to all the time.
                log.error("attachment.kept", reason=str(error))  # noqa: TRY400
                pause = LOOK_EVERY
            await asyncio.sleep(pause)

    async def _look_at_all(self) -> None:
        now = self._clock.now()
        for record in self._store.attachments():
            if not record.is_told and now < record.expires_at:
                self._look_for(record.mac_address)
        late = [each for each in self._store.attachments() if not each.is_told and now >= each.expires_at]
        await self._store.forget_attachments(lambda each: self._is_over(each, now))
        for record in late:
            log.warning("attachment.expired", attachment=record.arn, mac_address=record.mac_address)

    def _is_over(self, record: AttachmentRecord, now: datetime) -> bool:
        """Whether nothing will come of it any more: too late, or told and of no task of this machine."""
        if now < record.expires_at:
            return False
        owner = self._store.task(TaskArn(record.task_arn))
        return not record.is_told or owner is None or owner.is_over

    def _until_next(self, now: datetime) -> float:
        waits = [
            (each.expires_at - now).total_seconds() for each in self._store.attachments() if not each.is_told
        ]
        return max(0.1, min([LOOK_EVERY, *waits]))


def _newer(known: AttachmentRecord | None, announced: AttachmentRecord) -> AttachmentRecord:
    if known is None or known.arn != announced.arn:
        return announced
    return replace(known, expires_at=announced.expires_at)
