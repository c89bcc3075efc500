"""Which containers the telemetry is about, and what the cluster calls them. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from agent.adapters.ecs.wire.telemetry import ContainerHealth, TaskLabel
from agent.model.ids import ContainerId
from agent.model.observation import PAUSE_NAME
from agent.model.spec import TaskSpec
from agent.model.state import TaskState
from agent.model.status import ContainerStatus, SandboxStatus


@dataclass(frozen=True, slots=True)
class Running:
    """A container to measure. ``name``: as the cluster knows it. ``arn`` empty: it has none.

    ``link``: the name of the task's network interface, at the container that stands for all of the task.
    """

    container_id: ContainerId
    pid: int
    name: str
    arn: str
    since: datetime | None
    link: str | None = None


def running_in(task: TaskState) -> Iterator[Running]:
    """The containers that run, the task's own pause container last."""
    for container, spec in task.with_specs():
        if container.status is ContainerStatus.RUNNING and container.container_id and container.pid:
            yield Running(
                container.container_id,
                container.pid,
                container.name,
                spec.arn,
                container.started_at or container.since,
            )
    sandbox = task.sandbox
    if (
        sandbox.status in {SandboxStatus.PAUSED, SandboxStatus.CONNECTED}
        and sandbox.container_id
        and sandbox.pid
    ):
        link = sandbox.attachment.interface_name if sandbox.attachment else None
        yield Running(sandbox.container_id, sandbox.pid, PAUSE_NAME, "", sandbox.since, link)


def checked_in(task: TaskState) -> Iterator[ContainerHealth]:
    """The running containers for which the task orders a health check (ecs-protocol 3.4)."""
    for container, spec in task.with_specs():
        since = container.health_since or container.started_at or container.since
        if (
            container.status is ContainerStatus.RUNNING
            and since is not None
            and spec.health_check is not None
        ):
            yield ContainerHealth(container.name, container.health, since, container.health_output)


def label(spec: TaskSpec) -> TaskLabel:
    """What a task is called on the wire. Its cluster is named only by an ARN."""
    return TaskLabel(
        arn=spec.arn,
        family=spec.family,
        revision=spec.revision,
        cluster_arn=spec.cluster if spec.cluster.startswith("arn:") else "",
    )
