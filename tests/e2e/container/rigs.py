"""An installed agent and everything around it, for both backends alike: a test says what it wants, not how."""

import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from tests.e2e.agent_process import eventually
from tests.e2e.container.installed import InstalledAgent, InstalledEcsAgent
from tests.e2e.ecs.cluster import Cluster, a_task, address, job
from tests.e2e.inside import Containers, Network, environment_of
from tests.e2e.streams import ECHOES, PORT, Stream
from tests.e2e.task_definitions import a_definition, a_job
from tests.namespaces import inside

_ROLE = "arn:aws:iam::111122223333:role/reader"


@dataclass(frozen=True, slots=True)
class Running:
    """A task that runs: its ARN, its address, Docker's id of its container."""

    arn: str
    address: str
    runtime_id: str


class Rig(Protocol):
    """An installed agent with its backend."""

    agent: InstalledAgent

    def run(self, count: int = 1) -> list[Running]:
        """Tasks that echo what they are sent at ``PORT``, and have a role."""

    def wait_joined(self, times: int) -> None:
        """Until the agent that was started for that time has taken up its work."""

    def stop_tasks(self) -> None:
        """Stop all tasks, and wait until they are over."""


class LocalRig:
    """The local backend."""

    def __init__(self, agent: InstalledAgent) -> None:
        self.agent = agent

    def run(self, count: int = 1) -> list[Running]:
        """See ``Rig``."""
        document = a_definition("echo", a_job("app", ECHOES), taskRoleArn=_ROLE)
        tasks = self.agent.started_copies(document, count)
        return [Running(task.arn, task.address, task.runtime_id()) for task in tasks]

    def wait_joined(self, times: int) -> None:
        """See ``Rig``: there is nobody to join."""
        self.agent.wait_ready()

    def stop_tasks(self) -> None:
        """See ``Rig``."""
        arns = self.agent.live_arns()
        self.agent.stop_tasks(arns)
        self.agent.all_stopped(arns)


class EcsRig:
    """The backend of a cluster."""

    def __init__(self, agent: InstalledEcsAgent, cluster: Cluster) -> None:
        self.agent: InstalledAgent = agent
        self.cluster = cluster

    def run(self, count: int = 1) -> list[Running]:
        """See ``Rig``."""
        tasks = self.cluster.run_all([a_task(job(ECHOES))] * count)
        return [Running(task.arn, address(task), self.cluster.runtime_id(task)) for task in tasks]

    def wait_joined(self, times: int) -> None:
        """See ``Rig``: it has registered as often, and its channel is connected."""
        self.agent.wait_ready()
        self.cluster.control.wait_for_registration(times)
        self.cluster.control.wait_connected("acs", times=times)

    def stop_tasks(self) -> None:
        """See ``Rig``."""
        self.cluster.stop_all(kept_too=True)


# -- what tasks must not notice ----------------------------------------------------------------


@contextmanager
def undisturbed(rig: Rig, containers: Containers, tasks: Sequence[Running]) -> Iterator[None]:
    """Meanwhile a connection from the first task to each of the others is used all the time.

    Afterwards no connection may have broken, the containers, their processes and start times are what they were,
    the agent knows the tasks as running, and they get their credentials.
    """
    identities = containers.identities([task.arn for task in tasks])
    streams = [Stream(task.address) for task in tasks[1:]]
    client = containers.pid(tasks[0].runtime_id)
    try:
        for stream in streams:
            stream.start(partial(connection_from, client, stream.address, PORT))
        yield
        echoes = [stream.echoes for stream in streams]
        for stream, seen in zip(streams, echoes, strict=True):
            eventually("the connection is used", lambda one=stream, had=seen: one.echoes > had, seconds=5)
    finally:
        for stream in streams:
            stream.stop()
    assert [stream.problem for stream in streams] == [""] * len(streams)
    assert containers.identities([task.arn for task in tasks]) == identities
    for task in tasks:
        eventually(
            f"{task.arn} is known",
            lambda arn=task.arn: (rig.agent.inner(arn) or {}).get("status") == "RUNNING",
        )
        eventually("credentials are given", lambda one=task: has_credentials(containers, one), seconds=10)


def has_credentials(containers: Containers, task: Running) -> bool:
    """Whether the task gets the credentials of its role at the address of ECS."""
    network = Network(containers.pid(task.runtime_id))
    path = environment_of(network.pid)["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]
    answer = network.fetch(f"http://169.254.170.2{path}")
    return answer.code == 200 and "SecretAccessKey" in answer.text


def connection_from(pid: int, address: str, port: int) -> socket.socket:
    """A TCP connection out of the network namespace of a process. Raise ``OSError``."""
    return inside(f"/proc/{pid}/ns/net", lambda: socket.create_connection((address, port), timeout=5))


def leases(agent: InstalledAgent) -> dict[str, str]:
    """Addresses on the task bridge that are held, and for which container."""
    (file,) = Path(agent.data).rglob("ipam/leases.json")
    held = json.loads(file.read_text())["held"]
    return {address: str(each["container"]) for address, each in held.items()}
