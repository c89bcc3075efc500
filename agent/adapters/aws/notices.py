"""What the instance metadata service announces: that the instance will be taken away, or put into service."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import structlog

from agent.adapters.aws.imds import InstanceMetadata, MetadataUnavailable
from agent.model.errors import CannotStart
from agent.ports.clock import Clock

log = structlog.get_logger()

SPOT_ACTIONS = frozenset({"terminate", "stop", "hibernate"})
"""What a spot interruption may be (ecs-protocol 1.9)."""

SCHEDULED_ENDS = {"instance-retirement": "terminate", "instance-stop": "stop"}
"""Codes of scheduled events that take the instance away, and what they amount to. The others let it live."""

_SPOT = "meta-data/spot/instance-action"
_SCHEDULED = "meta-data/events/maintenance/scheduled"
_LIFECYCLE = "meta-data/autoscaling/target-lifecycle-state"
_IN_SERVICE = "InService"
_TOO_MANY_REQUESTS, _SERVER_ERROR = 429, 500


@dataclass(frozen=True, slots=True)
class Notice:
    """The instance will be taken away. ``source``: ``spot`` or ``scheduled``. ``at`` may be unknown."""

    action: str
    at: datetime | None
    source: str


@dataclass(frozen=True, slots=True)
class Watching:
    """``spot`` and ``scheduled``: seconds between two looks.

    ``lead``: how long before its time a scheduled event counts. It may be announced two weeks ahead, and the
    instance is useful until then.
    """

    spot: float = 1.0
    scheduled: float = 60.0
    lead: timedelta = timedelta(minutes=15)


_WATCHING = Watching()


class Notices:
    """Reads announcements. One that is not understood is ignored and named once, however often it is seen."""

    def __init__(self, metadata: InstanceMetadata, clock: Clock, *, lead: timedelta = _WATCHING.lead) -> None:
        self._metadata = metadata
        self._clock = clock
        self._lead = lead
        self._named: set[tuple[str, str]] = set()

    async def spot(self) -> Notice | None:
        """The spot interruption that is announced now."""
        document = await self._document(_SPOT)
        if document is None:
            return None
        if not isinstance(document, dict):
            self._ignore("spot", f"expected a JSON object, found {type(document).__name__}")
            return None
        action = document.get("action")
        if not isinstance(action, str) or action not in SPOT_ACTIONS:
            expected = ", ".join(sorted(SPOT_ACTIONS))
            self._ignore("spot", f"action {str(action)[:80]!r}: expected one of {expected}")
            return None
        return Notice(action, _iso_time(document.get("time")), "spot")

    async def scheduled(self) -> Notice | None:
        """The scheduled event that ends the instance soonest, if it begins within ``lead``."""
        document = await self._document(_SCHEDULED)
        if document is None:
            return None
        if not isinstance(document, list):
            self._ignore("scheduled", f"expected a JSON list, found {type(document).__name__}")
            return None
        near = [
            each for each in self._ends(document) if each.at and each.at - self._clock.now() <= self._lead
        ]
        return min(near, key=lambda each: each.at or self._clock.now(), default=None)

    def _ends(self, events: list[Any]) -> Iterator[Notice]:
        for event in events:
            if not isinstance(event, dict):
                self._ignore("scheduled", f"expected a JSON object, found {type(event).__name__}")
                continue
            code, state = event.get("Code"), event.get("State")
            if state != "active" or code not in SCHEDULED_ENDS:
                continue
            at = _rfc_time(event.get("NotBefore"))
            if at is None:
                self._ignore(
                    "scheduled", f"{code}: NotBefore: expected a time such as 21 Jan 2026 09:00:43 GMT"
                )
                continue
            yield Notice(SCHEDULED_ENDS[code], at, "scheduled")

    async def _document(self, path: str) -> Any:
        text = await self._metadata.text(path)
        if text is None:
            return None
        try:
            return json.loads(text)
        except ValueError as error:
            self._ignore("spot" if path == _SPOT else "scheduled", f"expected JSON: {error}")
            return None

    def _ignore(self, source: str, problem: str) -> None:
        if (source, problem) not in self._named:
            self._named.add((source, problem))
            log.warning("notice.ignored", source=source, problem=problem)


async def watch_spot(metadata: InstanceMetadata, clock: Clock, watching: Watching = _WATCHING) -> Notice:
    """Wait until it is announced that the instance will be taken away, for as long as that takes."""
    notices = Notices(metadata, clock, lead=watching.lead)
    loop = asyncio.get_running_loop()
    next_scheduled = loop.time()
    while True:
        notice = await notices.spot()
        if notice is None and loop.time() >= next_scheduled:
            next_scheduled = loop.time() + watching.scheduled
            notice = await notices.scheduled()
        if notice is not None:
            at = notice.at.isoformat() if notice.at else None
            log.warning("notice.received", source=notice.source, action=notice.action, at=at)
            return notice
        await asyncio.sleep(watching.spot)


async def in_service(metadata: InstanceMetadata, *, every: float = 60.0, unknown: int = 120) -> None:
    """Return when the Auto Scaling group wants the instance in service (ecs-protocol 0.1, step 9).

    Seconds ``every`` lie between two looks. That no state is known yet is accepted ``unknown`` times in all;
    then the wait for the state ``InService`` has no end, because a warm instance may wait for days. Raise
    ``CannotStart`` if the service is not there or refuses.
    """
    told: str | None = None
    while True:
        state = await _lifecycle_state(metadata)
        if state == _IN_SERVICE:
            return
        if state is None:
            unknown -= 1
            if unknown < 0:
                raise CannotStart(
                    "ECS_WARM_POOLS_CHECK is true, and the instance metadata service still knows no state of "
                    "an Auto Scaling group for this instance; it seems to be in none",
                    is_final=True,
                )
        elif state and state != told:
            told = state
            log.info("service.awaited", state=state)
        await asyncio.sleep(every)


async def _lifecycle_state(metadata: InstanceMetadata) -> str | None:
    """None: no state is known (404). Empty: the service is busy, and asking again will help."""
    try:
        content = await metadata.fetch(_LIFECYCLE)
    except MetadataUnavailable as error:
        is_busy = error.status is None or error.status == _TOO_MANY_REQUESTS or error.status >= _SERVER_ERROR
        if error.is_absent or not is_busy:
            raise CannotStart(
                f"ECS_WARM_POOLS_CHECK is true, but the state of this instance cannot be had: {error}",
                is_final=True,
            ) from error
        log.warning("metadata.missed", path=_LIFECYCLE, reason=str(error))
        return ""
    return None if content is None else content.decode(errors="replace").strip()


def _iso_time(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _rfc_time(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        time = parsedate_to_datetime(text)
    except ValueError:
        return None
    return time.astimezone(UTC) if time.tzinfo is not None else time.replace(tzinfo=UTC)
