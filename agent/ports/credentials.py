"""Where role credentials and logins to image registries come from."""

from typing import Protocol

from agent.model.credentials import Credentials, RegistryLogin
from agent.model.ids import TaskArn
from agent.model.spec import ContainerSpec, TaskRole, TaskSpec


class CredentialsProvider(Protocol):
    """Raise ``CredentialsUnavailable`` (ask again later) or ``UnknownRole`` (asking again is useless)."""

    async def for_role(self, role: TaskRole, task: TaskArn) -> Credentials:
        """Valid credentials of the role for this task; never expired ones."""

    async def forget(self, task: TaskArn) -> None:
        """The task has stopped: drop what is held for it."""


class RegistryLogins(Protocol):
    """Who may pull what."""

    async def login(self, task: TaskSpec, container: ContainerSpec) -> RegistryLogin | None:
        """How to log in to the registry of the container's image. None: no login is known, none is sent.

        Raise ``CannotPullEcrImage`` or ``CannotPullPrivateImage`` (asking again is useless), or
        ``CredentialsUnavailable`` (ask again later).
        """
