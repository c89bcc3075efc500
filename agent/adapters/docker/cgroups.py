"""Control groups of tasks: where they are, what is written into them, how they go away. v1, v2 and hybrids.

Everything here blocks for a moment and is called in a thread.
"""

import errno
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from agent.adapters.docker.settings import MACHINE, DockerSettings
from agent.adapters.docker.translate import MIB, own_filter, shares
from agent.model.errors import CannotLimitResources, CannotRemoveContainer
from agent.model.ids import ContainerId, TaskId
from agent.model.spec import TaskSpec

OWNER_ATTRIBUTE = "trusted.berth.owner"
"""The extended attribute that says whose a task's group is: control groups have no labels."""

UNITS_PER_CORE = 1024
LEAST_QUOTA = 1000
"""Microseconds per period; the kernel refuses less."""

_V1_CONTROLLERS = ("cpu", "cpuset", "memory")
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")
_REMOVAL_SECONDS = 2.0
_SYSTEMCTL_SECONDS = 20.0
_MOST_SHARES = 262_144
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    # the root that it is given is the machine's own: it must not take that for a root in the making
    "SYSTEMD_IGNORE_CHROOT": "1",
}
"""All that the program needs of an environment; ours may hold the keys of this machine."""

_SYSTEMCTLS = ("usr/bin/systemctl", "bin/systemctl")

_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Driver(StrEnum):
    """Who makes Docker's control groups."""

    CGROUPFS = "cgroupfs"
    SYSTEMD = "systemd"


@dataclass(frozen=True, slots=True)
class Layout:
    """What the machine has: control groups of version 1 or 2, made by Docker itself or by systemd."""

    version: int
    driver: Driver


def layout_of(info: Mapping[str, Any], root: Path) -> Layout:
    """What Docker says of itself (``GET /info``). Before API 1.41 it does not say which version it uses."""
    says = str(info.get("CgroupVersion") or ("2" if (root / "cgroup.controllers").exists() else "1"))
    driver = Driver.SYSTEMD if info.get("CgroupDriver") == Driver.SYSTEMD else Driver.CGROUPFS
    return Layout(version=int(says), driver=driver)


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """What a task may use. ``quota`` in µs of CPU time per ``period``, ``memory`` in bytes; None: no limit.

    ``shares``: its weight against other tasks, where it has no quota.
    """

    period: int
    quota: int | None
    shares: int
    memory: int | None


