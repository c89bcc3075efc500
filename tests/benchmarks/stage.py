"""An agent of its own for a benchmark: started from nothing, asked over its real API, removed without trace."""

import asyncio
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from docker import APIClient

from agent import logs
from agent.adapters.docker.keeper import KEEPER_LABEL
from agent.adapters.host.plumbing import HostPlumbing
from agent.adapters.host.rules import FirewallPlan
from agent.adapters.local.vpc.plan import default_plan
from agent.adapters.local.vpc.vpc import DEFAULT_NAMESPACE, SimulatedVpc
from tests.e2e.agent_container import AgentContainer

TREE = Path(__file__).resolve().parents[2]
LOG = TREE / "build/bench-agent.log"
"""Of the agent that was measured last. It stays, for those who wonder about a figure."""

IN_CONTAINER = "BERTH_BENCH_AGENT_IN_CONTAINER"
"""Set, the agent is in its image, started by ``docker run`` as its documents say."""

METADATA = "http://127.0.0.1:51678/v1/metadata"
API = ("127.0.0.1", 51670)
REGION, ACCOUNT = "us-east-1", "111122223333"
MOST_PER_CALL = 10
DEFINITION = {
    "family": "bench",
    "networkMode": "awsvpc",
    "containerDefinitions": [
        {"name": "web", "image": "berth/demo-web:latest", "cpu": 10, "memory": 32, "essential": True}
    ],
}


class Unmeasurable(Exception):
    """The benchmark cannot be done here. The text says what to change."""


