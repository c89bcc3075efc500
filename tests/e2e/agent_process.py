"""The real agent as a process of its own, with everything that a test asks of it: its API, its command line."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from tests.e2e.agent_container import ALTERED, NAME, PLUGINS_INSIDE, AgentContainer, docker

TREE = Path(__file__).resolve().parents[2]
BIN = TREE / ".venv/bin"
INTROSPECTION = "http://127.0.0.1:51678"
ENDPOINT = "http://169.254.170.2"

READY_SECONDS = 20.0

IS_IN_CONTAINER = os.environ.get("BERTH_E2E_AGENT") == "container"
"""Every agent of this run is in its image, started by ``docker run``; else it is a process of the tree's."""

OF_THE_TREE = {
    "ECS_CNI_PLUGINS_PATH": str(TREE / "build/cni"),
    "BERTH_PAUSE_PATH": str(TREE / "build/pause"),
}
"""Where the products are; the image has its own."""

TEST_CLUSTERS = "e2e-"
TEST_NAMESPACES = "berth-e2e-"
"""How the names of clusters and of VPC namespaces of tests begin; the number of the test process follows."""


def vpc_of_run(process: int) -> str:
    """The addresses of the simulated VPC of this test process."""
    return f"10.{212 + process % 30}.0.0/16"


class Untrue(AssertionError):
    """Something that had to become true did not."""


def eventually(what: str, condition: Callable[[], Any], *, seconds: float = 30.0, every: float = 0.02) -> Any:
    """Ask until the answer is true; that answer. Raise ``Untrue`` when the time is over."""
    until = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > until:
            raise Untrue(f"not within {seconds:g} s: {what}")
        time.sleep(every)
    return answer


