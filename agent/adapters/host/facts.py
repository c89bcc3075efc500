"""Facts about where the agent was started, from the kernel and in a moment: rights, namespaces, mounts."""

import os
import platform
import socket
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from agent.adapters.host.capabilities import effective
from agent.adapters.host.mounts import Mount, parse_mountinfo
from agent.adapters.host.peers import peer_of

ANSWER_SECONDS = 1.0
"""How long the listener of Docker's socket may keep us waiting for a connection."""


class Chosen(Protocol):
    """The settings that decide what is needed; ``agent.settings.Settings`` is one."""

    @property
    def in_container(self) -> bool: ...  # noqa: D102 - the names say it, and settings.md explains them
    @property
    def backend(self) -> str: ...  # noqa: D102
    @property
    def data_directory(self) -> Path: ...  # noqa: D102
    @property
    def log_file(self) -> Path | None: ...  # noqa: D102
    @property
    def cgroup_path(self) -> Path: ...  # noqa: D102
    @property
    def docker_host(self) -> str: ...  # noqa: D102
    @property
    def endpoint_port(self) -> int: ...  # noqa: D102


class Door(Enum):
    """What stands where Docker's socket should be."""

    SOCKET = "socket"
    ABSENT = "absent"
    DIRECTORY = "directory"
    OTHER = "other"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found. ``None`` anywhere: it could not be told, and counts as no fault.

    ``docker_pid``: the process that listens at Docker's socket, as this PID namespace numbers it; 0: it is
    outside of it. ``shares_processes``, ``shares_network``: whether this process is in those namespaces of
    Docker. ``own_groups``: the control group of this process in each hierarchy, by controllers;
    an empty name is version 2. ``log_directory``: None when no log file is chosen.
    """

    in_container: bool
    backend: str
    data_directory: Path
    log_directory: Path | None
    cgroup_path: Path
    docker_host: str
    endpoint_port: int
    capabilities: int | None
    kernel: str
    has_whole_user_namespace: bool | None
    door: Door
    docker_pid: int | None
    shares_processes: bool | None
    shares_network: bool | None
    can_write_sysctls: bool
    can_write_logs: bool
    mounts: tuple[Mount, ...]
    own_groups: tuple[tuple[str, str], ...]


def look(chosen: Chosen, *, proc: Path = Path("/proc")) -> Facts:
    """Ask the kernel and, for a second at most, whether somebody listens at Docker's socket. No changes."""
    status = _text(proc / "self/status")
    users = _text(proc / "self/uid_map").split()
    door, path = _door(chosen.docker_host)
    docker_pid = _listener(path) if door is Door.SOCKET else None
    log_directory = None if chosen.log_file is None else chosen.log_file.parent
    return Facts(
        in_container=chosen.in_container,
        backend=chosen.backend,
        data_directory=_without_links(chosen.data_directory),
        log_directory=None if log_directory is None else _without_links(log_directory),
        cgroup_path=_without_links(chosen.cgroup_path),
        docker_host=chosen.docker_host,
        endpoint_port=chosen.endpoint_port,
        capabilities=effective(status),
        kernel=platform.release(),
        has_whole_user_namespace=users[:3] == _EVERYBODY if users else None,
        door=door,
        docker_pid=docker_pid,
        shares_processes=_shares_processes(proc, docker_pid),
        shares_network=_shares_network(proc, door, path, docker_pid),
        can_write_sysctls=_is_writable(proc / "sys/net"),
        can_write_logs=log_directory is None or _can_be_made(log_directory),
        mounts=parse_mountinfo(_text(proc / "self/mountinfo")),
        own_groups=_groups(_text(proc / "self/cgroup")),
    )


def _door(docker_host: str) -> tuple[Door, str]:
    if not docker_host.startswith(UNIX):
        return Door.REMOTE, ""
    path = docker_host.removeprefix(UNIX)
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return Door.ABSENT, path
    if stat.S_ISDIR(mode):
        return Door.DIRECTORY, path
    return (Door.SOCKET if stat.S_ISSOCK(mode) else Door.OTHER), path


def _listener(path: str) -> int | None:
    """Which process listens at the socket; works while Docker hangs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(ANSWER_SECONDS)
        try:
            asking.connect(path)
            return peer_of(asking).process
        except OSError:
            return None  # it is away; that is waited for later


def _shares_processes(proc: Path, docker_pid: int | None) -> bool | None:
    """Whether Docker and this process are in one PID namespace."""
    if docker_pid is not None:
        return docker_pid != 0
    # the first process of a PID namespace of our own is of our container; the machine's never is
    return False if _is_same(proc / "1/ns/mnt", proc / "self/ns/mnt") else None


def _shares_network(proc: Path, door: Door, path: str, docker_pid: int | None) -> bool | None:
    """Whether Docker and this process are in one network namespace."""
    if docker_pid:
        told = _is_same(proc / f"{docker_pid}/ns/net", proc / "self/ns/net")
        if told is not None:
            return told
    if door is Door.REMOTE or (door is Door.SOCKET and docker_pid is None):
        return None
    # The kernel lists the sockets of our own network namespace, with the names they were bound to. They are
    # asked only where the start is refused anyway: Docker's socket may have another name out there.
    return any(
        Path(name[0]).name == Path(path).name
        for line in _text(proc / "net/unix").splitlines()[1:]
        if (name := line.split()[_NAME_OF_SOCKET:])
    )


def _is_same(one: Path, other: Path) -> bool | None:
    try:
        return one.samefile(other)
    except OSError:
        return None  # it has ended, or it is not ours to look at


def _groups(text: str) -> tuple[tuple[str, str], ...]:
    parts = [line.split(":", 2) for line in text.splitlines()]
    return tuple((each[1], each[2]) for each in parts if len(each) == _PARTS)


def _is_writable(path: Path) -> bool:
    """Whether the file system lets it be written; rights are another matter."""
    try:
        return not os.statvfs(path).f_flag & os.ST_RDONLY
    except OSError:
        return False


def _can_be_made(directory: Path) -> bool:
    try:
        nearest = next(each for each in (directory, *directory.parents) if each.exists())
        return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    except OSError:  # a name that is too long, or a directory that is not ours to look into
        return False


def _without_links(path: Path) -> Path:
    """As mounts are named. Links that lead in a circle stay: whoever opens the path says so."""
    return Path(os.path.realpath(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


UNIX = "unix://"
_PARTS = 3
_NAME_OF_SOCKET = 7
_EVERYBODY = ["0", "0", "4294967295"]
