"""Credentials of a task's role from STS, with the host's own identity."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.adapters.aws.holding import HeldCredentials, Patience
from agent.adapters.aws.sdk import Sdk
from agent.model.credentials import Credentials
from agent.model.ids import TaskArn, task_id
from agent.model.spec import TaskRole
from agent.ports.clock import Clock


class StsRoles:
    """``CredentialsProvider`` by STS AssumeRole; the session is named after the task.

    ``endpoint``: a URL instead of the real services. ``validity``: how long credentials are asked for; STS
    allows one hour when the host's own identity is a role itself.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        region: str,
        endpoint: str | None = None,
        validity: timedelta = timedelta(hours=1),
        patience: Patience | None = None,
    ) -> None:
        self._sdk = Sdk(region, endpoint=endpoint)
        self._validity = validity
        self._held = HeldCredentials(self._fetch, clock, patience=patience)

    async def for_role(self, role: TaskRole, task: TaskArn) -> Credentials:
        """Credentials of the role for this task. Raise ``CredentialsUnavailable`` or ``UnknownRole``."""
        return await self._held.get(role, task)

    async def forget(self, task: TaskArn) -> None:
        """Drop what is held for the task."""
        self._held.forget(task)

    async def keep_renewed(self) -> None:
        """Never ends: renew credentials before they expire."""
        await self._held.keep_renewed()

    def close(self) -> None:
        """Ask nothing any more."""
        self._sdk.close()

    def _fetch(self, role: TaskRole, task: TaskArn) -> "asyncio.Future[Credentials]":
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._sdk.threads, self._assume, role, task)

    def _assume(self, role: TaskRole, task: TaskArn) -> Credentials:
        with self._sdk.translated("STS", f"{role.arn} cannot be assumed"):
            return assume_role(self._sdk, role, session=task_id(task), validity=self._validity)


def assume_role(sdk: Sdk, role: TaskRole, *, session: str, validity: timedelta) -> Credentials:
    """One call of AssumeRole. Blocks; raises the SDK's errors."""
    answer: dict[str, Any] = sdk.client("sts").assume_role(
        RoleArn=role.arn, RoleSessionName=session, DurationSeconds=int(validity.total_seconds())
    )
    given = answer["Credentials"]
    expires_at: datetime = given["Expiration"]
    return Credentials(
        role_arn=role.arn,
        access_key_id=given["AccessKeyId"],
        secret_access_key=given["SecretAccessKey"],
        token=given["SessionToken"],
        expires_at=expires_at.astimezone(UTC),
    )
