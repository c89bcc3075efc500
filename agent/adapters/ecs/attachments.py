"""The ENIs that the cluster attaches to this machine, and when each appears (ecs-protocol 2.4 and 2.5)."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from agent.adapters.ecs.outbox import Outbox
from agent.adapters.ecs.records import AttachmentRecord
from agent.adapters.ecs.store import Store
from agent.model.ids import MacAddress
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
        """Expect these interfaces. One that is expected already gets the newer time limit."""
        for record in records:
            known = self._store.attachment(record.mac_address)
            if known is not None and known.arn == record.arn:
                record = replace(known, expires_at=record.expires_at)  # noqa: PLW2901
            await self._store.save_attachment(record)
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
            return self._clock.now() + self._patience
        return known.expires_at

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
            now = self._clock.now()
            for record in self._store.attachments():
                if record.is_told:
                    continue
                if now < record.expires_at:
                    self._look_for(record.mac_address)
                    continue
                await self._store.forget_attachment(record.mac_address)
                log.warning("attachment.expired", attachment=record.arn, mac_address=record.mac_address)
            await asyncio.sleep(self._until_next(now))

    def _until_next(self, now: datetime) -> float:
        waits = [
            (each.expires_at - now).total_seconds() for each in self._store.attachments() if not each.is_told
        ]
        return max(0.1, min([LOOK_EVERY, *waits]))
