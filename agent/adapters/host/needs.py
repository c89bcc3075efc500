"""What the agent needs from where it was started: looked at before anything is touched, all of it at once.

``look`` asks the kernel and is quick; ``missing`` decides. In a container each answer names the option of
``docker run`` that gives what is missing.
"""

import os
import platform
import socket
import stat
import struct
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import Protocol

from agent.adapters.host.capabilities import docker_options, effective, lacking
from agent.adapters.host.mounts import Mount, covering, parse_mountinfo

NAMESPACES = Path("/run/netns")
"""Where network namespaces have their names (ip-netns(8))."""

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


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that is not there: what, what the agent needs it for, and what gives it.

    ``name`` is a stable word. ``is_needed`` False: the agent runs without it, and something is worse.
    """

    name: str
    what: str
    purpose: str
    remedy: str
    is_needed: bool = True

    def __str__(self) -> str:
        return f"{self.what} (for {self.purpose}): {self.remedy}"


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
        data_directory=chosen.data_directory.resolve(),
        log_directory=None if log_directory is None else log_directory.resolve(),
        cgroup_path=chosen.cgroup_path.resolve(),
        docker_host=chosen.docker_host,
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


def missing(facts: Facts) -> tuple[Missing, ...]:
    """Everything that is not there, what matters most first."""
    found = _missing_privileges(facts)
    if facts.in_container:
        found += _missing_namespaces(facts)
        found += _missing_mounts(facts)
    if not facts.can_write_logs:
        found.append(
            Missing(
                "log_directory",
                f"a directory {facts.log_directory} that can be written",
                "the log file of ECS_LOGFILE",
                _mount_option("/var/log/ecs", facts.log_directory)
                if facts.in_container
                else "make it, or choose another ECS_LOGFILE",
            )
        )
    return tuple(found)


def _missing_privileges(facts: Facts) -> list[Missing]:
    found = []
    for each in () if facts.capabilities is None else lacking(facts.capabilities, facts.kernel):
        remedy = f"add --privileged or --cap-add={each.name}" if facts.in_container else "run as root"
        found.append(Missing(f"cap_{each.name.lower()}", f"CAP_{each.name}", each.purpose, remedy))
    if not facts.in_container:
        return found
    if facts.has_whole_user_namespace is False:
        found.append(
            Missing(
                "user_namespace",
                "the user namespace of the machine",
                "every capability: in a user namespace of its own the kernel grants none of them outside",
                "add --userns=host",
            )
        )
    if not facts.can_write_sysctls:
        found.append(
            Missing(
                "sysctls",
                "a writable /proc/sys/net",
                "the routing between the tasks' networks",
                "add --privileged or --security-opt=systempaths=unconfined",
            )
        )
    return found


def _missing_namespaces(facts: Facts) -> list[Missing]:
    found = []
    if facts.shares_processes is False:
        found.append(
            Missing(
                "pid_namespace",
                "the PID namespace of the machine",
                "the processes of containers, which Docker names by their numbers there",
                "add --pid=host",
            )
        )
    if facts.shares_network is False:
        found.append(
            Missing(
                "network_namespace",
                "the network namespace of the machine",
                "the network interfaces that tasks are given, and the credentials endpoint",
                "add --net=host",
            )
        )
    return found


def _missing_mounts(facts: Facts) -> list[Missing]:
    found = []
    if facts.door in (Door.ABSENT, Door.DIRECTORY, Door.OTHER):
        found.append(_missing_docker(facts))
    below = covering(facts.mounts, facts.data_directory)
    if below is not None and (below.point == _ROOT or not below.is_writable):
        is_lost = below.point == _ROOT
        found.append(
            Missing(
                "data_directory",
                f"a place outside of the container at {facts.data_directory}"
                if is_lost
                else f"a directory {facts.data_directory} that can be written",
                "the records of tasks, which end with the container otherwise"
                if is_lost
                else "the records of tasks",
                _mount_option("/var/lib/ecs", facts.data_directory),
                # the tasks of a cluster outlive the agent; those of a laptop may end with it
                is_needed=facts.backend == "ecs" or not is_lost,
            )
        )
    # only the VPC of the local backend has namespaces with names
    names = covering(facts.mounts, NAMESPACES)
    if facts.backend == "local" and (names is None or names.point != NAMESPACES or not names.is_shared):
        found.append(
            Missing(
                "namespaces",
                f"{NAMESPACES} of the machine, mounted so that mounts below it are shared",
                "the network namespaces of the VPC, which outlive the agent's container",
                f"add -v {NAMESPACES}:{NAMESPACES}:shared",
            )
        )
    if not _has_groups_of_the_machine(facts):
        found.append(
            Missing(
                "control_groups",
                f"the machine's control groups, writable, at {facts.cgroup_path}",
                "the limits and statistics of tasks",
                "add -v /sys/fs/cgroup:/sys/fs/cgroup"
                if str(facts.cgroup_path) == "/sys/fs/cgroup"
                else f"add -v /sys/fs/cgroup:{facts.cgroup_path}",
            )
        )
    return found


def _missing_docker(facts: Facts) -> Missing:
    path = facts.docker_host.removeprefix(_UNIX)
    seen = {
        Door.ABSENT: "there is nothing",
        # Docker makes one for a bind mount whose source does not exist
        Door.DIRECTORY: "there is a directory, as Docker makes one when the machine has no such socket",
        Door.OTHER: "there is something else",
    }[facts.door]
    return Missing(
        "docker_socket",
        f"Docker's socket at {path}, where {seen}",
        "everything that is done with containers",
        f"add -v {path}:{path}, or set DOCKER_HOST to where it is",
    )


def _has_groups_of_the_machine(facts: Facts) -> bool:
    """Whether each hierarchy is there whole and writable, not just the part that this container is in."""
    hierarchies = [
        mount
        for mount in facts.mounts
        if mount.kind in ("cgroup", "cgroup2") and mount.point.is_relative_to(facts.cgroup_path)
    ]
    # a later mount at the same place hides an earlier one
    seen = {mount.point: mount for mount in hierarchies}.values()
    return bool(seen) and all(mount.is_writable and _is_whole(mount, facts.own_groups) for mount in seen)


def _is_whole(mount: Mount, own_groups: tuple[tuple[str, str], ...]) -> bool:
    if mount.root.startswith("/.."):
        return True  # above what a control group namespace of our own calls the root
    own = _own_group(mount, own_groups)
    # the root of a namespace of our own is the group that we are in; that of the machine is not
    return mount.root == "/" and own != "/"


def _own_group(mount: Mount, own_groups: tuple[tuple[str, str], ...]) -> str | None:
    if mount.kind == "cgroup2":
        return dict(own_groups).get("")
    for names, group in own_groups:
        if names and all(name in mount.options for name in names.split(",")):
            return group
    return None


def _mount_option(usual: str, path: PurePath | None) -> str:
    place = usual if path is None or path.is_relative_to(usual) else str(path)
    return f"add -v {place}:{place}"


def _door(docker_host: str) -> tuple[Door, str]:
    if not docker_host.startswith(_UNIX):
        return Door.REMOTE, ""
    path = docker_host.removeprefix(_UNIX)
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return Door.ABSENT, path
    if stat.S_ISDIR(mode):
        return Door.DIRECTORY, path
    return (Door.SOCKET if stat.S_ISSOCK(mode) else Door.OTHER), path


def _listener(path: str) -> int | None:
    """Which process listens at the socket (unix(7), SO_PEERCRED); works while Docker hangs."""
    credentials = struct.Struct("3i")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(ANSWER_SECONDS)
        try:
            asking.connect(path)
            answer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
        except OSError:
            return None  # it is away; that is waited for later
    pid: int = credentials.unpack(answer)[0]
    return pid


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
    nearest = next(each for each in (directory, *directory.parents) if each.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


_ROOT = PurePath("/")
_UNIX = "unix://"
_PARTS = 3
_NAME_OF_SOCKET = 7
_EVERYBODY = ["0", "0", "4294967295"]

__all__ = ["Chosen", "Door", "Facts", "Missing", "docker_options", "look", "missing"]
