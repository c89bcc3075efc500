"""A cluster for end-to-end tests: its control plane, its instance metadata, the subnet of its tasks; an agent for it."""

import os
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from tests.e2e.agent_process import TEST_CLUSTERS, Agent, eventually
from tests.fakes.ecs.control_plane import ControlPlane
from tests.fakes.ecs.imds import InstanceMetadataStandIn
from tests.fakes.ecs.links import EniLinks
from tests.fakes.ecs.records import NotSeen
from tests.fakes.ecs.tasks import ContainerPlan, Eni, TaskPlan
from tests.fakes.ecs.truth import TaskRecord

WEB = "berth/demo-web:latest"
JOB = "berth/demo-job:latest"

READS_CREDENTIALS = "wget -qO- http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"


def web(name: str = "web", **more: Any) -> ContainerPlan:
    """A container with a web server on port 80; ``more`` are fields of ``ContainerPlan``."""
    return ContainerPlan(name, WEB, **more)


def job(script: str, name: str = "app", **more: Any) -> ContainerPlan:
    """A container whose first process is a shell with this script."""
    return ContainerPlan(name, JOB, **({"entry_point": ("sh", "-c"), "command": (script,)} | more))


def a_task(*containers: ContainerPlan, **more: Any) -> TaskPlan:
    """A task of these containers; ``more`` are fields of ``TaskPlan``. Without a limit of its own."""
    return TaskPlan(containers, **({"memory": None} | more))


class EcsAgent(Agent):
    """An agent of a cluster: ``ECS_CLUSTER`` alone chooses the backend."""

    def of_its_backend(self) -> dict[str, str]:
        """Images are on this machine already, and there is no registry."""
        return {"ECS_IMAGE_PULL_BEHAVIOR": "prefer-cached"}

    def wait_forgotten(self, arn: str, *, seconds: float = 30.0) -> None:
        """Until the agent has forgotten this task, and everything of it is gone."""
        eventually(f"{arn} is forgotten", lambda: self.inner(arn) is None, seconds=seconds)


class Cluster:
    """Everything on the other side of an agent.

    ``control``: the control plane. ``metadata``: EC2's instance metadata. ``enis``: the subnet of the tasks, and
    the network interfaces that appear on this machine.
    """

    def __init__(self, name: str | None = None) -> None:
        self.control = ControlPlane(name or f"{TEST_CLUSTERS}{os.getpid()}")
        self.metadata = InstanceMetadataStandIn()
        self.enis = EniLinks()
        self._expected: list[str] = []
        self.kept: set[str] = set()
        """Tasks that run on beyond the test that started them."""
        self.refused: set[str] = set()
        """Messages with a task that cannot be run: they are not acknowledged, on purpose (ecs-protocol 2.4)."""

    def start(self) -> Self:
        """Start all parts."""
        self.control.start()
        try:
            self.metadata.start()
            self.enis.start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End all parts; the network interfaces are gone, wherever they are."""
        self.enis.close()
        self.metadata.stop()
        self.control.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def settings(self) -> dict[str, str]:
        """What an agent of this cluster is told. Not the backend: ``ECS_CLUSTER`` chooses that."""
        own = self.control.environment() | self.metadata.environment()
        return {name: value for name, value in own.items() if name != "BERTH_BACKEND"}

    # -- what was not right --------------------------------------------------------------------

    def expects(self, *parts: str) -> None:
        """Problems with such a text are meant: the test has caused them."""
        self._expected += parts

    def problems(self) -> list[str]:
        """What the protocol does not allow, and no test has caused."""
        return [text for text in self.control.problems() if not any(part in text for part in self._expected)]

    def owed(self) -> list[tuple[str, list[str]]]:
        """Messages that still miss an acknowledgement, and which."""
        return [
            (sent.type, sorted(sent.owed))
            for sent in self.control.unacked()
            if sent.message_id not in self.refused
        ]

    # -- tasks ---------------------------------------------------------------------------------

    def announce(self, plan: TaskPlan, *, appears: bool = True) -> TaskRecord:
        """A new task, its interface announced and (``appears``) attached to this machine. Nothing is awaited."""
        task = self.control.new_task(plan, self.enis.plan())
        self.control.attach(task.arn)
        if appears:
            self.enis.appear(task.enis[0])
        return task

    def run(self, plan: TaskPlan, *, until: str = "RUNNING", seconds: float = 30.0) -> TaskRecord:
        """Start a task as the service does, and wait for that status (empty: do not wait)."""
        return self.run_all([plan], until=until, seconds=seconds)[0]

    def run_all(
        self,
        plans: Iterable[TaskPlan],
        *,
        in_one_payload: bool = False,
        until: str = "RUNNING",
        seconds: float = 60.0,
    ) -> list[TaskRecord]:
        """Start several tasks at once, and wait until all have that status (empty: do not wait)."""
        tasks = [self.announce(plan) for plan in plans]
        for task in tasks:
            self.control.wait_attached(task.arn, seconds)
        if in_one_payload:
            self.control.send_payload(*tasks)
        else:
            for task in tasks:
                self.control.send_payload(task)
        for task in tasks if until else ():
            self.control.wait_status(task.arn, until, seconds)
        return tasks

    def stop_all(self, *, kept_too: bool = False, seconds: float = 30.0) -> None:
        """Stop every task that was sent and is not over, all at once. As EC2 does, take their interfaces away."""
        live = [
            task
            for task in list(self.control.truth.tasks.values())
            if task.document and not task.is_over and (kept_too or task.arn not in self.kept)
        ]
        for task in live:
            self.control.stop_task(task.arn)
        for task in live:
            self.control.wait_status(task.arn, "STOPPED", seconds)
        self.detach_all()

    def detach_all(self) -> None:
        """Take away the interfaces of all tasks that are over."""
        for task in list(self.control.truth.tasks.values()):
            if task.is_over:
                for eni in task.enis:
                    self.enis.detach(eni.mac)

    def runtime_id(self, task: TaskRecord, name: str | None = None) -> str:
        """Docker's id of a container, as reported. A task of one container needs no name."""
        if name is None:
            (name,) = task.containers
        found = task.containers[name].runtime_id
        if found is None:
            raise NotSeen(f"{task.arn}: container {name} was reported without its runtimeId")
        return found


def address(task: TaskRecord) -> str:
    """The private IPv4 address of a task."""
    eni: Eni = task.enis[0]
    return eni.ipv4
