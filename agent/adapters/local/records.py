"""The rows of the store as typed values, and their JSON form. Times are aware datetimes, seconds on disk.

``additions`` of a record: fields that a newer agent of the same format has added. They are kept as they were.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Self

Document = dict[str, Any]
"""A JSON object in Amazon ECS's own words. Checked by its shape at the API's border."""


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """One container of a task, as last reported. ``id`` is the last segment of its ARN."""

    name: str
    id: str
    last_status: str = "PENDING"
    runtime_id: str | None = None
    exit_code: int | None = None
    reason: str = ""
    image_digest: str = ""
    health: str = "UNKNOWN"
    additions: Document = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as the control plane knows it. ``version`` counts the changes that a user can see.

    ``cpu`` (units) and ``memory`` (MiB) are what it takes from the machine, limited or only asked for.
    """

    id: str
    cluster: str
    family: str
    revision: int
    containers: tuple[ContainerRecord, ...]
    created_at: datetime
    availability_zone: str
    group: str
    cpu: int = 0
    memory: int = 0
    overrides: Document = field(default_factory=dict)
    started_by: str | None = None
    launch_type: str = "EC2"
    task_role_arn: str | None = None
    execution_role_arn: str | None = None
    task_credentials_id: str | None = field(default=None, repr=False)
    execution_credentials_id: str | None = field(default=None, repr=False)
    last_status: str = "PROVISIONING"
    desired_status: str = "RUNNING"
    version: int = 1
    stop_code: str | None = None
    stopped_reason: str | None = None
    pull_started_at: datetime | None = None
    pull_stopped_at: datetime | None = None
    started_at: datetime | None = None
    stopping_at: datetime | None = None
    execution_stopped_at: datetime | None = None
    stopped_at: datetime | None = None
    additions: Document = field(default_factory=dict, repr=False)

    @property
    def is_done(self) -> bool:
        """Whether the agent has nothing more to do for the task."""
        return self.last_status in {"DEPROVISIONING", "STOPPED"}

    def as_json(self) -> Document:
        """The record as JSON values."""
        encoded = _encoded(self)
        encoded["containers"] = [_encoded(one) for one in self.containers]
        return encoded

    @classmethod
    def from_json(cls, encoded: Mapping[str, Any]) -> Self:
        """The record again. Raise ``TypeError`` or ``KeyError`` if it is none."""
        values = _decoded(cls, encoded)
        values["containers"] = tuple(
            ContainerRecord(**_decoded(ContainerRecord, one)) for one in encoded["containers"]
        )
        return cls(**values)


@dataclass(frozen=True, slots=True)
class AttachmentRecord:
    """A task's elastic network interface.

    ``status`` in ECS's words: PRECREATED, ATTACHING (made, not seen by the agent yet), ATTACHED, DELETED.
    ``expires_at``: until when it must have appeared on the machine. ``released_at``: when its address became
    free; the address rests for a while after that.
    """

    id: str
    task_id: str
    eni_id: str
    subnet_id: str
    mac_address: str
    ipv4_address: str
    created_at: datetime
    expires_at: datetime
    ipv6_address: str | None = None
    status: str = "PRECREATED"
    released_at: datetime | None = None
    additions: Document = field(default_factory=dict, repr=False)

    def as_json(self) -> Document:
        """The record as JSON values."""
        return _encoded(self)

    @classmethod
    def from_json(cls, encoded: Mapping[str, Any]) -> Self:
        """The record again. Raise ``TypeError`` if it is none."""
        return cls(**_decoded(cls, encoded))


@dataclass(frozen=True, slots=True)
class DefinitionRecord:
    """One revision of a task definition. ``document``: as ECS shows it, less its status."""

    family: str
    revision: int
    document: Document
    registered_at: datetime
    deregistered_at: datetime | None = None
    additions: Document = field(default_factory=dict, repr=False)

    @property
    def is_active(self) -> bool:
        """Whether new tasks may be run from it."""
        return self.deregistered_at is None

    def as_json(self) -> Document:
        """The record as JSON values."""
        return _encoded(self)

    @classmethod
    def from_json(cls, encoded: Mapping[str, Any]) -> Self:
        """The record again. Raise ``TypeError`` if it is none."""
        return cls(**_decoded(cls, encoded))


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """The container instance that this machine is. ``status``: ACTIVE or DRAINING."""

    id: str
    cluster: str
    registered_at: datetime
    status: str = "ACTIVE"
    version: int = 1


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """Something that happened to a task: ``name`` in the past tense, ``detail`` for people."""

    task_id: str
    at: datetime
    name: str
    detail: str = ""


def epoch(at: datetime) -> float:
    """Seconds since 1970, to the millisecond, as the JSON protocol writes times."""
    return round(at.timestamp(), 3)


def from_epoch(seconds: float) -> datetime:
    """The aware time again."""
    return datetime.fromtimestamp(seconds, UTC)


def _encoded(record: Any) -> Document:
    encoded: Document = {}
    for one in fields(record):
        value = getattr(record, one.name)
        encoded[one.name] = value.timestamp() if isinstance(value, datetime) else value
    return {**encoded.pop(_ADDITIONS), **encoded}


def _decoded(kind: type[Any], encoded: Mapping[str, Any]) -> Document:
    known = {one.name for one in fields(kind)} - {_ADDITIONS}
    values: Document = {
        name: from_epoch(value) if name.endswith("_at") and value is not None else value
        for name, value in encoded.items()
        if name in known
    }
    values[_ADDITIONS] = {name: value for name, value in encoded.items() if name not in known}
    return values


_ADDITIONS = "additions"
