"""How a test looks into a task: its containers, its network, its control groups."""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.errors import NotFound

from tests.e2e.agent_process import Task, eventually
from tests.e2e.surroundings import CGROUPS

TASK_LABEL = "com.amazonaws.ecs.task-arn"
PAUSE = "internalecspause"


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended (or an HTTP status), and what it printed on both streams."""

    code: int
    text: str


_FETCH = """
import http.client, json, sys
from urllib.parse import urlsplit
url = urlsplit(sys.argv[1])
connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=float(sys.argv[2]))
try:
    path = url.path + ("?" + url.query if url.query else "")
    connection.request("GET", path or "/", headers=json.loads(sys.argv[3]))
    answer = connection.getresponse()
    print(answer.status, answer.read().decode(errors="replace"), end="")
except OSError as error:
    print(0, error, end="")
"""


class Containers:
    """The containers of tasks, as Docker and the kernel show them."""

    def __init__(self, docker: APIClient) -> None:
        self.docker = docker

    def of(self, arn: str) -> list[dict[str, Any]]:
        """All containers of a task, running or not, inspected; the pause container among them."""
        listed = self.docker.containers(all=True, filters={"label": [f"{TASK_LABEL}={arn}"]})
        return [found for each in listed if (found := self._inspected(each["Id"])) is not None]

    def pause_of(self, arn: str) -> dict[str, Any]:
        """The pause container of a task. There must be exactly one."""
        (found,) = [each for each in self.of(arn) if PAUSE in each["Name"]]
        return found

    def identities(self, arns: Iterable[str]) -> list[tuple[str, int, str]]:
        """Id, process id and start time of each container: what must not change."""
        found = [each for arn in arns for each in self.of(arn)]
        return sorted((each["Id"], each["State"]["Pid"], each["State"]["StartedAt"]) for each in found)

    def run(self, container: str, script: str) -> Result:
        """A shell script in a container (``docker exec``)."""
        return command("docker", "exec", container, "sh", "-c", script)

    def kill(self, container: str, signal: str = "KILL") -> None:
        """Send a signal to a container's first process."""
        self.docker.kill(container, signal)

    def pid(self, container: str) -> int:
        """The process id of a container's first process."""
        return int(self.docker.inspect_container(container)["State"]["Pid"])

    def network(self, task: Task) -> "Network":
        """The network namespace of a task."""
        return Network(self.pid(task.runtime_id()))

    def groups_of(self, task_id: str) -> list[Path]:
        """The control groups of a task, in all hierarchies that have one."""
        places = (CGROUPS, *(each for each in CGROUPS.iterdir() if each.is_dir()))
        return sorted({each.resolve() for place in places if (each := place / "ecs" / task_id).is_dir()})

    def task_limits(self, task_id: str) -> dict[str, float]:
        """Cores and bytes that the kernel lets a task have, on either version of control groups."""
        found: dict[str, float] = {}
        for group in self.groups_of(task_id):
            if (quota := group / "cpu.cfs_quota_us").exists():
                found["cpu"] = int(quota.read_text()) / int((group / "cpu.cfs_period_us").read_text())
            if (limit := group / "memory.limit_in_bytes").exists():
                found["memory"] = int(limit.read_text())
            if (both := group / "cpu.max").exists():
                first, second = both.read_text().split()
                found["cpu"] = int(first) / int(second)
            if (limit := group / "memory.max").exists():
                found["memory"] = int(limit.read_text())
        return found

    def descriptors(self, pid: int) -> int:
        """How many files a process has open."""
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))

    def _inspected(self, container: str) -> dict[str, Any] | None:
        try:
            return dict(self.docker.inspect_container(container))
        except NotFound:  # it was removed since it was listed
            return None


@dataclass(frozen=True, slots=True)
class Network:
    """A network namespace, by a process in it."""

    pid: int

    def run(self, *words: str) -> Result:
        """A command of this machine with the task's network."""
        return command("nsenter", f"--net=/proc/{self.pid}/ns/net", *words)

    def fetch(self, url: str, *, seconds: float = 5, headers: Mapping[str, str] | None = None) -> Result:
        """What a GET of the URL answers: status and body; status 0 and the error if nothing does."""
        done = self.run(
            sys.executable, "-I", "-S", "-c", _FETCH, url, str(seconds), json.dumps(dict(headers or {}))
        )
        assert done.code == 0, done
        status, _, body = done.text.partition(" ")
        return Result(int(status), body)

    def page(self, url: str) -> Result:
        """What the server of a task answers. A container runs when its process does, maybe before it listens."""
        answer: Result = eventually(f"{url} answers", lambda: self._answer_of(url))
        return answer

    def _answer_of(self, url: str) -> Result | None:
        answer = self.fetch(url)
        return answer if answer.code else None


def command(*words: str, seconds: float = 30.0) -> Result:
    """Run a command of this machine."""
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )
    return Result(done.returncode, done.stdout)


def environment_of(pid: int) -> dict[str, str]:
    """The environment that the program of a container was started with.

    Docker calls a container running a moment before its process, still the runtime's, becomes the program;
    with next to no share of a busy machine that moment is long.
    """

    def the_program() -> dict[str, str] | None:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found = dict(word.decode().split("=", 1) for word in words if b"=" in word)
        return None if "_LIBCONTAINER_INITPIPE" in found else found

    environment: dict[str, str] = eventually(f"process {pid} is the container's program", the_program)
    return environment


def open_file_limits(pid: int) -> list[str]:
    """The soft and the hard limit of open files of a container's program.

    A command that is run beside it may be given others (opencontainers/runc#4195).
    """
    (line,) = (
        line
        for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
        if line.startswith("Max open files")
    )
    return line.split()[3:5]


def credentials_url(containers: Containers, task: Task) -> str:
    """Where a task finds its role's credentials."""
    path = environment_of(containers.pid(task.runtime_id()))["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]
    return f"http://169.254.170.2{path}"


def parsed(result: Result) -> Any:
    """The JSON that a command printed or a server answered. It must have gone well."""
    assert result.code in (0, 200), result
    return json.loads(result.text)
