"""Where the channels of this instance are: asked once for all who wait, remembered for half a day."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from agent.adapters.ecs.api import Api, ApiRefused, ApiUnreachable
from agent.ports.clock import Clock

log = structlog.get_logger()

VALIDITY = timedelta(hours=12)
"""How long an answer holds (ecs-protocol 1.5)."""
LIMIT = timedelta(seconds=126)
"""One question: three round trips of 42 s."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """URLs of the channels. ``telemetry`` empty: the answer has none."""

    control: str
    telemetry: str = ""

    def for_telemetry(self) -> str:
        """The telemetry channel's URL. Raise ``ApiUnreachable`` if there is none (ecs-protocol 1.5)."""
        if not self.telemetry:
            raise ApiUnreachable("no telemetry endpoint returned; nil", is_passing=False)
        return self.telemetry


@dataclass(frozen=True, slots=True)
class _Known:
    endpoints: Endpoints
    asked_at: datetime


class PollEndpoints:
    """``DiscoverPollEndpoint`` with a memory, by instance ARN."""

    def __init__(self, api: Api, cluster: str, clock: Clock) -> None:
        self._api = api
        self._cluster = cluster
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._flights: dict[str, asyncio.Future[Endpoints | ApiRefused | ApiUnreachable | None]] = {}

    async def get(self, instance_arn: str) -> Endpoints:
        """The endpoints, from memory if younger than 12 hours.

        An older answer is used when no new one is to be had. Raise ``ApiRefused`` or ``ApiUnreachable``.
        """
        while True:
            known = self._known.get(instance_arn)
            if known is not None and timedelta(0) <= self._clock.now() - known.asked_at < VALIDITY:
                return known.endpoints
            flight = self._flights.get(instance_arn)
            if flight is None:
                return await self._lead(instance_arn)
            await asyncio.wait({flight})
            outcome = flight.result()
            if isinstance(outcome, Endpoints):
                return outcome
            if outcome is not None:
                raise outcome.with_traceback(None)
            # the one who asked was cancelled: somebody else must ask

    async def _lead(self, arn: str) -> Endpoints:
        flight: asyncio.Future[Endpoints | ApiRefused | ApiUnreachable | None]
        flight = self._flights[arn] = asyncio.get_running_loop().create_future()
        outcome: Endpoints | ApiRefused | ApiUnreachable | None = None
        try:
            outcome = await self._new_or_expired(arn)
        except (ApiRefused, ApiUnreachable) as problem:
            outcome = problem
            raise
        finally:
            del self._flights[arn]
            flight.set_result(outcome)
        return outcome

    async def _new_or_expired(self, arn: str) -> Endpoints:
        expired = self._known.get(arn)
        try:
            endpoints = await self._ask(arn)
        except (ApiRefused, ApiUnreachable) as problem:
            if expired is None:
                raise
            log.warning("endpoints.reused", asked_at=expired.asked_at.isoformat(), problem=str(problem))
            return expired.endpoints
        if endpoints.telemetry:  # half an answer is good for now, not for half a day
            self._known[arn] = _Known(endpoints, self._clock.now())
        return endpoints

    async def _ask(self, arn: str) -> Endpoints:
        question = {"containerInstance": arn, "cluster": self._cluster, "zoneId": ""}
        try:
            async with asyncio.timeout(LIMIT.total_seconds()):
                answer = await self._api.call("DiscoverPollEndpoint", question)
        except TimeoutError as error:
            raise ApiUnreachable(
                f"DiscoverPollEndpoint: no answer within {LIMIT.total_seconds():.0f} s"
            ) from error
        control = _url(answer, "endpoint")
        if not control:
            raise ApiUnreachable("no endpoint returned; nil")
        return Endpoints(control, _url(answer, "telemetryEndpoint"))


def _url(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or not value.startswith(("https://", "http://")):
        raise ApiUnreachable(f"DiscoverPollEndpoint: {name} is {str(value)[:100]!r}, expected an https URL")
    return value
