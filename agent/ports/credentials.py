"""Where role credentials come from."""

from typing import Protocol

from agent.model.credentials import Credentials, RegistryLogin
from agent.model.ids import TaskArn
from agent.model.spec import TaskRole


class CredentialsProvider(Protocol):
    """Raise ``CredentialsUnavailable`` (ask again later) or ``UnknownRole`` (asking again is useless)."""

    async def for_role(self, role: TaskRole, task: TaskArn) -> Credentials:
        """Valid credentials of the role for this task; never expired ones."""

    async def for_registry(self, image: str, role: TaskRole | None) -> RegistryLogin | None:
        """How to log in to the image's registry. None: no login is needed."""

    async def forget(self, task: TaskArn) -> None:
        """The task has stopped: drop what is held for it."""
