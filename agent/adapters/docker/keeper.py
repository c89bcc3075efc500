"""The container of the program that holds the endpoint's sockets while the agent is away.

It is made through Docker because whatever the agent starts by itself ends with the agent's own container.
The sockets come to it by its door in a directory of the agent, so it has no network. It has no task label, so
it is never taken for a container of a task; ``KEEPER_LABEL`` says whose it is.
"""

import hashlib
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog
from docker import APIClient
from docker.errors import APIError, NotFound

from agent.adapters.docker.calls import CONFLICT
from agent.adapters.docker.connection import Connection, Lane
from agent.adapters.docker.pause import ImageLoader
from agent.adapters.docker.settings import DockerSettings, PauseImage
from agent.adapters.docker.translate import Document
from agent.model.errors import CannotCreateContainer, CannotRemoveContainer

log = structlog.get_logger()

KEEPER_LABEL = "berth.keeper"
"""Its value is the directory of the door as Docker's host sees it: one agent has one such directory."""

MEMORY = 32 << 20
"""Bytes. The program needs next to nothing; the runtime's start of it needs about half of this."""

PROCESSES = 8
"""One, and what the runtime needs while it starts it."""

_LOOKS, _LOOK_PAUSE = 100, 0.05


@dataclass(frozen=True, slots=True)
class KeeperSettings:
    """``directory``: of the door, as Docker's host sees it. ``patience``: how long it lives with no agent."""

    image: PauseImage
    directory: Path
    patience: timedelta


class KeeperContainer:
    """Makes and removes it, on connections of its own: Docker may be reached late, or never."""

    def __init__(self, settings: DockerSettings, keeper: KeeperSettings) -> None:
        self._settings = settings
        self._keeper = keeper

    @property
    def version(self) -> str:
        """What the program says of itself: the image that it comes from, and its parameters."""
        return f"{self._keeper.image.image_id.removeprefix('sha256:')[:16]} {self._seconds}"

    async def ensure_made(self) -> None:
        """Start one, instead of one of the same version that there is. Others stay.

        Raise ``CannotCreateContainer``, ``StepTimedOut`` or ``RuntimeUnavailable``.
        """
        limits = self._settings.limits
        connection = Connection(self._settings)
        try:
            await connection.open()
            image = ImageLoader(connection, self._keeper.image, limits)
            await image.ensure_loaded()
            document = keeper_document(self._keeper, image.image_id, self.version)
            await connection.call(
                Lane.CHANGE,
                lambda client: _start(client, self._name, document),
                limit=limits.create,
                transition="created",
                refusal=CannotCreateContainer,
            )
        finally:
            connection.close()

    async def ensure_removed(self) -> None:
        """Remove all of this directory. Raise ``CannotRemoveContainer``, or as ``ensure_made``."""
        label = f"{KEEPER_LABEL}={self._keeper.directory}"
        connection = Connection(self._settings)
        try:
            await connection.open()
            await connection.call(
                Lane.CHANGE,
                lambda client: _remove_all(client, label),
                limit=self._settings.limits.inspect,
                transition="removing",
                refusal=CannotRemoveContainer,
            )
        finally:
            connection.close()

    @property
    def _seconds(self) -> int:
        return max(1, round(self._keeper.patience.total_seconds()))

    @property
    def _name(self) -> str:
        unique = hashlib.sha256(f"{self._keeper.directory}\n{self.version}".encode()).hexdigest()[:12]
        return f"berth-keeper-{unique}"


def keeper_document(keeper: KeeperSettings, image_id: str, version: str) -> Document:
    """The create call. It may do nothing but talk to root at its door."""
    _, seconds = version.split()
    return {
        "Image": image_id,
        "Cmd": [seconds, version],
        "User": "0:0",
        "Labels": {KEEPER_LABEL: str(keeper.directory)},
        "HostConfig": {
            "NetworkMode": "none",
            "Mounts": [{"Type": "bind", "Source": str(keeper.directory), "Target": "/keep"}],
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            # The other end of the door is not confined, or confined otherwise: SELinux would keep them apart.
            "SecurityOpt": ["no-new-privileges", "label=disable"],
            # So that root here is root there, where Docker maps the users of containers.
            "UsernsMode": "host",
            "Memory": MEMORY,
            "PidsLimit": PROCESSES,
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": True,
            "LogConfig": {"Type": "none", "Config": {}},
        },
    }


def _start(client: APIClient, name: str, document: Document) -> None:
    _remove(client, name)
    # An agent that ends between the two calls leaves one that never runs, and so never ends by itself.
    label = f"{KEEPER_LABEL}={document['Labels'][KEEPER_LABEL]}"
    _remove_all(client, label, status=("created", "exited", "dead"))
    made = client.create_container_from_config(document, name)  # type: ignore[no-untyped-call]
    try:
        client.start(made["Id"])
    except BaseException:
        _remove(client, made["Id"])
        raise


def _remove_all(client: APIClient, label: str, status: tuple[str, ...] = ()) -> None:
    """All with that label, or of them those in one of these states."""
    wanted = {"label": [label]} | ({"status": list(status)} if status else {})
    for each in client.containers(all=True, filters=wanted):
        _remove(client, each["Id"])
        log.info("keeper.removed", container=each["Id"])


def _remove(client: APIClient, name: str) -> None:
    try:
        client.remove_container(name, v=True, force=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != CONFLICT:
            raise
        _await_removal(client, name, error)


def _await_removal(client: APIClient, name: str, cause: APIError) -> None:
    """Docker removes it by itself when it has ended, and not twice; the name is free after that."""
    for _ in range(_LOOKS):
        try:
            client.inspect_container(name)
        except NotFound:
            return
        time.sleep(_LOOK_PAUSE)
    raise cause
