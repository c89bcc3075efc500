"""Who keeps the endpoint's sockets open while the agent restarts."""

from collections.abc import Callable, Sequence
from pathlib import Path

from agent.adapters.docker.settings import DockerSettings, PauseImage
from agent.adapters.host.descriptor_store import DescriptorStore, let_go
from agent.adapters.host.keeper_link import SOCKET, end_keeper
from agent.adapters.host.keeping import NoKeeper, SocketKeeper
from agent.adapters.host.notify import Notifier
from agent.model.errors import CannotStart
from agent.ports.health import HealthReports
from agent.settings import Settings

DIRECTORY = "keeper"
"""Of the keeper's door, in the data directory."""


def keeper_choice(settings: Settings, notifier: Notifier) -> str:
    """``systemd``, ``container`` or ``none``. Raise ``CannotStart`` if it cannot be what was chosen.

    In a container it is never systemd by itself: what systemd stores for a unit that runs ``docker run`` is
    handed to the command, not to the agent. Whether a unit has a store is not told by systemd before version
    254; storing where there is none has no effect.
    """
    if settings.socket_keeper == "systemd" and not notifier.is_wanted:
        raise CannotStart(
            "BERTH_SOCKET_KEEPER is systemd, but there is no NOTIFY_SOCKET in the environment; run the agent "
            "as a unit with Type=notify and FileDescriptorStoreMax, or choose container or none",
            is_final=True,
        )
    if settings.socket_keeper != "auto":
        return settings.socket_keeper
    if settings.in_container:
        return "container"
    return "systemd" if notifier.is_wanted else "none"


def keeper_of(
    settings: Settings,
    docker: DockerSettings,
    notifier: Notifier,
    received: Sequence[tuple[str, int]],
    health: HealthReports,
    *,
    image_in: Callable[[Path, str], PauseImage],
) -> SocketKeeper:
    """The chosen one. ``image_in``: reads the description of an image that comes with the agent."""
    choice = keeper_choice(settings, notifier)
    directory = settings.data_directory / DIRECTORY
    if choice != "container" and (directory / SOCKET).exists():
        end_keeper(directory / SOCKET)
    if choice == "systemd":
        return DescriptorStore(notifier, received)
    let_go(notifier, received)
    if choice == "container":
        from agent.adapters.docker.keeper import KeeperContainer, KeeperSettings  # noqa: PLC0415
        from agent.adapters.host.program_keeper import ProgramKeeper  # noqa: PLC0415

        image = image_in(settings.pause_path, "keeper")
        outside = settings.data_directory_outside / DIRECTORY
        keeper = KeeperSettings(image, outside, settings.socket_keeper_patience)
        return ProgramKeeper(directory, KeeperContainer(docker, keeper), health)
    return NoKeeper()
