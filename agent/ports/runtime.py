"""What runs containers. Asking twice is asking once."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from agent.model.credentials import RegistryLogin
from agent.model.ids import ContainerId, TaskId
from agent.model.observation import ContainerSnapshot, PulledImage
from agent.model.spec import ContainerSpec, TaskSpec


@dataclass(frozen=True, slots=True)
class PausePlan:
    """The pause container to make for a task."""

    task: TaskSpec
    docker_name: str


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """An app container to make, joined to the namespaces of the task's pause container."""

    task: TaskSpec
    container: ContainerSpec
    docker_name: str
    pause_id: ContainerId


class ContainerRuntime(Protocol):
    """Every verb raises ``RuntimeUnavailable`` when the runtime does not answer; nothing is known then.

    A call that is cancelled may still have its effect; later calls for the same container wait for its end.
    """

    async def check(self) -> None:
        """Return if the runtime answers; know within seconds."""

    async def find_image(self, image: str) -> PulledImage | None:
        """The image, if it is present on this machine."""

    async def pull_image(self, image: str, login: RegistryLogin | None) -> PulledImage:
        """Fetch the image. Raise ``CannotPullImage``."""

    async def ensure_pause_started(self, plan: PausePlan) -> ContainerSnapshot:
        """Make the task's control group and pause container, and start it.

        Raise ``CannotLimitResources``, ``CannotCreateContainer`` or ``CannotStartContainer``.
        """

    async def ensure_created(self, plan: ContainerPlan) -> ContainerSnapshot:
        """Make the container and the task's volumes.

        Raise ``CannotCreateContainer`` or ``CannotMakeVolume``.
        """

    async def ensure_started(self, docker_name: str) -> ContainerSnapshot:
        """Start it; return what is seen then (it may have exited already). Raise ``CannotStartContainer``."""

    async def ensure_stopped(self, docker_name: str, grace: timedelta) -> ContainerSnapshot | None:
        """Ask it to end, kill it after ``grace``; return only when it is seen gone. None: it does not exist.

        Raise ``CannotStopContainer`` if its end could not be seen.
        """

    async def ensure_removed(self, docker_name: str) -> None:
        """Remove it; fine if it does not exist. Raise ``CannotRemoveContainer``."""

    async def ensure_sandbox_removed(self, task: TaskSpec, pause_name: str) -> None:
        """Remove the pause container, the task's own volumes and its control group.

        Raise ``CannotRemoveContainer``.
        """

    async def observe(self) -> tuple[ContainerSnapshot, ...]:
        """Every container that carries this agent's labels, running or not."""

    def changes(self) -> AsyncIterator[ContainerSnapshot]:
        """Hints that something changed. Never ends; after every reconnect the full list comes first."""

    async def leftovers(self, known: frozenset[TaskId]) -> tuple[str, ...]:
        """Names of labelled things (volumes, control groups) that belong to none of the ``known`` tasks."""

    async def remove_leftovers(self, known: frozenset[TaskId]) -> tuple[str, ...]:
        """Remove them; the names of what was removed."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which output is wanted. ``follow``: until the container ends. ``tail``: only so many lines at the end.

    ``since``: only what was printed then or later, in seconds since 1970. ``timestamps``: each line begins
    with its time (RFC 3339, UTC) and a space.
    """

    follow: bool = False
    tail: int | None = None
    since: float | None = None
    timestamps: bool = False


class ContainerLogs(Protocol):
    """What containers have printed."""

    def read(self, container_id: ContainerId, wanted: LogQuery) -> AsyncIterator[bytes]:
        """Yield output in order. Raise ``RuntimeUnavailable``."""
