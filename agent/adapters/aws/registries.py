"""Logins for Amazon ECR: whose image it is decides whom to ask, the execution role decides as whom."""

import asyncio
import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.adapters.aws.sdk import Keys, Sdk
from agent.model.credentials import RegistryLogin
from agent.model.errors import CredentialsUnavailable
from agent.model.ids import RoleArn
from agent.model.spec import TaskRole
from agent.ports.clock import Clock

_ECR = re.compile(r"(\d{12})\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws)/")
_SPARE = timedelta(minutes=30)
_SESSION = "berth-image-pull"
_LIMIT = 30.0  # seconds for both calls together


@dataclass(frozen=True, slots=True)
class EcrRegistry:
    """The registry of one account in one region."""

    account: str
    region: str


@dataclass(frozen=True, slots=True)
class _HeldLogin:
    login: RegistryLogin
    expires_at: datetime


class EcrLogins:
    """Logins by registry and role, held until shortly before they expire (ECR gives twelve hours)."""

    def __init__(self, sdk: Sdk, clock: Clock) -> None:
        self._sdk = sdk
        self._clock = clock
        self._held: dict[tuple[EcrRegistry, RoleArn | None], _HeldLogin] = {}

    async def login(self, image: str, role: TaskRole | None) -> RegistryLogin | None:
        """The login for an ECR image; None for images of other registries.

        ``role`` None: the host's own identity asks. Raise ``CredentialsUnavailable`` or ``UnknownRole``.
        """
        registry = ecr_registry(image)
        if registry is None:
            return None
        key = (registry, role.arn if role else None)
        held = self._held.get(key)
        if held is None or held.expires_at - self._clock.now() < _SPARE:
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(_LIMIT):
                    held = await loop.run_in_executor(self._sdk.threads, self._ask, registry, role)
            except TimeoutError as error:
                problem = f"no login for {image}: ECR in {registry.region} has not answered in {_LIMIT:.0f} s"
                raise CredentialsUnavailable(problem) from error
            self._held[key] = held
        return held.login

    def _ask(self, registry: EcrRegistry, role: TaskRole | None) -> _HeldLogin:
        purpose = f"no login for the registry of account {registry.account}"
        keys = None
        if role is not None:
            with self._sdk.translated("STS", f"{purpose}: {role.arn} cannot be assumed"):
                given = self._sdk.client("sts").assume_role(RoleArn=role.arn, RoleSessionName=_SESSION)
                part = given["Credentials"]
                keys = Keys(part["AccessKeyId"], part["SecretAccessKey"], part["SessionToken"])
        with self._sdk.translated(f"ECR of {registry.region}", purpose):
            client = self._sdk.client_with("ecr", registry.region, keys)
            answer: dict[str, Any] = client.get_authorization_token(registryIds=[registry.account])
        data = answer["authorizationData"][0]
        name, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        expires_at: datetime = data["expiresAt"]
        return _HeldLogin(RegistryLogin(name, password), expires_at.astimezone(UTC))


def ecr_registry(image: str) -> EcrRegistry | None:
    """Which ECR registry an image name points to; None if to none."""
    found = _ECR.match(image)
    return EcrRegistry(found[1], found[2]) if found else None
