"""The keys of this container instance, found as every AWS SDK finds them, without holding up the loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from agent.model.errors import CredentialsUnavailable
from agent.ports.clock import Clock

log = structlog.get_logger()

LOOK_EVERY = timedelta(minutes=1)
"""How often the source is asked again: a rotated file is noticed, an expiring role is renewed."""
LIMIT = timedelta(seconds=15)
"""How long anybody waits for keys. A machine without a metadata service answers within about 2 s."""
PATIENCE = timedelta(seconds=60)
"""How old a look may be before another one is begun beside it: the first may hang for ever."""
MOST_LOOKS = 3
"""Threads that look at the same time. When as many hang, nothing is begun until one of them ends."""
_METADATA_SERVICE = "http://169.254.169.254"


@dataclass(frozen=True, slots=True)
class Keys:
    """What requests are signed with. ``token``: empty for keys that do not expire. Secrets do not show."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Found:
    """Keys and where they came from.

    ``source``: botocore's object that renews them; None: they do not expire.
    """

    keys: Keys
    method: str
    source: Any = field(repr=False, default=None)

    def is_expired(self) -> bool:
        """Whether the keys have expired, by the time of this machine."""
        return self.source is not None and bool(self.source.refresh_needed(0))


class InstanceKeys:
    """botocore's default chain: environment, shared files, container endpoint, role of the instance.

    ``static``: these keys and no others. ``metadata_service``: URL of the instance metadata service instead
    of what ``AWS_EC2_METADATA_SERVICE_ENDPOINT`` or the default says. ``look``: finds keys in a thread,
    given what was found before or None; for tests. Renewal is botocore's: from 15 minutes before keys
    expire, beside the callers.

    A source may hang (a credential_process that waits for a network). Nobody waits longer than ``limit`` for
    it, and whoever comes ``patience`` after the look was begun has another one made: at most ``MOST_LOOKS``
    threads in all. What a look finds after another one was begun beside it is not used.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        region: str | None = None,
        static: Keys | None = None,
        metadata_service: str | None = None,
        limit: timedelta = LIMIT,
        patience: timedelta = PATIENCE,
        look: Callable[[Found | None], Found] | None = None,
    ) -> None:
        self._clock = clock
        self._static = static
        self._limit = limit
        self._patience = patience.total_seconds()
        self._look = look or (lambda before: find(before, region=region, metadata_service=metadata_service))
        self._held: Found | None = None
        self._looked_at: datetime | None = None
        self._generation = 0
        self._flight: asyncio.Future[Found | CredentialsUnavailable | None] | None = None
        self._flight_began = 0.0
        self._looks = 0

    async def current(self) -> Keys:
        """Keys that are valid now, as far as this machine knows. Raise ``CredentialsUnavailable``.

        Callers wait only when there are no keys or expired ones, and at most ``limit``.
        """
        if self._static is not None:
            return self._static
        if self._held is not None:
            if not self._looked_recently():
                self._fly()  # what is held is good for now; nobody waits for the renewal
            if not self._held.is_expired():
                return self._held.keys
        return await self._new()

    def invalidate(self) -> None:
        """Forget the keys: somebody refused them, or the instance has a role only since now."""
        self._held = None
        self._generation += 1

    async def _new(self) -> Keys:
        try:
            async with asyncio.timeout(self._limit.total_seconds()):
                while True:
                    flight = self._fly()
                    await asyncio.wait({flight})  # shared: whoever goes away must not end it
                    outcome = flight.result()
                    if isinstance(outcome, Found):
                        return outcome.keys
                    if outcome is not None:
                        # a copy: an exception that is raised again and again collects traces
                        raise CredentialsUnavailable(str(outcome)) from outcome
        except TimeoutError:
            raise CredentialsUnavailable(
                f"no AWS credentials for this instance within {self._limit.total_seconds():.0f} s: "
                "a source of credentials does not answer"
            ) from None

    def _looked_recently(self) -> bool:
        if self._looked_at is None:
            return False
        return timedelta(0) <= self._clock.now() - self._looked_at < LOOK_EVERY

    def _fly(self) -> "asyncio.Future[Found | CredentialsUnavailable | None]":
        """The look under way, or a new one beside it if it seems to hang."""
        loop = asyncio.get_running_loop()
        if self._flight is not None:
            is_hanging = loop.time() - self._flight_began >= self._patience
            if not is_hanging or self._looks >= MOST_LOOKS:
                return self._flight
            log.warning("keys.stuck", looks=self._looks)
        flight: asyncio.Future[Found | CredentialsUnavailable | None] = loop.create_future()
        generation, before = self._generation, self._held
        self._flight, self._flight_began = flight, loop.time()
        self._looks += 1
        self._looked_at = self._clock.now()

        def work() -> None:
            outcome = self._outcome(before)
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody asks any more
                loop.call_soon_threadsafe(self._land, flight, generation, outcome)

        # A daemon thread: a source that hangs (somebody's credential_process) must not keep the agent from
        # ending.
        threading.Thread(target=work, name="instance-keys", daemon=True).start()
        return flight

    def _outcome(self, before: Found | None) -> Found | CredentialsUnavailable:
        try:
            return self._look(before)
        except CredentialsUnavailable as error:
            return error
        except Exception as bug:  # noqa: BLE001 - a source may fail in any way; its text may hold anything
            return CredentialsUnavailable(f"no AWS credentials for this instance: {type(bug).__name__}")

    def _land(
        self,
        flight: "asyncio.Future[Found | CredentialsUnavailable | None]",
        generation: int,
        outcome: Found | CredentialsUnavailable,
    ) -> None:
        self._looks -= 1
        is_overtaken = flight is not self._flight
        if not is_overtaken:
            self._flight = None
        if is_overtaken or generation != self._generation:
            flight.set_result(None)  # older than what is known, or the very keys that were refused
            return
        if isinstance(outcome, Found):
            if self._held is None or self._held.keys != outcome.keys:
                log.info("keys.found", method=outcome.method)
            self._held = outcome
        else:
            log.warning("keys.missed", problem=str(outcome), still_valid=self._held is not None)
        flight.set_result(outcome)


def find(before: Found | None, *, region: str | None, metadata_service: str | None) -> Found:
    """Ask the source of ``before`` again, or go along the whole chain. Blocks: in a thread only.

    Raise ``CredentialsUnavailable``. Measured: importing botocore.session beside botocore.auth costs 32 ms
    and 5 MiB, the first walk along the chain 28 ms, each further one 8 ms.
    """
    # imported here: the loop must not wait for it
    import botocore.session  # noqa: PLC0415
    from botocore import exceptions as sdk  # noqa: PLC0415
    from botocore.credentials import RefreshableCredentials  # noqa: PLC0415

    try:
        source = before.source if before is not None else None
        if source is None:
            session = botocore.session.Session()
            if region is not None:
                session.set_config_variable("region", region)
            if metadata_service is not None:
                session.set_config_variable("ec2_metadata_service_endpoint", metadata_service)
            source = session.get_credentials()
            if source is None:
                where = session.get_config_variable("ec2_metadata_service_endpoint") or _METADATA_SERVICE
                raise CredentialsUnavailable(_nowhere(session.profile or "default", where))
        frozen = source.get_frozen_credentials()
    except sdk.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        raise CredentialsUnavailable(
            f"no AWS credentials for this instance: {error.operation_name} said {code}"
        ) from error
    except sdk.BotoCoreError as error:
        raise CredentialsUnavailable(f"no AWS credentials for this instance: {error}") from error
    keys = Keys(frozen.access_key, frozen.secret_key, frozen.token or "")
    return Found(keys, source.method, source if isinstance(source, RefreshableCredentials) else None)


def _nowhere(profile: str, metadata_service: str) -> str:
    return (
        "no AWS credentials for this instance: looked in the environment (AWS_ACCESS_KEY_ID), the shared "
        f"credentials and config files (profile {profile!r}), the container credentials endpoint, and for "
        f"the instance's role at {metadata_service} (unless AWS_EC2_METADATA_DISABLED is true)"
    )
