"""What the agent remembers of a cluster, as documents and back. Holds no secret.

``additions`` of a record: fields that a newer agent of the same format has added. They are kept as they were.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from agent.model.ids import MacAddress, TaskArn
from agent.ports.documents import Document

FORMAT = 1
"""The format of all documents; a higher one was written by a newer agent. Raise it with a migration."""

MIGRATIONS: Mapping[int, Callable[[Document], Document]] = {}
"""Format n -> what makes a document, whichever it is, one of n + 1. Complete from 1 to FORMAT - 1."""

NO_MANIFEST = -1
"""The sequence number before the first manifest (ecs-protocol 2.4)."""


class RecordInvalid(Exception):
    """A document is not what this agent writes. The text names the field."""


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """Who this machine is in the cluster. ``container_instance`` empty: not registered yet."""

    cluster: str
    container_instance: str = ""
    ec2_instance: str = ""
    zone: str = ""
    manifest_sequence: int = NO_MANIFEST
    additions: Document = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AttachmentRecord:
    """An ENI that the cluster attaches. ``task_arn`` empty: to the machine. ``is_told``: as ATTACHED."""

    arn: str
    mac_address: MacAddress
    task_arn: str
    expires_at: datetime
    is_told: bool = False
    additions: Document = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """What the cluster has accepted of a task: its status, and the status of each container by name."""

    status: str = ""
    containers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task that was assigned. ``payload``: as it came, without secrets. ``stop``: it must stop.

    ``refusal``: it cannot be begun, and why; that is all there is to tell of it.
    ``held``: container news that leave with the next news of the task, as they are sent. ``expires_at``:
    until when its network interface may appear. ``ended_at``: when the cluster accepted that it is STOPPED.
    """

    arn: TaskArn
    payload: Document
    expires_at: datetime
    stop: bool = False
    told: Told = field(default_factory=Told)
    held: tuple[Document, ...] = ()
    refusal: str = ""
    ended_at: datetime | None = None
    additions: Document = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left to say."""
        return self.ended_at is not None


def instance_document(record: InstanceRecord) -> Document:
    """The document of an instance."""
    return {
        **record.additions,
        "format": FORMAT,
        "cluster": record.cluster,
        "container_instance": record.container_instance,
        "ec2_instance": record.ec2_instance,
        "zone": record.zone,
        "manifest_sequence": record.manifest_sequence,
    }


def read_instance(document: Document) -> InstanceRecord:
    """The instance of a document. Raise ``RecordInvalid``."""
    document = _current(document)
    return InstanceRecord(
        cluster=_field(document, "cluster", str),
        container_instance=_field(document, "container_instance", str),
        ec2_instance=_field(document, "ec2_instance", str),
        zone=_field(document, "zone", str),
        manifest_sequence=_field(document, "manifest_sequence", int),
        additions=_beyond(document, _INSTANCE_FIELDS),
    )


def attachments_document(records: tuple[AttachmentRecord, ...]) -> Document:
    """The document of all attachments."""
    return {
        "format": FORMAT,
        "attachments": [
            {
                **each.additions,
                "arn": each.arn,
                "mac_address": each.mac_address,
                "task_arn": each.task_arn,
                "expires_at": each.expires_at.isoformat(),
                "is_told": each.is_told,
            }
            for each in records
        ],
    }


def read_attachments(document: Document) -> tuple[AttachmentRecord, ...]:
    """The attachments of a document. Raise ``RecordInvalid``."""
    document = _current(document)
    return tuple(
        AttachmentRecord(
            arn=_field(each, "arn", str),
            mac_address=MacAddress(_field(each, "mac_address", str)),
            task_arn=_field(each, "task_arn", str),
            expires_at=_moment(each, "expires_at"),
            is_told=_field(each, "is_told", bool),
            additions=_beyond(each, _ATTACHMENT_FIELDS),
        )
        for each in _field(document, "attachments", list)
    )


def task_document(record: TaskRecord) -> Document:
    """The document of a task."""
    return {
        **record.additions,
        "format": FORMAT,
        "arn": record.arn,
        "payload": record.payload,
        "expires_at": record.expires_at.isoformat(),
        "stop": record.stop,
        "told": {"status": record.told.status, "containers": record.told.containers},
        "held": list(record.held),
        "refusal": record.refusal,
        "ended_at": None if record.ended_at is None else record.ended_at.isoformat(),
    }


def read_task_record(document: Document) -> TaskRecord:
    """The task of a document. Raise ``RecordInvalid``."""
    document = _current(document)
    told = _field(document, "told", dict)
    return TaskRecord(
        arn=TaskArn(_field(document, "arn", str)),
        payload=_field(document, "payload", dict),
        expires_at=_moment(document, "expires_at"),
        stop=_field(document, "stop", bool),
        told=Told(_field(told, "status", str), dict(_field(told, "containers", dict))),
        held=tuple(_field(document, "held", list)),
        # The first records of format 1 have none: it came without a new number.
        refusal=_field(document, "refusal", str) if "refusal" in document else "",
        ended_at=None if document.get("ended_at") is None else _moment(document, "ended_at"),
        additions=_beyond(document, _TASK_FIELDS),
    )


_INSTANCE_FIELDS = frozenset(instance_document(InstanceRecord("")))
_ATTACHMENT_FIELDS = frozenset({"arn", "mac_address", "task_arn", "expires_at", "is_told"})
_TASK_FIELDS = frozenset(
    {"format", "arn", "payload", "expires_at", "stop", "told", "held", "refusal", "ended_at"}
)


def over(record: TaskRecord, now: datetime) -> TaskRecord:
    """What is kept of a task of which everything was said: enough to know it again."""
    return replace(record, payload={}, stop=True, held=(), ended_at=now)


def _current(document: Document) -> Document:
    found = document.get("format")
    if type(found) is not int or not 1 <= found <= FORMAT:
        raise RecordInvalid(f"format {found!r:.80}, expected {FORMAT}")
    for number in range(found, FORMAT):
        try:
            document = MIGRATIONS[number](document)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise RecordInvalid(
                f"cannot turn format {number} into {number + 1}: {type(error).__name__}: {error}"
            ) from error
    return document


def _field(document: Any, name: str, kind: type[Any]) -> Any:
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RecordInvalid(f"{name} is {value!r:.80}, expected {kind.__name__}")
    return value


def _beyond(document: Document, known: frozenset[str]) -> Document:
    return {name: value for name, value in document.items() if name not in known}


def _moment(document: Any, name: str) -> datetime:
    text = _field(document, name, str)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise RecordInvalid(f"{name} is {text!r:.80}, expected a time") from error
    if moment.tzinfo is None:
        raise RecordInvalid(f"{name} is {text!r:.80}, expected a time with its zone")
    return moment.astimezone(UTC)
