"""Credentials for a laptop without an account: they have the right shape, and open nothing."""

import asyncio
import hashlib
from datetime import timedelta

from agent.adapters.aws.holding import HeldCredentials
from agent.model.credentials import Credentials
from agent.model.ids import TaskArn, task_id
from agent.model.spec import TaskRole
from agent.ports.clock import Clock

VALIDITY = timedelta(hours=1)


class DevelopmentCredentials:
    """``CredentialsProvider`` that makes up what it gives, so that programs find credentials offline.

    They are rolled before they expire, as real ones are.
    """

    def __init__(self, clock: Clock, *, validity: timedelta = VALIDITY) -> None:
        self._clock = clock
        self._validity = validity
        self._held = HeldCredentials(self._make, clock)

    async def for_role(self, role: TaskRole, task: TaskArn) -> Credentials:
        """Obviously fake credentials that name their task."""
        return await self._held.get(role, task)

    async def forget(self, task: TaskArn) -> None:
        """Drop what is held for the task."""
        self._held.forget(task)

    async def keep_renewed(self) -> None:
        """Never ends: roll credentials before they expire."""
        await self._held.keep_renewed()

    def _make(self, role: TaskRole, task: TaskArn) -> "asyncio.Future[Credentials]":
        now = self._clock.now().replace(microsecond=0)
        seed = f"{role.arn}\n{task}\n{now.isoformat()}".encode()
        mark = hashlib.sha256(seed).hexdigest()[:12].upper()
        made: asyncio.Future[Credentials] = asyncio.get_running_loop().create_future()
        made.set_result(
            Credentials(
                role_arn=role.arn,
                access_key_id=f"BERTHDEV{mark}",
                secret_access_key=f"development-only-not-a-secret-{mark.lower()}",
                token=f"development-only-not-a-token-{task_id(task)}-{mark.lower()}",
                expires_at=now + self._validity,
            )
        )
        return made
