"""Who may pull what: the login for a container's image, from Amazon ECR, Secrets Manager or the settings."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from agent.adapters.aws.ecr import ask_ecr
from agent.adapters.aws.registries import EcrRegistry, ecr_registry
from agent.adapters.aws.sdk import Keys, Sdk
from agent.adapters.aws.secret_logins import ask_secret
from agent.adapters.aws.static_logins import StaticLogins
from agent.adapters.aws.tokens import HeldTokens, Token
from agent.model.credentials import Credentials, RegistryLogin
from agent.model.errors import (
    CannotPullEcrImage,
    CannotPullPrivateImage,
    CredentialsUnavailable,
    EcrLoginUnavailable,
    PrivateLoginUnavailable,
    UnknownRole,
)
from agent.model.ids import TaskArn
from agent.model.spec import ContainerSpec, LoginSource, RegistryAuthentication, TaskRole, TaskSpec
from agent.ports.clock import Clock

log = structlog.get_logger()

RoleCredentials = Callable[[TaskRole, TaskArn], Awaitable[Credentials]]
"""Valid credentials of a role for a task. Raises ``CredentialsUnavailable`` or ``UnknownRole``."""

_Answer = TypeVar("_Answer")

_NO_ECR = "engine ecr credentials: not found"
_NO_PRIVATE = "engine docker private registry credentials: not found"
_NO_ROLES = "this agent has no real credentials of roles (BERTH_CREDENTIALS_SOURCE=development)"
_LIMIT = 30.0  # seconds: for the credentials of a role, and for each call


class Logins:
    """``RegistryLogins``: what the container says, else an ECR host name, else ``static``.

    ``role_credentials`` gives the execution role's credentials; None: there are none to be had, and ECR is
    asked with the host's own identity. ``endpoint``: a URL instead of the real services. Logins of ECR are
    kept in memory until 30 to 60 minutes before they expire; secrets are read anew for each pull.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        region: str,
        role_credentials: RoleCredentials | None,
        static: StaticLogins | None = None,
        endpoint: str | None = None,
        tokens: HeldTokens | None = None,
    ) -> None:
        self._sdk = Sdk(region, endpoint=endpoint)
        self._role_credentials = role_credentials
        self._static = static or StaticLogins({})
        self._tokens = tokens or HeldTokens(clock)

    async def login(self, task: TaskSpec, container: ContainerSpec) -> RegistryLogin | None:
        """The login for the container's image; None: none is known.

        Raise ``CannotPullEcrImage`` or ``CannotPullPrivateImage`` (final), or ``CredentialsUnavailable``.
        """
        wanted = container.registry
        if wanted is not None and wanted.source is LoginSource.SECRETS_MANAGER:
            return await self._from_secret(task, wanted)
        if wanted is not None:
            registry = EcrRegistry(wanted.account, wanted.region or self._sdk.region, wanted.endpoint)
            return await self._from_ecr(registry, task, uses_role=wanted.uses_execution_role)
        written = self._static.find(container.image)
        named = ecr_registry(container.image)
        # Without roles, what the operator wrote down for an ECR host is the best that there is.
        if named is None or (written is not None and self._role_credentials is None):
            return written
        return await self._from_ecr(named, task, uses_role=task.execution_role is not None)

    def close(self) -> None:
        """Ask nothing any more."""
        self._sdk.close()

    async def _from_ecr(self, registry: EcrRegistry, task: TaskSpec, *, uses_role: bool) -> RegistryLogin:
        role = task.execution_role if uses_role else None
        if uses_role and role is None:
            raise CannotPullEcrImage(f"{_NO_ECR}: the task has no execution role")
        if self._role_credentials is None:
            role = None
        key = (registry, role.arn if role else None)
        login = self._tokens.fresh(key)
        if login is not None:
            return login
        try:
            keys = await self._ecr_keys(role, task)
            return await self._tokens.fetched(key, lambda: self._token(registry, role, keys))
        except EcrLoginUnavailable as error:
            kept = self._tokens.last_resort(key)
            if kept is None:
                raise
            log.warning("registry_login.kept", account=registry.account, reason=str(error))
            return kept

    async def _ecr_keys(self, role: TaskRole | None, task: TaskSpec) -> Keys | None:
        try:
            return None if role is None else await self._keys(role, task)
        except UnknownRole as error:
            raise CannotPullEcrImage(f"{_NO_ECR}: {error}") from error
        except CredentialsUnavailable as error:
            raise EcrLoginUnavailable(f"{_NO_ECR}: {error}") from error

    async def _token(self, registry: EcrRegistry, role: TaskRole | None, keys: Keys | None) -> Token:
        def ask() -> Token:
            if self._role_credentials is None and not self._sdk.has_identity():
                raise CannotPullEcrImage(
                    f"{_NO_ECR}: {_NO_ROLES}, and this host has no AWS identity of its own"
                )
            return ask_ecr(self._sdk, registry, keys)

        late = EcrLoginUnavailable(f"ECR in {registry.region} has not answered in {_LIMIT:.0f} s")
        token = await self._asked(ask, late)
        log.info(
            "registry_login.fetched",
            account=registry.account,
            region=registry.region,
            role=role.arn if role else "",
            expires_at=token.expires_at.isoformat() if token.expires_at else "",
        )
        return token

    async def _from_secret(self, task: TaskSpec, wanted: RegistryAuthentication) -> RegistryLogin:
        role = task.execution_role
        if self._role_credentials is None:
            raise CannotPullPrivateImage(
                f"{_NO_PRIVATE}: {_NO_ROLES}, and the secret {wanted.secret} opens to the execution role only"
            )
        if role is None:
            raise CannotPullPrivateImage(f"{_NO_PRIVATE}: the task has no execution role")
        try:
            keys = await self._keys(role, task)
        except UnknownRole as error:
            raise CannotPullPrivateImage(f"{_NO_PRIVATE}: {error}") from error
        except CredentialsUnavailable as error:
            raise PrivateLoginUnavailable(f"{_NO_PRIVATE}: {error}") from error
        late = PrivateLoginUnavailable(
            f"Secrets Manager has not answered about {wanted.secret} in {_LIMIT:.0f} s"
        )
        return await self._asked(lambda: ask_secret(self._sdk, wanted.secret, wanted.region, keys), late)

    async def _keys(self, role: TaskRole, task: TaskSpec) -> Keys:
        assert self._role_credentials is not None  # noqa: S101  # asked before
        try:
            async with asyncio.timeout(_LIMIT):
                given = await self._role_credentials(role, task.arn)
        except TimeoutError:
            raise CredentialsUnavailable(f"no credentials of {role.arn} within {_LIMIT:.0f} s") from None
        return Keys(given.access_key_id, given.secret_access_key, given.token)

    async def _asked(self, ask: Callable[[], _Answer], late: CredentialsUnavailable) -> _Answer:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_LIMIT):
                return await loop.run_in_executor(self._sdk.threads, ask)
        except TimeoutError:
            raise late from None
