"""Role credentials as Amazon ECS delivers them: kept in memory, never asked for, never on a disk."""

from dataclasses import dataclass

import structlog

from agent.adapters.ecs.wire.messages import RoleCredentials
from agent.model.credentials import Credentials
from agent.model.errors import CredentialsUnavailable
from agent.model.ids import RoleArn, TaskArn, task_id
from agent.model.spec import TaskRole
from agent.ports.clock import Clock

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Delivered:
    task: TaskArn
    credentials: Credentials


class DeliveredCredentials:
    """``CredentialsProvider`` of what the control channel has brought.

    After a restart nothing is here until the cluster has sent it again, which it is asked to do by the first
    connection (``sendCredentials=true``, ecs-protocol 2.1); until then callers are told to ask again.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_id: dict[str, _Delivered] = {}

    def put(self, task: TaskArn, delivered: RoleCredentials, *, known_as: str | None = None) -> None:
        """Take what was delivered for a role of the task, in the place of what was held for it.

        ``known_as``: the id under which the task's containers ask for that role. It was given to them when
        they were made, and stays theirs should the cluster use another one by now.
        """
        credentials = Credentials(
            role_arn=RoleArn(delivered.role_arn),
            access_key_id=delivered.access_key_id,
            secret_access_key=delivered.secret_access_key,
            token=delivered.session_token,
            expires_at=delivered.expires_at,
        )
        self._by_id[known_as or delivered.credentials_id] = _Delivered(task, credentials)
        log.info(
            "credentials.delivered",
            task_id=task_id(task),
            role=delivered.role_arn,
            expires_at=credentials.expires_at.isoformat(),
        )

    async def for_role(self, role: TaskRole, task: TaskArn) -> Credentials:
        """The credentials of the role. Raise ``CredentialsUnavailable`` if there are none that are valid."""
        held = self._by_id.get(role.credentials_id)
        if held is None or held.task != task:
            raise CredentialsUnavailable(f"the cluster has not delivered the credentials of {role.arn} yet")
        if held.credentials.expires_at <= self._clock.now():
            raise CredentialsUnavailable(
                f"the credentials of {role.arn} expired at {held.credentials.expires_at:%Y-%m-%dT%H:%M:%SZ}, "
                "and the cluster has not delivered newer ones"
            )
        return held.credentials

    async def forget(self, task: TaskArn) -> None:
        """The task has stopped: drop what was delivered for it."""
        for each in [key for key, held in self._by_id.items() if held.task == task]:
            del self._by_id[each]
