"""What the container runtime really has."""

from dataclasses import dataclass
from datetime import datetime

from agent.model.ids import ContainerId, TaskArn
from agent.model.status import Health

PAUSE_NAME = "~internal~ecs~pause"
"""The container name of every task's pause container (ecs-protocol 5.5)."""

KILLED = 137
"""The exit code of a process that was ended by SIGKILL: 128 + 9."""


@dataclass(frozen=True, slots=True)
class ContainerSnapshot:
    """One container as the runtime described it at ``observed_at`` (when it was asked).

    ``task_arn`` and ``container_name`` come from its labels. ``is_running``: has a live process.
    ``exit_code`` and ``finished_at`` only after an exit; ``error`` is the runtime's own text, or empty.
    ``was_started`` False: created and never started.
    """

    container_id: ContainerId
    docker_name: str
    task_arn: TaskArn
    container_name: str
    observed_at: datetime
    is_running: bool
    was_started: bool
    pid: int | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    was_oom_killed: bool = False
    error: str = ""
    health: Health = Health.UNKNOWN
    health_since: datetime | None = None
    health_output: str = ""
    image_id: str = ""

    @property
    def is_pause(self) -> bool:
        """Whether this is a task's pause container."""
        return self.container_name == PAUSE_NAME


@dataclass(frozen=True, slots=True)
class PulledImage:
    """An image that is present. ``digest`` empty: it was made here and never came from a registry.

    ``was_fetched`` False: it was there, and no registry was asked.
    """

    image_id: str
    digest: str = ""
    was_fetched: bool = True
