"""What containers use, from the kernel's own files: control groups of both versions, hybrids, and net/dev.

The same numbers from Docker cost dockerd and containerd several times as much processor time, and Docker
knows nothing of an interface that it did not make itself.
"""

import asyncio
import errno
import glob
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from agent.adapters.host.counters import (
    Storage,
    UnreadableCounter,
    content,
    counting_files,
    cpu_v1,
    cpu_v2,
    link_usage,
    memory_v1,
    memory_v2,
    storage_v1,
    storage_v2,
)
from agent.model.errors import PortUnavailable
from agent.model.ids import ContainerId
from agent.model.usage import LinkUsage, Usage
from agent.ports.usage import UsageSubject

log = structlog.get_logger()

T = TypeVar("T")

_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTDIR, errno.ESRCH})
"""What the kernel says of the files of a group or a process that has gone, also once they are open."""

_SHORTEST_ID = 12
"""Digits. A shorter container id could be part of a path by chance."""

_STORAGE_V1 = "blkio.throttle.io_service_bytes"
"""What a group of version 1 has wherever storage can be counted at all."""

_LEVELS_ABOVE = 4
"""How far below a tree's top a group is searched whose path begins at the agent's own group."""


class KernelUsage:
    """``UsageProbe`` on the files below ``cgroup_root`` and ``proc_root``.

    ``proc_root`` must show the machine's processes by the numbers that the container runtime gives. Both may
    be mounted elsewhere when the agent runs in a container. A container is recognised by its id in the names
    of its control groups, so a process id that meanwhile belongs to another process is never believed.
    """

    def __init__(
        self, *, cgroup_root: Path = Path("/sys/fs/cgroup"), proc_root: Path = Path("/proc")
    ) -> None:
        self._cgroup_root = cgroup_root
        self._proc_root = proc_root
        self._sources: dict[ContainerId, _Sources] = {}
        self._named: set[tuple[str, str]] = set()
        self._looking = threading.Lock()
        self._counting: tuple[str, ...] = ()

    async def read(self, subjects: Sequence[UsageSubject]) -> tuple[Usage | None, ...]:
        """All counters of all subjects, in one thread. Raise ``PortUnavailable`` if an earlier look hangs."""
        return await asyncio.to_thread(self.look, tuple(subjects))

    def look(self, subjects: Sequence[UsageSubject]) -> tuple[Usage | None, ...]:
        """The same in the calling thread. Blocks, for about a tenth of a millisecond per subject."""
        if not self._looking.acquire(blocking=False):
            raise PortUnavailable("an earlier look at the counters of the containers has not ended")
        try:
            self._counting = self._counting_files()
            found = tuple(self._usage(each) for each in subjects)
            for container in self._sources.keys() - {each.container_id for each in subjects}:
                del self._sources[container]
        finally:
            self._looking.release()
        return found

    # -- one container -------------------------------------------------------------------------

    def _usage(self, subject: UsageSubject) -> Usage | None:
        try:
            sources = self._sources.get(subject.container_id)
            if sources is None:
                sources = self._sources[subject.container_id] = self._find(subject)
            at = time.monotonic()
            cpu = self._tried(sources.cpu)
            memory = self._tried(sources.memory)
            read, written = self._tried(sources.storage) or (None, None)
            return Usage(at, cpu, memory, read, written, self._link(subject))
        except _ContainerGone:
            self._sources.pop(subject.container_id, None)
            return None

    def _storage_v1(self, group: str) -> Storage | None:
        return storage_v1(group, self._counting)

    def _counting_files(self) -> tuple[str, ...]:
        tops = [
            top
            for each in ("blkio", "*,blkio", "blkio,*")
            for top in self._cgroup_root.glob(each)
            if top.is_dir()
        ]
        return self._tried(partial(counting_files, str(tops[0]))) or () if tops else ()

    def _link(self, subject: UsageSubject) -> LinkUsage | None:
        if subject.link is None:
            return None
        process = f"{self._proc_root}/{subject.pid}"
        found = self._tried(partial(link_usage, f"{process}/net/dev", subject.link.encode()))
        # Looked at afterwards: a process that is the container's now was so when its links were read.
        if subject.container_id.encode() not in (self._tried(partial(content, f"{process}/cgroup")) or b""):
            raise _ContainerGone
        return found

    def _tried(self, source: Callable[[], T | None] | None) -> T | None:
        """What the source says. None: it cannot be read, and the log names it. Raise ``_ContainerGone``."""
        if source is None:
            return None
        try:
            return source()
        except OSError as error:
            if error.errno in _GONE:
                raise _ContainerGone from error
            self._name(str(error.filename), error.strerror or str(error))
        except UnreadableCounter as error:
            self._name(error.path, error.problem)
        return None

    def _name(self, path: str, problem: str) -> None:
        # Once for all containers: what the kernel or a mount withholds, it withholds for each of them.
        key = (Path(path).name, problem)
        if key not in self._named:
            self._named.add(key)
            log.warning("usage.withheld", path=path, problem=problem)

    # -- where its groups are ------------------------------------------------------------------

    def _find(self, subject: UsageSubject) -> "_Sources":
        if len(subject.container_id) < _SHORTEST_ID:
            raise _ContainerGone
        groups = self._groups_of(subject)
        return _Sources(
            cpu=self._source("cpuacct", groups, subject, (cpu_v1, "cpuacct.usage"), (cpu_v2, "cpu.stat")),
            memory=self._source(
                "memory", groups, subject, (memory_v1, "memory.stat"), (memory_v2, "memory.stat")
            ),
            storage=self._source(
                "blkio", groups, subject, (self._storage_v1, _STORAGE_V1), (storage_v2, "io.stat")
            ),
        )

    def _groups_of(self, subject: UsageSubject) -> dict[str, "_Membership"]:
        """By controller of version 1, and under the empty name version 2."""
        text = self._tried(partial(content, f"{self._proc_root}/{subject.pid}/cgroup")) or b""
        found: dict[str, _Membership] = {}
        for line in os.fsdecode(text).splitlines():
            _, controllers, path = line.split(":", 2)
            for each in controllers.split(","):
                found[each] = _Membership(controllers, path)
        return found

    def _source(
        self,
        controller: str,
        groups: dict[str, "_Membership"],
        subject: UsageSubject,
        *readers: tuple[Callable[[str], T], str],
    ) -> Callable[[], T] | None:
        """``readers``: of version 1 and 2, each with a file that must be there."""
        group = self._group(controller, groups, subject)
        if group is None:
            return None
        reader, file = readers[0 if controller in groups else 1]
        if (group / file).exists():
            return partial(reader, str(group))
        if not group.exists():
            raise _ContainerGone
        self._name(str(group / file), "there is no such file; the controller is not enabled for containers")
        return None

    def _group(self, controller: str, groups: dict[str, "_Membership"], subject: UsageSubject) -> Path | None:
        """The container's group that has this controller. None: it is not to be seen from here."""
        member = groups.get(controller) or groups.get("", _Membership("", ""))
        parts = [each for each in member.path.split("/") if each not in {"", ".."}]
        own = [index for index, each in enumerate(parts) if subject.container_id in each]
        if not own or member.path.endswith(" (deleted)"):
            raise _ContainerGone
        # A container may have groups of its own below its group, and its first process may be in one of them.
        path = glob.escape("/".join(parts[: own[0] + 1]))
        for top in self._tops(controller, member):
            # In a control group namespace, paths begin at the agent's own group instead of the top of the
            # tree. What is above is not known then, but the last part is the only one of its name.
            for level in range(_LEVELS_ABOVE + 1):
                for group in top.glob(f"{'*/' * level}{path}"):
                    return group
        if groups != self._groups_of(subject):
            raise _ContainerGone
        self._name(str(self._cgroup_root / member.controllers), "no container's control group is seen here")
        return None

    def _tops(self, controller: str, member: "_Membership") -> list[Path]:
        candidates = [member.controllers, controller] if member.controllers else ["unified", "."]
        return [top for each in candidates if (top := self._cgroup_root / each).is_dir()]


@dataclass(frozen=True, slots=True)
class _Membership:
    """Which group a process is in. ``controllers``: the hierarchy's, as the kernel lists them."""

    controllers: str
    path: str


@dataclass(frozen=True, slots=True)
class _Sources:
    """How one container's counters are read. None: this machine has no file for it."""

    cpu: Callable[[], int] | None
    memory: Callable[[], int] | None
    storage: Callable[[], Storage | None] | None


class _ContainerGone(Exception):
    """The container has ended, or its process id belongs to somebody else by now."""