@dataclass(frozen=True, slots=True)
class Task:
    """A task as ``DescribeTasks`` shows it."""

    arn: str
    document: dict[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        return self.arn.rsplit("/", 1)[1]

    @property
    def status(self) -> str:
        return str(self.document["lastStatus"])

    @property
    def reason(self) -> str:
        return str(self.document.get("stoppedReason", ""))

    @property
    def details(self) -> dict[str, str]:
        return {each["name"]: each["value"] for each in self.document["attachments"][0]["details"]}

    @property
    def address(self) -> str:
        return self.details["privateIPv4Address"]

    def container(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(each for each in self.document["containers"] if each["name"] == name)
        return found

    def runtime_id(self, name: str | None = None) -> str:
        chosen = self.document["containers"][0] if name is None else self.container(name)
        return str(chosen["runtimeId"])


class Agent:
    """One agent with directories below ``place``. Settings are names and values of its environment file."""

    def __init__(
        self,
        place: Path,
        *,
        alteration: str | None = None,
        environ: dict[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        in_container: bool = IS_IN_CONTAINER,
    ) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.cluster = (settings or {}).get("ECS_CLUSTER", f"{TEST_CLUSTERS}{os.getpid()}")
        self.data = place / "data"
        self.run_directory = place / "run"
        self.log_file = place / "agent.log"
        self.env_file = place / "agent.env"
        self.settings = {
            **self.of_its_backend(),
            "ECS_CLUSTER": self.cluster,
            "ECS_DATADIR": str(self.data),
            "BERTH_RUN_DIRECTORY": str(self.run_directory),
            **({} if in_container else OF_THE_TREE),
            "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION": "1s",
            "ECS_CONTAINER_STOP_TIMEOUT": "5s",
            "BERTH_LOG_CONSOLE": "json",
            "BERTH_LOG_LINES_PER_SECOND": "1000",
            **(settings or {}),
        }
        self.in_container = in_container
        self._alteration = alteration
        self._environ = environ or {}
        self.process: subprocess.Popen[bytes] | AgentContainer | None = None
        self._client: Any = None
        self._subnet: str | None = None
        self.kept: set[str] = set()
        """Tasks that run on beyond the test that started them."""

    def of_its_backend(self) -> dict[str, str]:
        """The settings that only this backend has."""
        return {
            "BERTH_BACKEND": "local",
            "BERTH_VPC_CIDR": vpc_of_run(os.getpid()),
            "BERTH_VPC_NAMESPACE": f"{TEST_NAMESPACES}{os.getpid()}",
        }

    # -- its life ------------------------------------------------------------------------------

    def start(self, *, seconds: float = READY_SECONDS) -> float:
        """Start it and wait until it is ready; the seconds that took."""
        began = time.monotonic()
        self.launch()
        eventually("the agent is ready", self._is_ready, seconds=seconds)
        return time.monotonic() - began

    def launch(self) -> None:
        """Start it and do not wait."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        self.env_file.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))
        if self.in_container:
            # the directory above, because tests have files there that settings name
            self.process = AgentContainer(
                self.place.parent, self.env_file, self.log_file, self._environ, alteration=self._alteration
            )
            return
        command = [str(BIN / "berth"), "agent"]
        if self._alteration is not None:
            command = [sys.executable, str(ALTERED), self._alteration, "agent"]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--env-file", str(self.env_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                cwd=self.place,
                start_new_session=True,
            )

    def ends(self, *, seconds: float = 20.0) -> int:
        """Start it and wait for its end; the exit code."""
        self.launch()
        assert self.process is not None
        return self.process.wait(seconds)

    def kill(self) -> None:
        """``kill -9``: nothing is finished, nothing is said."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM, and wait for the end; the exit code. Fine if it does not run."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
                raise
        return self.process.returncode

    def close(self) -> None:
        """Let go of the API."""
        if self._client is not None:
            self._client.close()
            self._client = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log with that event."""
        return [line for line in self.lines() if line.get("event") == event]

    def lines(self) -> list[dict[str, Any]]:
        """Its log, as far as it is JSON."""
        found = []
        for line in self.log_file.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue  # the last line may be cut off by a kill
        return found

    def _is_ready(self) -> bool:
        if not self.is_running:
            tail = self.log_file.read_text(errors="replace").splitlines()[-8:]
            raise Untrue("the agent has ended; its log ends with:\n" + "\n".join(tail))
        try:
            return self.get("/v1/metadata")[0] == 200
        except OSError:
            return False

    # -- its introspection API -----------------------------------------------------------------

    def get(self, path: str, *, timeout: float = 5.0) -> tuple[int, Any]:
        """Status and JSON of an introspection path. Raise ``OSError`` when nothing answers."""
        try:
            with urllib.request.urlopen(f"{INTROSPECTION}{path}", timeout=timeout) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def inner(self, arn: str) -> dict[str, Any] | None:
        """Everything that the agent shows of one task; None if it does not know it (any more)."""
        tasks = self.get("/berth/v1/tasks")[1]["tasks"]
        return next((task for task in tasks if task["arn"] == arn), None)

    def inner_container(self, arn: str, name: str) -> dict[str, Any]:
        """Everything that the agent shows of one container of a task that it still knows."""
        task = self.inner(arn)
        assert task is not None, f"the agent has forgotten {arn}"
        found: dict[str, Any] = next(each for each in task["containers"] if each["name"] == name)
        return found

    def impaired(self) -> dict[str, str]:
        """What is wrong with it: component and reason."""
        return {each["component"]: each["reason"] for each in self.get("/health")[1]["reasons"]}

    # -- its command line ----------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """The environment of its process and of commands for it."""
        own = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "ECS_", "BERTH_", "DOCKER_"))
        }
        path = f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {**own, "PATH": path, "BERTH_ENV_FILE": str(self.env_file), **self._environ}

    def command(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A finished command of this agent's user."""
        return subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.place,
            env={**self.environment(), "AWS_PAGER": "", **more},
        )

    def berth(self, *words: str) -> str:
        """What ``berth ...`` prints. It must end with 0."""
        done = self.command(str(BIN / "berth"), *words)
        assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def plugin(self, name: str, *words: str) -> str:
        """What one of its CNI plugins prints."""
        if self.in_container:
            return docker("exec", NAME, f"{PLUGINS_INSIDE}/{name}", *words)
        done = self.command(str(TREE / "build/cni" / name), *words)
        assert done.returncode == 0, done
        return done.stdout

    def aws_environment(self) -> dict[str, str]:
        """What ``eval "$(berth env)"`` exports."""
        variables: dict[str, str] = json.loads(self.berth("env", "--json"))
        return variables

    # -- its ECS API ---------------------------------------------------------------------------

    @property
    def ecs(self) -> Any:
        """boto3's client of it."""
        if self._client is None:
            keys = self.aws_environment()
            self._client = boto3.session.Session().client(
                "ecs",
                endpoint_url=keys["AWS_ENDPOINT_URL_ECS"],
                region_name=keys["AWS_REGION"],
                aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
                config=Config(retries={"total_max_attempts": 4, "mode": "standard"}, max_pool_connections=16),
            )
        return self._client

    def run(self, document: dict[str, Any], *, count: int = 1) -> list[str]:
        """Register the definition and run it; the ARNs of the copies. All must be placed."""
        arns, failures = self.placed(document, count=count)
        assert not failures, failures
        return arns

    def placed(self, document: dict[str, Any], *, count: int = 1) -> tuple[list[str], list[str]]:
        """Register the definition and run it; the ARNs of the copies, and why others were not placed."""
        registered = self.ecs.register_task_definition(**document)["taskDefinition"]
        arns: list[str] = []
        failures: list[str] = []
        while len(arns) < count and not failures:
            answer = self.ecs.run_task(
                cluster=self.cluster,
                taskDefinition=registered["taskDefinitionArn"],
                count=min(10, count - len(arns)),
                networkConfiguration={"awsvpcConfiguration": {"subnets": [self.subnet()]}},
            )
            arns += [task["taskArn"] for task in answer["tasks"]]
            failures += [failure["reason"] for failure in answer["failures"]]
        return arns, failures

    def instance(self) -> dict[str, Any]:
        """This machine as ``DescribeContainerInstances`` shows it."""
        arns = self.ecs.list_container_instances(cluster=self.cluster)["containerInstanceArns"]
        answer = self.ecs.describe_container_instances(cluster=self.cluster, containerInstances=arns)
        (found,) = answer["containerInstances"]
        return dict(found)

    def subnet(self) -> str:
        """The subnet of this machine."""
        if self._subnet is None:
            values = {each["name"]: each.get("value") for each in self.instance()["attributes"]}
            self._subnet = str(values["ecs.subnet-id"])
        return self._subnet

    def started(self, document: dict[str, Any], *, seconds: float = 30.0) -> Task:
        """One running copy of the definition."""
        return self.all_running(self.run(document), seconds=seconds)[0]

    def started_copies(self, document: dict[str, Any], count: int, *, seconds: float = 60.0) -> list[Task]:
        """Several running copies of the definition."""
        return self.all_running(self.run(document, count=count), seconds=seconds)

    def all_running(self, arns: list[str], *, seconds: float = 30.0) -> list[Task]:
        """These tasks, when all are RUNNING. A task that stops ends the wait."""
        return self.when(arns, lambda task: task.status == "RUNNING", "RUNNING", seconds=seconds)

    def all_stopped(self, arns: list[str], *, seconds: float = 30.0) -> list[Task]:
        """These tasks, when all are STOPPED."""
        return self.when(arns, lambda task: task.status == "STOPPED", "STOPPED", seconds=seconds)

    def stopped(self, arn: str, *, seconds: float = 30.0) -> Task:
        """This task, when it is STOPPED."""
        return self.all_stopped([arn], seconds=seconds)[0]

    def when(
        self, arns: list[str], is_true: Callable[[Task], bool], what: str, *, seconds: float = 30.0
    ) -> list[Task]:
        """These tasks, when all are as described."""
        until = time.monotonic() + seconds
        while True:
            tasks = self.described(arns)
            if all(is_true(task) for task in tasks):
                return tasks
            others = [task for task in tasks if not is_true(task)]
            lost = [task for task in others if task.status == "STOPPED" and what != "STOPPED"]
            if lost or time.monotonic() > until:
                shown = [
                    (task.id, task.status, task.reason, self._waits(task.arn)) for task in (lost or others)
                ]
                raise Untrue(f"not {what} within {seconds:g} s: {shown}")
            time.sleep(0.03)

    def described(self, arns: list[str]) -> list[Task]:
        """These tasks as they are now."""
        answer = self.ecs.describe_tasks(cluster=self.cluster, tasks=arns)
        assert not answer["failures"], answer["failures"]
        by_arn = {each["taskArn"]: each for each in answer["tasks"]}
        return [Task(arn, by_arn[arn]) for arn in arns]

    def task(self, arn: str) -> Task:
        """This task as it is now."""
        return self.described([arn])[0]

    def live_arns(self) -> list[str]:
        """The tasks that should run."""
        arns: list[str] = self.ecs.list_tasks(cluster=self.cluster)["taskArns"]
        return arns

    def stop_tasks(self, arns: Iterable[str], reason: str = "the test is over") -> None:
        """Ask for their end, and do not wait."""
        for arn in arns:
            self.ecs.stop_task(cluster=self.cluster, task=arn, reason=reason)

    def _waits(self, arn: str) -> Any:
        try:
            return self.get(f"/berth/v1/explain?task={arn}")[1].get("waits")
        except OSError as error:
            return str(error)
