"""What we know of a task. Replaced, never edited; only the task's own loop replaces it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.model.ids import ContainerId, TaskArn, TaskId
from agent.model.report import TaskReport
from agent.model.spec import ContainerSpec, TaskSpec
from agent.model.status import ContainerStatus, Goal, Health, SandboxStatus
from agent.model.steps import Step


@dataclass(frozen=True, slots=True)
class Reason:
    """The sentence a customer will read: a stable ``name`` and a ``detail``."""

    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}" if self.name else self.detail


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient the agent is. Chosen from the settings when a task is accepted, then kept with it.

    ``dependency_limit``: how long a container waits for another that has no ``startTimeout`` of its own.
    ``unavailable_limit``: how long a step on the way up is tried again while a port does not answer.
    """

    create_limit: timedelta = timedelta(minutes=4)
    start_limit: timedelta = timedelta(minutes=3)
    pull_limit: timedelta = timedelta(hours=2)
    attach_limit: timedelta = timedelta(minutes=1)
    detach_limit: timedelta = timedelta(seconds=30)
    remove_limit: timedelta = timedelta(minutes=5)
    stop_grace: timedelta = timedelta(seconds=30)
    dependency_limit: timedelta = timedelta(hours=24)
    unavailable_limit: timedelta = timedelta(minutes=10)
    retention: timedelta = timedelta(hours=3)


@dataclass(frozen=True, slots=True)
class InFlight:
    """A step that has been started and has not ended. ``until``: when it is given up."""

    step: Step
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Trouble:
    """A step failed and is tried again at ``retry_at``, each time later. ``since``: the first failure."""

    reason: Reason
    failures: int
    since: datetime
    retry_at: datetime


@dataclass(frozen=True, slots=True)
class Attachment:
    """What the network provider made. ``local_ipv4``: the task's address on the link to the agent."""

    local_ipv4: str
    interface_name: str = "eth0"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Pause container, its network namespace, and what is attached to it.

    ``docker_name`` is chosen before the container is made, so that a crash cannot make a second one.
    ``interface_seen_at`` None: the task's ENI has not appeared on this machine yet.
    """

    docker_name: str
    status: SandboxStatus = SandboxStatus.ABSENT
    goal: Goal = Goal.RUN
    since: datetime | None = None
    container_id: ContainerId | None = None
    pid: int | None = None
    attachment: Attachment | None = None
    interface_seen_at: datetime | None = None
    in_flight: InFlight | None = None
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """One app container of a task. ``exit_code`` None: it has not exited, or nobody saw how."""

    name: str
    docker_name: str
    status: ContainerStatus = ContainerStatus.PENDING
    goal: Goal = Goal.RUN
    since: datetime | None = None
    container_id: ContainerId | None = None
    image_id: str = ""
    image_digest: str = ""
    pid: int | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    health: Health = Health.UNKNOWN
    health_since: datetime | None = None
    health_output: str = ""
    pull_started_at: datetime | None = None
    pull_stopped_at: datetime | None = None
    reason: Reason | None = None
    in_flight: InFlight | None = None
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class TaskState:
    """Everything that the lifecycle decides upon. Holds no secret, so it may be saved, logged and shown.

    ``now`` is the time of the last event. ``granted_at`` is when the task got its share of the machine; None:
    it stands in the queue, or an agent that had no queue wrote the record. ``reason`` is the first thing that
    went wrong and stays. ``started_at`` is when every essential container was running at once. ``accepted``
    is the last report that the backend took. ``next_step`` numbers the steps.
    """

    spec: TaskSpec
    sandbox: Sandbox
    containers: tuple[Container, ...]
    accepted_at: datetime
    now: datetime
    policy: Policy = Policy()
    granted_at: datetime | None = None
    goal: Goal = Goal.RUN
    reason: Reason | None = None
    started_at: datetime | None = None
    stop_requested_at: datetime | None = None
    execution_stopped_at: datetime | None = None
    stopped_at: datetime | None = None
    accepted: TaskReport | None = None
    next_step: int = 1

    @property
    def arn(self) -> TaskArn:
        """The task's ARN."""
        return self.spec.arn

    @property
    def task_id(self) -> TaskId:
        """The short id in the ARN."""
        return self.spec.task_id

    def container(self, name: str) -> Container:
        """The container of that name. Raise ``KeyError`` if there is none."""
        for container in self.containers:
            if container.name == name:
                return container
        raise KeyError(name)

    def with_specs(self) -> tuple[tuple[Container, ContainerSpec], ...]:
        """Each container beside what was asked for it, in the order of the spec."""
        return tuple((container, self.spec.container(container.name)) for container in self.containers)
