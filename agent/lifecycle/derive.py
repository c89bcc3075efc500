"""What a state amounts to: the task's status and the report. Derived, never stored, so it cannot disagree."""

from datetime import datetime

from agent.lifecycle.names import docker_name, pause_name
from agent.model.report import AttachmentReport, ContainerReport, TaskReport
from agent.model.spec import TaskSpec
from agent.model.state import Container, Policy, Sandbox, TaskState
from agent.model.status import ContainerStatus, SandboxStatus, TaskStatus


def begin(spec: TaskSpec, now: datetime, policy: Policy) -> TaskState:
    """The state of a task that has just been accepted. It waits until it is granted its share."""
    return TaskState(
        spec=spec,
        sandbox=Sandbox(docker_name=pause_name(spec), since=now),
        containers=tuple(
            Container(name=each.name, docker_name=docker_name(spec, each.name), since=now)
            for each in spec.containers
        ),
        accepted_at=now,
        now=now,
        policy=policy,
    )


def task_status(task: TaskState) -> TaskStatus:
    """RUNNING once every essential container ran, STOPPED once every rung is at least STOPPED."""
    if task.stopped_at is not None:
        return TaskStatus.STOPPED
    return TaskStatus.PENDING if task.started_at is None else TaskStatus.RUNNING


def is_steady(task: TaskState) -> bool:
    """Whether everything is where its goal wants it, so that there is nothing to explain."""
    return is_removed(task) or (
        task.goal == 0
        and task.sandbox.status is SandboxStatus.CONNECTED
        and all(
            each.status is ContainerStatus.RUNNING or each.status >= ContainerStatus.STOPPED
            for each in task.containers
        )
    )


def is_removed(task: TaskState) -> bool:
    """Whether nothing of the task is left on this machine."""
    return task.sandbox.status is SandboxStatus.REMOVED and all(
        each.status is ContainerStatus.REMOVED for each in task.containers
    )


def is_attached(task: TaskState, local_ipv4: str) -> bool:
    """Whether the task is reached under this address on the link to the agent."""
    attachment = task.sandbox.attachment
    return attachment is not None and attachment.local_ipv4 == local_ipv4


def report(task: TaskState) -> TaskReport:
    """The full view for the backend."""
    pulls_begun = [each.pull_started_at for each in task.containers if each.pull_started_at]
    pulls_ended = [each.pull_stopped_at for each in task.containers if each.pull_stopped_at]
    seen = task.sandbox.interface_seen_at is not None
    return TaskReport(
        task_arn=task.arn,
        status=task_status(task),
        containers=tuple(_container_report(each) for each in task.containers),
        attachments=(AttachmentReport(task.spec.network.attachment_arn),) if seen else (),
        reason="" if task.reason is None else str(task.reason),
        pull_started_at=min(pulls_begun, default=None),
        pull_stopped_at=max(pulls_ended, default=None),
        started_at=task.started_at,
        stopping_at=task.stop_requested_at,
        execution_stopped_at=task.execution_stopped_at,
        stopped_at=task.stopped_at,
    )


def _container_report(container: Container) -> ContainerReport:
    if container.status >= ContainerStatus.STOPPED:
        status = TaskStatus.STOPPED
    elif container.status is ContainerStatus.RUNNING:
        status = TaskStatus.RUNNING
    else:
        status = TaskStatus.PENDING
    return ContainerReport(
        name=container.name,
        status=status,
        runtime_id=container.container_id,
        exit_code=container.exit_code if status is TaskStatus.STOPPED else None,
        reason="" if container.reason is None else str(container.reason),
        image_digest=container.image_digest,
        health=container.health,
    )
