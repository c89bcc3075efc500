"""Fetches images: one pull per image at a time, tried again when that may help, no wait without a limit."""

import asyncio
import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
import structlog
from docker import APIClient, auth

from agent.adapters.docker.connection import Connection, Lane
from agent.adapters.docker.errors import refusal_in, said, translated
from agent.adapters.docker.images import Reference, Refusal, classify, explain, failure_in
from agent.adapters.docker.settings import CallLimits, DockerSettings
from agent.adapters.docker.streams import shut, wait_for_ever
from agent.adapters.docker.threads import Job
from agent.model.credentials import RegistryLogin
from agent.model.errors import CannotPullImage, RuntimeUnavailable, StepTimedOut
from agent.model.timeouts import go_duration, timed_out

log = structlog.get_logger()

_HOPELESS = frozenset({Refusal.AUTHENTICATION, Refusal.MISSING, Refusal.INVALID})
_LOOK_SECONDS = 0.5


class Puller:
    """Pulls into Docker's store. Callers who want the same image with the same login share one pull."""

    def __init__(self, connection: Connection, settings: DockerSettings) -> None:
        self._connection = connection
        self._host = settings.host
        self._limits = settings.limits
        self._policy = settings.pulls
        self._slots = asyncio.Semaphore(settings.pull_slots)
        self._flights: dict[tuple[str, RegistryLogin | None], _Flight] = {}

    async def pull(self, image: str, login: RegistryLogin | None) -> None:
        """Return when it is there. Raise ``CannotPullImage``, ``StepTimedOut`` or ``RuntimeUnavailable``."""
        # The whole login: all of ECR's have one user name, and nobody gets in by another task's password.
        key = (image, login)
        flight = self._flights.setdefault(key, _Flight())
        flight.waiting += 1
        try:
            seen = flight.landed
            async with flight.lock:
                if flight.landed == seen:
                    # Nobody else has ended a pull since this one was asked for: it is ours to do.
                    await self._pull(flight, image, login)
                elif flight.failure is not None:
                    raise CannotPullImage(str(flight.failure)) from flight.failure
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                self._flights.pop(key, None)

    async def _pull(self, flight: "_Flight", image: str, login: RegistryLogin | None) -> None:
        try:
            async with self._slots:
                await self._attempts(image, login)
        except CannotPullImage as error:
            flight.landed, flight.failure = flight.landed + 1, error
            raise
        flight.landed, flight.failure = flight.landed + 1, None

    async def _attempts(self, image: str, login: RegistryLogin | None) -> None:
        pause = self._policy.first_pause
        until = time.monotonic() + self._limits.pull.total_seconds()
        for attempt in range(1, self._policy.attempts + 1):
            try:
                await self._attempt(image, login, until)
            except _PullFailed as error:
                if attempt == self._policy.attempts or error.kind in _HOPELESS:
                    raise CannotPullImage(explain(image, str(error), error.kind)) from error
                log.info("image_pull.retried", image=image, attempt=attempt, error=str(error))
                await asyncio.sleep(pause.total_seconds())
                pause = min(pause * self._policy.growth, self._policy.longest_pause)
            else:
                return

    async def _attempt(self, image: str, login: RegistryLogin | None, until: float) -> None:
        watch = _Watch()
        reference = Reference.of(image)
        job = self._connection.begin(
            Lane.PULL,
            lambda client: _stream(client, reference, login, watch, self._limits),
            limit=self._limits.pull_begin,
        )
        try:
            while not job.ended.done():
                await asyncio.wait({job.ended}, timeout=_LOOK_SECONDS)
                if not job.ended.done():
                    watch.check(self._limits, until)
            await self._ended(job, watch)
        finally:
            job.abandon()
            watch.close()

    async def _ended(self, job: Job[None], watch: "_Watch") -> None:
        try:
            with translated(None, self._host):
                await job.wait(0)
        except RuntimeUnavailable as error:
            if not await self._connection.ping():
                raise
            if not watch.has_begun:
                raise StepTimedOut(timed_out("pullBegin", self._limits.pull_begin)) from error
            # The stream broke, but the daemon is there: an ordinary failure, worth another attempt.
            raise _PullFailed("the connection broke during the pull", Refusal.OTHER) from error


class _PullFailed(Exception):
    """One attempt has failed."""

    def __init__(self, text: str, kind: Refusal) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(slots=True)
class _Flight:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    landed: int = 0
    failure: CannotPullImage | None = None


class _Watch:
    """What both sides know of one attempt: the thread notes signs of life, the loop looks at the clock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._response: requests.Response | None = None
        self._is_closed = False
        self._seen_at: float | None = None

    @property
    def has_begun(self) -> bool:
        return self._seen_at is not None

    def opened(self, response: requests.Response) -> None:
        with self._lock:
            self._response = response
            self._seen_at = time.monotonic()
            if not self._is_closed:
                return
        shut(response)

    def seen(self) -> None:
        self._seen_at = time.monotonic()

    def check(self, limits: CallLimits, until: float) -> None:
        """Raise when it has been silent or under way for too long."""
        now = time.monotonic()
        if now >= until:
            raise StepTimedOut(timed_out("pulled", limits.pull))
        if self._seen_at is not None and now >= self._seen_at + limits.pull_inactivity.total_seconds():
            silence = go_duration(limits.pull_inactivity)
            raise _PullFailed(f"no progress for {silence}", Refusal.OTHER)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            response = self._response
        if response is not None:
            shut(response)


def _stream(
    client: APIClient, reference: Reference, login: RegistryLogin | None, watch: _Watch, limits: CallLimits
) -> None:
    # An empty login is sent on purpose: without one the SDK would take whatever root has logged in to.
    credentials = {} if login is None else {"username": login.username, "password": login.password}
    response = client.post(
        f"{client.base_url}/v{client.api_version}/images/create",
        params={"fromImage": reference.repository, "tag": reference.tag},
        headers={"X-Registry-Auth": auth.encode_header(credentials).decode("ascii")},
        stream=True,
        timeout=limits.pull_begin.total_seconds(),
    )
    with response:
        watch.opened(response)
        wait_for_ever(response)
        _refuse_error_status(response)
        scan(_messages(response, watch))


def scan(messages: Iterable[Mapping[str, Any]]) -> None:
    """Read a pull's progress to its end; raise when one of the messages is an error."""
    for message in messages:
        failure = failure_in(message)
        if failure is not None:
            code = (message.get("errorDetail") or {}).get("code")
            raise _PullFailed(failure, classify(failure, code))


def _messages(response: requests.Response, watch: _Watch) -> Iterable[Mapping[str, Any]]:
    for line in response.iter_lines():
        watch.seen()
        if line:
            yield json.loads(line)


def _refuse_error_status(response: requests.Response) -> None:
    try:
        response.raise_for_status()
    except requests.HTTPError as error:
        refused = refusal_in(error)
        text = said(refused)
        raise _PullFailed(text, classify(text, refused.status_code)) from error
