"""Where checks look: the settings, the file system, programs, processes and Docker, all with limits."""

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from agent.adapters.cni.conflist import BRIDGE_PLUGIN, TaskBridge
from agent.adapters.host.inside import Way, refused_links, way_to
from agent.adapters.host.listening import holders
from agent.cli.dockerd import Dockerd, DockerSilent
from agent.cli.doctor.asking import Reached, is_synchronised, look_at
from agent.cli.doctor.findings import NotApplicable
from agent.settings import Settings

T = TypeVar("T")

PROGRAM_LIMIT = 4.0
DOCKER_CALL = 2.5
CLAIM = "@berth-agent"
"""The abstract socket by which a running agent holds the network of its machine (``agent.daemon.life``)."""
AGENT_LIMIT = 3.0
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended."""

    code: int
    out: str
    err: str = ""


class Run(Protocol):
    """Runs a program: its words, what it reads, and what it finds in its environment besides a PATH."""

    def __call__(self, words: Sequence[str], text: str = "", **variables: str) -> Done | None:
        """Run to its end. None: there is no such program. Raise ``TimeoutError`` when it does not end."""


def run_program(words: Sequence[str], text: str = "", **variables: str) -> Done | None:
    """The real ``Run``."""
    try:
        done = subprocess.run(
            words,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROGRAM_LIMIT,
            check=False,
            env={**_ENVIRONMENT, **variables},
        )
    except FileNotFoundError:
        return None
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{' '.join(words[:3])} has not ended within {PROGRAM_LIMIT:g} s") from error
    return Done(done.returncode, done.stdout, done.stderr)


class Once(Generic[T]):
    """Asked by several checks, found out once; all get the same answer or the same error."""

    def __init__(self, find: Callable[[], T]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._answer: T | None = None
        self._error: Exception | None = None
        self._is_known = False

    def __call__(self) -> T:
        """The answer, found by the first who asks. Raise what finding it raised."""
        with self._lock:
            if not self._is_known:
                try:
                    self._answer = self._find()
                except Exception as error:  # noqa: BLE001 - raised below, for each who asks
                    self._error = error
                self._is_known = True
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[return-value]  # it is known


@dataclass(frozen=True, slots=True)
class DockerFacts:
    """``latency``: of a ping, in seconds. ``info``, ``version``: as Docker says."""

    latency: float
    info: Mapping[str, Any]
    version: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Process:
    """``words``: its command line."""

    pid: int
    name: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """What the introspection API of the running agent says."""

    metadata: Mapping[str, Any]
    health: Mapping[str, Any]


def _hang_up(pid: int) -> None:
    os.kill(pid, signal.SIGHUP)


@dataclass
class Facts:
    """Everything a check may ask. ``root``: where / is seen, another one in tests.

    ``chosen`` None: the settings are wrong, and ``problems`` says how.
    """

    chosen: Settings | None
    problems: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    root: Path = Path("/")
    run: Run = run_program
    disk: Callable[[Path], os.statvfs_result] = os.statvfs
    now: Callable[[], float] = time.time
    is_synchronised: Callable[[], bool | None] = is_synchronised
    refused_links: Callable[[], Mapping[str, str]] = refused_links
    way_to: Callable[[str, Path], Way] = way_to
    look_at: Callable[[str, bool], Reached] = look_at
    hang_up: Callable[[int], None] = _hang_up

    def __post_init__(self) -> None:
        self._shared: dict[str, Once[Any]] = {}
        self._lock = threading.Lock()
        self.docker: Callable[[], DockerFacts] = Once(self._docker)
        self.agent: Callable[[], AgentFacts | None] = Once(self._agent)
        self.processes: Callable[[], tuple[Process, ...]] = Once(partial(_processes, self.root / "proc"))

    @property
    def settings(self) -> Settings:
        """Raise ``NotApplicable`` while the settings are wrong."""
        if self.chosen is None:
            raise NotApplicable("the settings are wrong: see the check settings")
        return self.chosen

    @property
    def is_inside(self) -> bool:
        """Whether this runs in a container."""
        return self.environ.get("BERTH_IN_CONTAINER", "").lower() == "true" or (
            (self.root / ".dockerenv").exists() and self.host_root != self.root
        )

    @property
    def host_root(self) -> Path:
        """The machine's own /: from a container through the first process, where that may be looked at."""
        through = self.root / "proc" / "1" / "root"
        try:
            return through if (through / "etc").is_dir() and not through.samefile(self.root) else self.root
        except OSError:
            return self.root

    def text(self, path: str) -> str | None:
        """The content of a file below ``root``, stripped; None if there is none."""
        try:
            return (self.root / path.lstrip("/")).read_text(errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def once(self, name: str, find: Callable[[], T]) -> T:
        """The answer that the first who asks under this name has found."""
        with self._lock:
            shared = self._shared.setdefault(name, Once(find))
        answer: T = shared()
        return answer

    def socket(self) -> Dockerd:
        """A way to ask Docker."""
        return Dockerd(self.settings.docker_host, timeout=DOCKER_CALL)

    def agent_pid(self) -> int | None:
        """The process that holds this machine's network as its agent; None: none, or it may not be seen."""
        return self.once("agent pid", lambda: claim_holder(self.root / "proc"))

    def task_namespaces(self) -> tuple[int, ...]:
        """A process in the network namespace of each task that is joined to the bridge."""
        return self.once("tasks", self._sandboxes)

    def answering_docker(self) -> DockerFacts:
        """For checks that need Docker's answer and are not about it: raise ``NotApplicable`` without one."""
        try:
            return self.docker()
        except DockerSilent as error:
            raise NotApplicable(f"{error}: see the check docker") from error

    def _sandboxes(self) -> tuple[int, ...]:
        owners = {owner for _, owner in marked_ports(self.root / "sys/class/net")}
        return tuple(sorted(sandbox_processes(self.root / "proc", owners).values()))

    def _docker(self) -> DockerFacts:
        asked = self.socket()
        began = time.monotonic()
        asked.get("/_ping")
        latency = time.monotonic() - began
        return DockerFacts(latency, asked.get("/info"), asked.get("/version"))

    def _agent(self) -> AgentFacts | None:
        address = self.settings.introspection_address
        host, port = address.host, address.port
        try:
            metadata = _asked(host, port, "/v1/metadata")
            if not str(metadata.get("Version", "")).startswith("berth"):
                return None
            return AgentFacts(metadata, _asked(host, port, "/health"))
        except (ConnectionRefusedError, http.client.HTTPException, ValueError):
            return None  # nobody, or somebody else, is there


def _asked(host: str, port: int, path: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection(host, port, timeout=AGENT_LIMIT)
    try:
        connection.request("GET", path)
        document = json.loads(connection.getresponse().read())
        if not isinstance(document, dict):
            raise ValueError(f"{path} is no object")  # noqa: TRY004 - a wrong answer, as broken JSON is
        return document
    finally:
        connection.close()


def _processes(proc: Path) -> tuple[Process, ...]:
    found = []
    for directory in _numbered(proc):
        try:
            name = (directory / "comm").read_text(errors="replace").strip()
            words = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        found.append(Process(int(directory.name), name, tuple(word for word in words if word)))
    return tuple(found)


def _numbered(proc: Path) -> Iterator[Path]:
    try:
        yield from (each for each in proc.iterdir() if each.name.isdecimal())
    except FileNotFoundError:
        return


def claim_holder(proc: Path) -> int | None:
    """The process that holds this machine's network as its agent."""
    try:
        lines = (proc / "net/unix").read_text(errors="replace").splitlines()[1:]
    except FileNotFoundError:
        return None
    # number, references, protocol, flags, type, state, inode, path; flags of a listener: __SO_ACCEPTCON
    rows = [line.split() for line in lines]
    inodes = {row[6] for row in rows if row[-1] == CLAIM and row[3] == "00010000"}
    return next(iter(holders(proc, inodes).values()), None) if inodes else None


def marked_ports(links: Path) -> tuple[tuple[str, str], ...]:
    """Name and sandbox of each port of the tasks' bridge, by the mark that its plugin has left on it."""
    ports = links / TaskBridge().name / "brif"
    found = []
    for name in sorted(port.name for port in ports.iterdir()) if ports.is_dir() else ():
        try:
            words = (links / name / "ifalias").read_text(errors="replace").strip().split(":")
        except FileNotFoundError:
            continue  # it has just gone
        if len(words) >= _MARK_WORDS and (words[0], words[2]) == ("ecs", BRIDGE_PLUGIN):
            found.append((name, words[1]))
    return tuple(found)


def sandbox_processes(proc: Path, containers: Collection[str]) -> dict[str, int]:
    """A process of each container that has one, by the control groups of all processes; without Docker."""
    found: dict[str, int] = {}
    for directory in _numbered(proc) if containers else ():
        try:
            groups = (directory / "cgroup").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        for container in containers:
            if container and container in groups:
                found.setdefault(container, int(directory.name))
    return found


_MARK_WORDS = 4