class AgentOnStage(ABC):
    """One agent in a directory of its own: its process, and what it costs. A subclass knows its backend."""

    cluster: str

    def __init__(self, directory: Path, settings: dict[str, str]) -> None:
        self.directory = directory
        self.docker = APIClient()
        self._settings = settings
        self._process: subprocess.Popen[bytes] | AgentContainer | None = None

    # -- its life ------------------------------------------------------------------------------

    def launch(self) -> float:
        """Start its process and do not wait; when that was, by the monotonic clock."""
        if os.environ.get(IN_CONTAINER):
            return self._launch_container()
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "BERTH_ENV_FILE": "/dev/null",
            "ECS_DATADIR": str(self.directory / "data"),
            "BERTH_RUN_DIRECTORY": str(self.directory / "run"),
            "ECS_CNI_PLUGINS_PATH": str(TREE / "build/cni"),
            "BERTH_PAUSE_PATH": str(TREE / "build/pause"),
            "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION": "1s",
            "BERTH_LOG_CONSOLE": "json",
            **self._settings,
        }
        began = time.monotonic()
        with LOG.open("ab") as log:
            self._process = subprocess.Popen(
                [Path(sys.executable).with_name("berth"), "agent"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
            )
        return began

    def _launch_container(self) -> float:
        settings = {
            "ECS_DATADIR": str(self.directory / "data"),
            "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION": "1s",
            "BERTH_LOG_CONSOLE": "json",
            **self._settings,
        }
        env_file = self.directory / "agent.env"
        env_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        began = time.monotonic()
        self._process = AgentContainer(self.directory, env_file, LOG, {})
        return began

    def start(self) -> float:
        """Start it; the seconds until it answers. Raise ``Unmeasurable``."""
        began = self.launch()
        while not _answers():
            self.require_life()
            if time.monotonic() - began > 60:
                raise Unmeasurable("the agent does not answer within 60 s")
            time.sleep(0.005)
        return time.monotonic() - began

    def require_life(self) -> None:
        """Raise ``Unmeasurable`` with its last words if it has ended."""
        if self._process is None or self._process.poll() is not None:
            said = self.log().strip().splitlines()[-3:]
            raise Unmeasurable("the agent does not run:\n" + "\n".join(said))

    def kill(self) -> None:
        """``kill -9``: it finishes nothing; its tasks stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def stop(self) -> None:
        """Let it end; its tasks stay."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self._process = None

    def remove(self) -> None:
        """Leave nothing behind, whatever has happened."""
        self.stop()
        for name in (*self.containers(), *self._keepers()):
            self.docker.remove_container(name, force=True, v=True)
        self.remove_network()
        for group in self._groups():
            group.rmdir()
        self.docker.close()

    @property
    def pid(self) -> int:
        """Its process."""
        if self._process is None:
            raise Unmeasurable("the agent does not run")
        return self._process.pid

    def host_pid(self) -> int | None:
        """The process of its plugin host, if it has one."""
        for path in Path(f"/proc/{self.pid}/task").glob("*/children"):
            for child in path.read_text().split():
                if b"ecs-plugin-host" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        return None

    def cpu(self) -> float:
        """Seconds of CPU that it, its plugin host and their ended children have used."""
        seconds = 0.0
        for pid in (self.pid, self.host_pid()):
            if pid is not None:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                seconds += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        return seconds

    def log(self) -> str:
        """What it has logged."""
        return LOG.read_text(errors="replace")

    # -- its tasks -----------------------------------------------------------------------------

    @abstractmethod
    def run(self, count: int) -> list[str]:
        """Have so many tasks run; their ARNs."""

    @abstractmethod
    def await_status(self, arns: list[str], status: str, *, every: float) -> None:
        """Wait until all tasks have that status. Raise ``Unmeasurable`` if one ends instead."""

    @abstractmethod
    def end(self, arns: list[str], *, every: float = 0.1) -> None:
        """Stop the tasks and wait until nothing of them is left, so that the next round has quiet."""

    @abstractmethod
    def task_ids(self) -> list[str]:
        """The ids of all tasks that it was ever given."""

    @abstractmethod
    def remove_network(self) -> None:
        """Remove what it has made of network on this machine."""

    def await_removal(self) -> None:
        """Wait until the containers of all stopped tasks are removed."""
        until = time.monotonic() + 60
        while self.containers():
            if time.monotonic() > until:
                raise Unmeasurable(f"containers are left after 60 s: {self.containers()}")
            time.sleep(0.1)

    def containers(self) -> list[str]:
        """The Docker ids of its containers."""
        label = f"com.amazonaws.ecs.cluster={self.cluster}"
        return [each["Id"] for each in self.docker.containers(all=True, filters={"label": label})]

    def _keepers(self) -> list[str]:
        label = f"{KEEPER_LABEL}={self.directory / 'data/keeper'}"
        return [each["Id"] for each in self.docker.containers(all=True, filters={"label": label})]

    def _groups(self) -> list[Path]:
        """Control groups that killed tasks left: those with an id that its control plane gave."""
        roots = (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir())
        found = {(root / "ecs" / task).resolve() for root in roots for task in self.task_ids()}
        return [group for group in found if group.is_dir()]


class BenchAgent(AgentOnStage):
    """One agent with the local backend, which is its own control plane."""

    def __init__(self, directory: Path, settings: dict[str, str]) -> None:
        self.cluster = f"bench-{os.getpid()}"
        super().__init__(directory, {"BERTH_BACKEND": "local", "ECS_CLUSTER": self.cluster, **settings})
        self.subnet = default_plan(REGION, seed=ACCOUNT).subnets[0].subnet_id
        self._keeps_network = asyncio.run(_is_network_there())
        self._connection = http.client.HTTPConnection(*API, timeout=60)
        self._signer: SigV4Auth | None = None

    def start(self) -> float:
        """Start it; the seconds until it answers. Raise ``Unmeasurable``."""
        took = super().start()
        keys = json.loads((self.directory / "data/credentials.json").read_text())
        credentials = Credentials(keys["accessKeyId"], keys["secretAccessKey"])
        self._signer = SigV4Auth(credentials, "ecs", REGION)
        return took

    def stop(self) -> None:
        """Let it end; its tasks stay."""
        super().stop()
        self._connection.close()

    def remove_network(self) -> None:
        """Remove the simulated VPC, unless it was there before."""
        if not self._keeps_network:
            asyncio.run(_remove_vpc())
            remove_plumbing()

    def task_ids(self) -> list[str]:
        """The ids of all tasks that it was ever given."""
        path = self.directory / "data/berth.db"
        if not path.exists():
            return []
        with closing(sqlite3.connect(path)) as store:
            return [row[0] for row in store.execute("SELECT id FROM tasks")]

    # -- its control plane ---------------------------------------------------------------------

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        """One signed call on a connection that is kept, as an SDK does it."""
        assert self._signer is not None
        body = json.dumps(request).encode()
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"AmazonEC2ContainerServiceV20141113.{operation}",
            "Host": f"{API[0]}:{API[1]}",
        }
        signed = AWSRequest(method="POST", url=f"http://{API[0]}:{API[1]}/", data=body, headers=headers)
        self._signer.add_auth(signed)
        self._connection.request("POST", "/", body=body, headers=dict(signed.headers.items()))
        with self._connection.getresponse() as answer:
            document: dict[str, Any] = json.loads(answer.read())
            if answer.status != http.client.OK:
                raise Unmeasurable(f"{operation}: {document}")
        return document

    def register(self) -> None:
        """Make the task definition that all benchmarks run."""
        self.ask("RegisterTaskDefinition", **DEFINITION)

    def run(self, count: int) -> list[str]:
        """RunTask as often as it takes; the ARNs."""
        self._connection.close()  # the agent may have closed it, too, if nobody spoke for a while
        network = {"awsvpcConfiguration": {"subnets": [self.subnet]}}
        arns: list[str] = []
        while len(arns) < count:
            answer = self.ask(
                "RunTask",
                cluster=self.cluster,
                taskDefinition=DEFINITION["family"],
                networkConfiguration=network,
                count=min(MOST_PER_CALL, count - len(arns)),
            )
            if answer["failures"]:
                raise Unmeasurable(f"RunTask: {answer['failures']}")
            arns += [task["taskArn"] for task in answer["tasks"]]
        return arns

    def await_status(self, arns: list[str], status: str, *, every: float) -> None:
        """Poll until all tasks have that status. Raise ``Unmeasurable`` if one ends instead."""
        waiting = list(arns)
        until = time.monotonic() + 120
        while waiting:
            seen = self.ask("DescribeTasks", cluster=self.cluster, tasks=waiting[:100])["tasks"]
            ended = [task for task in seen if task["lastStatus"] == "STOPPED" != status]
            if ended:
                raise Unmeasurable(f"a task ended: {ended[0].get('stoppedReason')}")
            reached = {task["taskArn"] for task in seen if task["lastStatus"] == status}
            waiting = [arn for arn in waiting if arn not in reached]
            if waiting:
                if time.monotonic() > until:
                    raise Unmeasurable(f"{len(waiting)} tasks are not {status} after 120 s")
                time.sleep(every)

    def noted_at(self, arns: list[str], event: str) -> list[float]:
        """When the control plane wrote that event of each task into its history, in seconds since 1970.

        Read from its store afterwards: a client that polls fast would take the time that it measures.
        """
        ids = [arn.rsplit("/", 1)[1] for arn in arns]
        with closing(sqlite3.connect(f"file:{self.directory}/data/berth.db?mode=ro", uri=True)) as store:
            noted = dict(store.execute("SELECT task_id, at FROM events WHERE name = ?", (event,)))
        found = [noted[each] for each in ids if each in noted]
        if len(found) != len(arns):
            raise Unmeasurable(f"{event} is noted for {len(found)} of {len(arns)} tasks")
        return found

    def end(self, arns: list[str], *, every: float = 0.1) -> None:
        """Stop the tasks and wait until nothing of them is left, so that the next round has quiet."""
        for arn in arns:
            self.ask("StopTask", cluster=self.cluster, task=arn)
        self.await_status(arns, "STOPPED", every=every)
        self.await_removal()


