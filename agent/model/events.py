"""Everything that can happen to a task. Each event carries the time at which it happened."""

from dataclasses import dataclass
from datetime import datetime

from agent.model.observation import ContainerSnapshot, PulledImage
from agent.model.report import TaskReport
from agent.model.state import Attachment, Reason
from agent.model.steps import Step

Learned = ContainerSnapshot | PulledImage | Attachment | None
"""What a step found out: containers are described, images identified, networks addressed."""


@dataclass(frozen=True, slots=True)
class StepSucceeded:
    """A step reached its status."""

    at: datetime
    step: Step
    learned: Learned = None


@dataclass(frozen=True, slots=True)
class StepFailed:
    """A step did not reach its status. It may have had its effect all the same.

    ``is_unavailable``: a port did not answer; nothing is known, and the step is tried again in any direction.
    """

    at: datetime
    step: Step
    reason: Reason
    is_unavailable: bool = False


@dataclass(frozen=True, slots=True)
class ContainerObserved:
    """What the runtime has under a container's name. ``snapshot`` None: it had nothing at ``asked_at``."""

    at: datetime
    container: str
    asked_at: datetime
    snapshot: ContainerSnapshot | None


@dataclass(frozen=True, slots=True)
class ResourcesGranted:
    """This machine has room for the task, and keeps it for the task until it is STOPPED."""

    at: datetime


@dataclass(frozen=True, slots=True)
class ResourcesRefused:
    """This machine will never have room for the task."""

    at: datetime
    reason: Reason


@dataclass(frozen=True, slots=True)
class InterfaceAppeared:
    """A link with the MAC address of the task's ENI exists in the host's namespace."""

    at: datetime


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The backend (or the operator) wants the task to stop."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class ReportAccepted:
    """The backend has taken a report."""

    at: datetime
    report: TaskReport


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing happened, but some gate may have opened by time alone."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Recovered:
    """The agent has restarted: no step is in flight, and this is what the runtime has of the task."""

    at: datetime
    asked_at: datetime
    snapshots: tuple[ContainerSnapshot, ...]
    interface_present: bool = False


Event = (
    StepSucceeded
    | StepFailed
    | ContainerObserved
    | ResourcesGranted
    | ResourcesRefused
    | InterfaceAppeared
    | StopRequested
    | ReportAccepted
    | TimePassed
    | Recovered
)