def limits_of(task: TaskSpec, period: int) -> TaskLimits:
    """The limits in a spec (ecs-protocol 5.4). ``period`` in µs."""
    quota = None if task.cpu is None else max(task.cpu * period // UNITS_PER_CORE, LEAST_QUOTA)
    total = min(sum(shares(each.cpu) for each in task.containers), _MOST_SHARES)
    memory = None if task.memory is None else task.memory * MIB
    return TaskLimits(period=period, quota=quota, shares=shares(total), memory=memory)


class TaskGroups:
    """The groups of all tasks, below ``parent`` in every hierarchy under ``root``.

    ``owner`` marks the groups as this agent's. ``is_enabled`` False: no group is made, and containers are
    where Docker puts them by default.
    """

    def __init__(
        self, root: Path, parent: str, layout: Layout, *, owner: str, period: int, is_enabled: bool
    ) -> None:
        self._root = root
        self._parent = parent.strip("/")
        self._layout = layout
        self._owner = owner.encode()
        self._period = period
        self._is_enabled = is_enabled

    # -- names ---------------------------------------------------------------------------------

    def parent_for(self, task: TaskId) -> str | None:
        """What Docker is told as the parent of the task's containers. None: its own default."""
        if not self._is_enabled:
            return None
        if self._layout.driver is Driver.SYSTEMD:
            return f"{self._slice_base()}-{self._checked(task)}.slice"
        return f"/{self._parent}/{self._checked(task)}"

    def paths_of(self, task: TaskId, container: ContainerId) -> tuple[Path, ...]:
        """Where the container's own group is, in every hierarchy that has it."""
        is_systemd = self._layout.driver is Driver.SYSTEMD
        leaf = f"docker-{container}.scope" if is_systemd else container
        above = self._relative(task) if self._is_enabled else ("system.slice" if is_systemd else "docker")
        return tuple(path for path in (each / above / leaf for each in self._hierarchies()) if path.is_dir())

    # -- verbs ---------------------------------------------------------------------------------

    def ensure(self, task: TaskSpec) -> None:
        """Make the task's group with its limits. Raise ``CannotLimitResources``."""
        if not self._is_enabled:
            return
        self._checked(task.task_id)
        limits = limits_of(task, self._period)
        try:
            if self._layout.driver is Driver.SYSTEMD:
                self._ensure_slice(task.task_id, limits)
            elif self._layout.version == 1:
                self._ensure_v1(task.task_id, limits)
            else:
                self._ensure_v2(task.task_id, limits)
        except OSError as error:
            where = f" {error.filename}" if error.filename else ""
            raise CannotLimitResources(
                f"cannot make the control group of task {task.task_id}:{where}: {error.strerror or error}"
            ) from error

    def remove(self, task: TaskId) -> None:
        """Remove the task's group everywhere. Raise ``CannotRemoveContainer`` while processes are in it."""
        if not self._is_enabled:
            return
        if self._layout.driver is Driver.SYSTEMD:
            self._release_slice(task)
        until = time.monotonic() + _REMOVAL_SECONDS
        for path in [each / self._relative(task) for each in self._hierarchies()]:
            # The kernel lets go of an ended process a little after its end was reported.
            while (busy := _removed(path)) is not None:
                if time.monotonic() >= until:
                    raise CannotRemoveContainer(
                        f"cannot remove the control group {busy.filename}: {busy.strerror}"
                    ) from busy
                time.sleep(0.02)

    def leftovers(self, known: frozenset[TaskId]) -> tuple[TaskId, ...]:
        """Tasks that are not known and have a group that carries this agent's mark, sorted."""
        found: set[TaskId] = set()
        if self._is_enabled and self._layout.driver is Driver.CGROUPFS:
            for hierarchy in self._hierarchies():
                for path in _folders(hierarchy / self._parent):
                    task = TaskId(path.name)
                    if task not in known and _mark(path) == self._owner:
                        found.add(task)
        return tuple(sorted(found))

    # -- version 1 -----------------------------------------------------------------------------

    def _ensure_v1(self, task: TaskId, limits: TaskLimits) -> None:
        for controller in _V1_CONTROLLERS:
            hierarchy = self._root / controller
            if not hierarchy.is_dir():
                continue  # a kernel without it: the others still limit what they can
            group = hierarchy / self._parent / task
            group.mkdir(parents=True, exist_ok=True)
            self._put_mark(group)
            if controller == "cpuset":
                _inherit_cpuset(hierarchy, group)
            elif controller == "cpu":
                if limits.quota is None:
                    _write(group / "cpu.shares", limits.shares)
                else:
                    _write(group / "cpu.cfs_period_us", limits.period)
                    _write(group / "cpu.cfs_quota_us", limits.quota)
            elif limits.memory is not None:
                _write(group / "memory.use_hierarchy", 1)
                _write(group / "memory.limit_in_bytes", limits.memory)

    # -- version 2 -----------------------------------------------------------------------------

    def _ensure_v2(self, task: TaskId, limits: TaskLimits) -> None:
        group = self._root / self._parent / task
        group.mkdir(parents=True, exist_ok=True)
        self._put_mark(group)
        for above in reversed((group, *group.parents)):
            if above.is_relative_to(self._root):
                _enable_controllers(above)
        if limits.quota is None:
            _write(group / "cpu.weight", weight(limits.shares))
        else:
            _write(group / "cpu.max", f"{limits.quota} {limits.period}")
        if limits.memory is not None:
            _write(group / "memory.max", limits.memory)

    def _put_mark(self, group: Path) -> None:
        try:
            os.setxattr(group, OWNER_ATTRIBUTE, self._owner)
        except OSError as error:
            # Some kernels and all test trees have no such attributes; then nothing is ever a leftover.
            if error.errno not in {errno.ENOTSUP, errno.EPERM}:
                raise

    # -- systemd -------------------------------------------------------------------------------

    def _ensure_slice(self, task: TaskId, limits: TaskLimits) -> None:
        # Written by hand, the limits would be undone when systemd realises the slice for its first scope.
        cores = None if limits.quota is None else limits.quota * 100 / limits.period
        properties = [
            f"CPUWeight={weight(limits.shares)}" if cores is None else f"CPUQuota={cores:.2f}%",
            *([] if limits.memory is None else [f"MemoryMax={limits.memory}"]),
        ]
        if self._layout.version == 1:
            properties = [each.replace("MemoryMax=", "MemoryLimit=") for each in properties]
        _systemctl("set-property", "--runtime", f"{self._slice_base()}-{task}.slice", *properties)

    def _release_slice(self, task: TaskId) -> None:
        name = f"{self._slice_base()}-{self._checked(task)}.slice"
        try:
            _systemctl("stop", name)
            _systemctl("revert", name)
        except OSError as error:
            raise CannotRemoveContainer(f"cannot remove the slice {name}: {error}") from error

    # -- paths ---------------------------------------------------------------------------------

    def _slice_base(self) -> str:
        return f"{self._parent.replace('/', '-')}tasks"

    def _relative(self, task: TaskId) -> str:
        self._checked(task)
        if self._layout.driver is Driver.CGROUPFS:
            return f"{self._parent}/{task}"
        # Every dash in a slice's name is a level of the tree.
        parts = f"{self._slice_base()}-{task}".split("-")
        return "/".join(f"{'-'.join(parts[: count + 1])}.slice" for count in range(len(parts)))

    def _checked(self, task: TaskId) -> str:
        if not _TASK_ID.fullmatch(task):
            raise CannotLimitResources(
                f"task id {task!r} cannot name a control group; expected letters and digits"
            )
        return task

    def _hierarchies(self) -> tuple[Path, ...]:
        if self._layout.version != 1:
            return (self._root,)
        return tuple(dict.fromkeys(each.resolve() for each in _folders(self._root)))


def weight(cpu_shares: int) -> int:
    """Shares of version 1 (2..262144) on the scale of version 2 (1..10000)."""
    return 1 + (cpu_shares - 2) * 9999 // 262_142


def _enable_controllers(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    enabled = (group / "cgroup.subtree_control").read_text().split()
    missing = [each for each in _V2_CONTROLLERS if each in available and each not in enabled]
    if missing:
        _write(group / "cgroup.subtree_control", " ".join(f"+{each}" for each in missing))


def _inherit_cpuset(hierarchy: Path, group: Path) -> None:
    # An empty set takes no process, and a set can only be filled from its parent's, so from the top down.
    for above in reversed((group, *group.parents)):
        if above != hierarchy and above.is_relative_to(hierarchy):
            for name in ("cpuset.cpus", "cpuset.mems"):
                if not (above / name).read_text().strip():
                    _write(above / name, (above.parent / name).read_text().strip())


def _write(path: Path, value: object) -> None:
    try:
        path.write_text(f"{value}\n")
    except OSError as error:
        text = f"{error.strerror} (writing {value})"
        raise OSError(error.errno, text, str(path)) from error


def _removed(path: Path) -> OSError | None:
    """Remove the group and those below it; None when it is gone, else what was in the way."""
    if not path.is_dir():
        return None
    try:
        for below in _folders(path):
            busy = _removed(below)
            if busy is not None:
                return busy
        path.rmdir()
    except FileNotFoundError:
        return None
    except OSError as error:
        return error
    return None


def _folders(path: Path) -> Iterator[Path]:
    try:
        entries: Iterable[Path] = sorted(path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (each for each in entries if each.is_dir())


def _mark(path: Path) -> bytes | None:
    try:
        return os.getxattr(path, OWNER_ATTRIBUTE)
    except OSError:
        return None


def groups_here(settings: DockerSettings, info: Mapping[str, Any]) -> TaskGroups:
    """The groups of this machine, as Docker makes them (``info``: what it says of itself)."""
    return TaskGroups(
        settings.cgroup_root,
        settings.cgroup_parent,
        layout_of(info, settings.cgroup_root),
        owner=",".join(own_filter(settings)),
        period=int(settings.cpu_period.total_seconds() * 1_000_000),
        is_enabled=settings.task_limits,
    )


def systemctl_command() -> list[str] | None:
    """How systemd is asked; None: there is no way to. From a container the machine's own program is run.

    Beside the container's there is no bus and no systemctl, but with the machine's PID namespace its root is
    in sight, and a program that has it as its own root finds both (``CAP_SYS_CHROOT``).
    """
    program = shutil.which("systemctl")
    if program is not None:
        return [program]
    change_root = shutil.which("chroot")
    if change_root is None or not any(os.access(MACHINE / each, os.X_OK) for each in _SYSTEMCTLS):
        return None
    return [change_root, str(MACHINE), "systemctl"]


def _systemctl(*arguments: str) -> None:
    command = systemctl_command()
    if command is None:
        raise OSError(
            errno.ENOENT, "Docker makes control groups through systemd, but there is no systemctl here"
        )
    try:
        done = subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            timeout=_SYSTEMCTL_SECONDS,
            check=False,
            env=_ENVIRONMENT,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(errno.ETIMEDOUT, f"systemctl {arguments[0]} did not end in time") from error
    if done.returncode != 0:
        raise OSError(errno.EIO, f"systemctl {' '.join(arguments)}: {done.stderr.strip()}")
