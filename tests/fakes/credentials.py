"""Sources of role credentials and registry logins that a test scripts."""

import asyncio
from datetime import timedelta

from agent.model.credentials import Credentials, RegistryLogin
from agent.model.errors import AgentError
from agent.model.ids import RoleArn, TaskArn
from agent.model.spec import ContainerSpec, TaskRole, TaskSpec
from agent.ports.clock import Clock


class FakeCredentials:
    """``CredentialsProvider`` for tests: every role has credentials unless a test says otherwise.

    ``fail(role, error)`` lets requests for a role raise that error until ``heal(role)``. ``asked`` lists every (role, task) for which credentials were wanted.
    ``hold`` cleared: requests wait until it is set again.
    """

    def __init__(self, clock: Clock, validity: timedelta = timedelta(hours=1)) -> None:
        self._clock = clock
        self._validity = validity
        self._failures: dict[RoleArn, AgentError] = {}
        self._held: dict[tuple[RoleArn, TaskArn], Credentials] = {}
        self._made = 0
        self.asked: list[tuple[RoleArn, TaskArn]] = []
        self.forgotten: list[TaskArn] = []
        self.hold = asyncio.Event()
        self.hold.set()

    def fail(self, role: RoleArn, error: AgentError) -> None:
        """From now on, requests for the role raise ``error``."""
        self._failures[role] = error

    def heal(self, role: RoleArn) -> None:
        """From now on, requests for the role succeed again."""
        self._failures.pop(role, None)

    async def for_role(self, role: TaskRole, task: TaskArn) -> Credentials:
        """The same credentials until they expire, then new ones."""
        self.asked.append((role.arn, task))
        await self.hold.wait()
        failure = self._failures.get(role.arn)
        if failure is not None:
            raise failure
        held = self._held.get((role.arn, task))
        if held is None or held.expires_at <= self._clock.now():
            held = self._make(role.arn)
            self._held[(role.arn, task)] = held
        return held

    async def forget(self, task: TaskArn) -> None:
        """Drop what is held for the task."""
        self.forgotten.append(task)
        for key in [key for key in self._held if key[1] == task]:
            del self._held[key]

    def _make(self, role: RoleArn) -> Credentials:
        self._made += 1
        return Credentials(
            role_arn=role,
            access_key_id=f"FAKE-KEY-{self._made}",
            secret_access_key=f"fake-secret-{self._made}",
            token=f"fake-token-{self._made}",
            expires_at=self._clock.now() + self._validity,
        )


class FakeLogins:
    """``RegistryLogins`` for tests: ``known`` maps images to logins, other images need none.

    ``fail(error)`` lets every request raise that error until ``heal()``. ``asked`` lists the images.
    """

    def __init__(self) -> None:
        self._failure: AgentError | None = None
        self.known: dict[str, RegistryLogin] = {}
        self.asked: list[str] = []

    def fail(self, error: AgentError) -> None:
        """From now on, requests raise ``error``."""
        self._failure = error

    def heal(self) -> None:
        """From now on, requests succeed again."""
        self._failure = None

    async def login(self, task: TaskSpec, container: ContainerSpec) -> RegistryLogin | None:
        """What ``known`` says of the image."""
        self.asked.append(container.image)
        if self._failure is not None:
            raise self._failure
        return self.known.get(container.image)
