"""What differs between the backends: everything else of the agent is the same for both."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from agent.adapters.aws.logins import RoleCredentials
from agent.adapters.cni.provider import CniProvider
from agent.adapters.docker.runtime import DockerRuntime
from agent.model.channels import ChannelStatus
from agent.model.progress import Progress
from agent.ports.backend import TaskStateBackend
from agent.ports.clock import Clock
from agent.ports.credentials import CredentialsProvider
from agent.ports.directory import TaskDirectory
from agent.ports.health import HealthReports
from agent.ports.network import InterfaceWatcher
from agent.settings import Address, Settings


@dataclass(frozen=True, slots=True)
class Site:
    """Something served on a loopback address. ``setting``: which setting chooses the address."""

    application: web.Application
    address: Address
    setting: str


@dataclass(frozen=True, slots=True)
class Machine:
    """The rest of the agent, as far as a backend's parts need it. ``is_reached``: the runtime answered."""

    tasks: TaskDirectory
    runtime: DockerRuntime
    network: CniProvider
    is_reached: asyncio.Event


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the agent has whatever its backend is."""

    interfaces: InterfaceWatcher
    clock: Clock
    health: HealthReports
    progress: Progress = field(default_factory=Progress)


class Control(Protocol):
    """A backend with what belongs to it. ``settings``: completed by what the backend knows."""

    settings: Settings
    is_new_machine: bool
    """Whether the tasks on record are another machine's."""

    @property
    def backend(self) -> TaskStateBackend:
        """Where orders come from and reports go."""

    @property
    def credentials(self) -> CredentialsProvider:
        """Where the tasks' credentials come from."""

    @property
    def role_credentials(self) -> RoleCredentials | None:
        """Where real credentials of roles come from. None: the backend has none that open anything."""

    @property
    def container_instance(self) -> str | None:
        """This machine's ARN. None: it is not registered yet."""

    async def start(self) -> None:
        """Make everything ready that must be there before the first task. Raise ``CannotStart``."""

    async def run(self, machine: Machine) -> None:
        """Run what goes on beside the tasks, until cancelled. Raise ``CannotStart``."""

    def sites(self) -> Sequence[Site]:
        """What is served beside the endpoints that every backend has. After ``start``."""

    def channels(self) -> tuple[ChannelStatus, ...]:
        """How the connections to the backend are."""

    async def orphans(self) -> tuple[str, ...]:
        """Network interfaces that belong to no task. Raise ``BackendUnavailable``."""

    async def aclose(self) -> None:
        """Let go of everything. Tasks stay as they are."""