@contextmanager
def bench_agent(**settings: str) -> Iterator[BenchAgent]:
    """An agent with these settings, running, with the task definition registered; removed in the end."""
    clear_stage()
    with tempfile.TemporaryDirectory(prefix="berth-bench-") as directory:
        agent = BenchAgent(Path(directory), settings)
        try:
            agent.start()
            agent.register()
            yield agent
        finally:
            agent.remove()


def rollup(pid: int) -> tuple[float, float]:
    """RSS and PSS of a process in MiB."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, value, *_ = line.split()
        found[key] = int(value) / 1024
    return found["Rss:"], found["Pss:"]


def clear_stage() -> None:
    """An empty log. Raise ``Unmeasurable`` if an agent runs here already."""
    if _answers():
        raise Unmeasurable("an agent runs on this machine already; stop it first")
    logs.configure(level="error")
    LOG.parent.mkdir(exist_ok=True)
    LOG.unlink(missing_ok=True)


def remove_plumbing() -> None:
    """Remove bridge, addresses and rules that every agent makes."""
    asyncio.run(HostPlumbing(FirewallPlan(), _Silence()).remove())


async def _is_network_there() -> bool:
    """Whether a stopped agent has left its network. Raise ``Unmeasurable`` if tasks still use it."""
    if not (Path("/run/netns") / DEFAULT_NAMESPACE).exists():
        return False
    vpc = SimulatedVpc(default_plan(REGION, seed=ACCOUNT))
    try:
        await vpc.ensure()
        if await vpc.interfaces():
            raise Unmeasurable("tasks of another agent are on this machine; stop them first")
    finally:
        await vpc.aclose()
    return True


async def _remove_vpc() -> None:
    vpc = SimulatedVpc(default_plan(REGION, seed=ACCOUNT))
    try:
        await vpc.destroy()
    finally:
        await vpc.aclose()


class _Silence:
    """Nobody listens to the health of an agent that is gone."""

    def report(self, component: str, problem: str | None) -> None:
        if problem is not None:
            print(f"{component}: {problem}", file=sys.stderr)


def _answers() -> bool:
    try:
        with urllib.request.urlopen(METADATA, timeout=2) as answer:
            return bool(answer.status == http.client.OK)
    except OSError:
        return False
