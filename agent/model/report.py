"""What the backend is told: always the full view of a task, never a difference."""

from dataclasses import dataclass
from datetime import datetime

from agent.model.ids import ContainerId, TaskArn
from agent.model.status import Health, TaskStatus


@dataclass(frozen=True, slots=True)
class ContainerReport:
    """One container as the backend should see it. ``reason`` is a whole sentence or empty."""

    name: str
    status: TaskStatus
    runtime_id: ContainerId | None = None
    exit_code: int | None = None
    reason: str = ""
    image_digest: str = ""
    health: Health = Health.UNKNOWN


@dataclass(frozen=True, slots=True)
class AttachmentReport:
    """The task's network interface, once it has been seen on this machine."""

    attachment_arn: str
    status: str = "ATTACHED"


@dataclass(frozen=True, slots=True)
class TaskReport:
    """The full view of one task. Two equal reports say the same; the second is never sent."""

    task_arn: TaskArn
    status: TaskStatus
    containers: tuple[ContainerReport, ...]
    attachments: tuple[AttachmentReport, ...] = ()
    reason: str = ""
    pull_started_at: datetime | None = None
    pull_stopped_at: datetime | None = None
    started_at: datetime | None = None
    stopping_at: datetime | None = None
    execution_stopped_at: datetime | None = None
    stopped_at: datetime | None = None
