"""The messages of the control channel as data, checked as ECS checks them (ecs-protocol 2.4). Pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from agent.adapters.ecs.wire.envelope import Envelope
from agent.adapters.ecs.wire.fields import BadField, Fields
from agent.adapters.ecs.wire.interfaces import ElasticNetworkInterface, read_interface
from agent.model.errors import AgentError
from agent.model.ids import TaskArn

USUAL_WAIT = timedelta(minutes=5)
"""How long a confirmed attachment may take where the message does not say it."""

LARGEST_NUMBER = 2**63 - 1
"""Of sequence numbers and of milliseconds since 1970."""

LONGEST_WAIT = 2**31 - 1
"""Milliseconds; three weeks and more."""

ERRORS = frozenset(
    {
        "ErrorMessage",
        "ServerException",
        "BadRequestException",
        "InvalidClusterException",
        "InvalidInstanceException",
        "AccessDeniedException",
        "InactiveInstanceException",
    }
)

_SECRETS = ("accessKeyId", "secretAccessKey", "sessionToken", "expiration")


class UnknownMessage(AgentError):
    """A type that the agent does not know; it is dropped and does not count as activity."""


class InvalidMessage(AgentError):
    """A message that ECS itself would drop: it is not answered at all."""


class RoleType(StrEnum):
    """Which role of a task some credentials are for."""

    TASK_APPLICATION = "TaskApplication"
    TASK_EXECUTION = "TaskExecution"


@dataclass(frozen=True, slots=True)
class RoleCredentials:
    """Credentials of a role. ``expiration`` is the wire's own text, which an answer must repeat."""

    credentials_id: str = field(repr=False)
    role_arn: str
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expiration: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Addressed:
    """What every message has that is acknowledged: its id, and the names of cluster and machine."""

    message_id: str
    cluster_arn: str
    instance_arn: str


@dataclass(frozen=True, slots=True)
class PayloadMessage(Addressed):
    """Tasks to run or to stop, each as it was sent: one that is wrong must not hide the others.

    ``generated_at`` in milliseconds since 1970.
    """

    seq_num: int
    generated_at: int | None
    tasks: tuple[dict[str, Any], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class HeartbeatMessage:
    """Somebody is there. ``message_id`` is empty on the telemetry channel, which wants no answer."""

    message_id: str
    is_healthy: bool


@dataclass(frozen=True, slots=True)
class IAMRoleCredentialsMessage:
    """New credentials for a task that has some."""

    message_id: str
    task_arn: TaskArn
    role_type: RoleType
    credentials: RoleCredentials


@dataclass(frozen=True, slots=True)
class AttachTaskNetworkInterfacesMessage(Addressed):
    """Interfaces that will appear on the machine, for a task."""

    task_arn: TaskArn
    task_cluster_arn: str
    interfaces: tuple[ElasticNetworkInterface, ...]
    wait: timedelta


@dataclass(frozen=True, slots=True)
class AttachInstanceNetworkInterfacesMessage(Addressed):
    """Interfaces that will appear on the machine, for itself: trunks."""

    interfaces: tuple[ElasticNetworkInterface, ...]
    wait: timedelta


@dataclass(frozen=True, slots=True)
class ConfirmAttachmentMessage(Addressed):
    """Something other than an interface will appear, a disk for instance."""

    task_arn: str
    attachment_arn: str
    attachment_type: str
    properties: tuple[tuple[str, str], ...]
    wait: timedelta


@dataclass(frozen=True, slots=True)
class ManifestTask:
    """A task in a list: what the cluster wants of it."""

    task_arn: TaskArn
    desired_status: str


@dataclass(frozen=True, slots=True)
class TaskManifestMessage(Addressed):
    """All tasks that the cluster knows on this machine."""

    timeline: int
    tasks: tuple[ManifestTask, ...]


@dataclass(frozen=True, slots=True)
class TaskStopVerificationAck:
    """The tasks that shall stop, of those that were asked about. ``message_id``: the manifest's."""

    message_id: str
    stop_tasks: tuple[ManifestTask, ...]


@dataclass(frozen=True, slots=True)
class UpdateInfo:
    """Where a newer agent is. Empty texts: not given."""

    location: str
    signature: str


@dataclass(frozen=True, slots=True)
class StageUpdateMessage(Addressed):
    """Fetch a newer agent."""

    update: UpdateInfo | None


@dataclass(frozen=True, slots=True)
class PerformUpdateMessage(Addressed):
    """Become the newer agent."""

    update: UpdateInfo | None


@dataclass(frozen=True, slots=True)
class CloseMessage:
    """The other side will close the connection."""

    text: str


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """The other side has a problem. ``name``: the message's type, which says which."""

    name: str
    text: str


Message = (
    PayloadMessage
    | HeartbeatMessage
    | IAMRoleCredentialsMessage
    | AttachTaskNetworkInterfacesMessage
    | AttachInstanceNetworkInterfacesMessage
    | ConfirmAttachmentMessage
    | TaskManifestMessage
    | TaskStopVerificationAck
    | StageUpdateMessage
    | PerformUpdateMessage
    | CloseMessage
    | ErrorMessage
)


def read_message(envelope: Envelope) -> Message:
    """What the message says. Raise ``UnknownMessage`` or ``InvalidMessage``; the text has no secrets."""
    fields = Fields(envelope.message)
    try:
        if envelope.type in ERRORS:
            return ErrorMessage(envelope.type, fields.text("message"))
        read = _READERS.get(envelope.type)
        if read is None:
            raise UnknownMessage(f"a message of type {envelope.type!r}, which this agent does not know")
        return read(fields)
    except BadField as error:
        named = fields.get("messageId")
        raise InvalidMessage(
            f"{error}, in {envelope.type} {named if isinstance(named, str) else 'without a message ID'}"
        ) from error


def read_credentials(role: Fields) -> RoleCredentials:
    """Credentials with all their parts. Raise ``BadField``, which never shows a part."""
    return RoleCredentials(
        credentials_id=credentials_id(role),
        role_arn=role.text("roleArn"),
        access_key_id=role.needed_text("accessKeyId", is_secret=True),
        secret_access_key=role.needed_text("secretAccessKey", is_secret=True),
        session_token=role.text("sessionToken", is_secret=True),
        expiration=role.text("expiration"),
        expires_at=role.moment("expiration"),
    )


def credentials_id(role: Fields) -> str:
    """The id of some credentials; it becomes part of an address. Raise ``BadField``."""
    value = role.needed_text("credentialsId", is_secret=True)
    if not re.fullmatch(r"[A-Za-z0-9._~:-]{1,256}", value):
        raise BadField(role.at("credentialsId"), "letters, digits and .~:_-", value, is_secret=True)
    return value


def has_secrets(role: Fields) -> bool:
    """Whether there is more than an id and a role: what is kept on a disk has nothing else."""
    return any(role.is_set(each) for each in _SECRETS)


def _identified(fields: Fields) -> str:
    found = fields.text("messageId")
    if not found:
        raise InvalidMessage("Message ID is not set")
    return found


def _addressed(fields: Fields) -> tuple[str, str, str]:
    """Message id, cluster and container instance, with ECS's own words where one is missing."""
    message_id = _identified(fields)
    return message_id, _named(fields, "clusterArn"), _named(fields, "containerInstanceArn")


def _named(fields: Fields, name: str) -> str:
    found = fields.text(name)
    if not found:
        raise InvalidMessage(f"{name} is not set for message ID {_identified(fields)}")
    return found


def _payload(fields: Fields) -> PayloadMessage:
    return PayloadMessage(
        *_addressed(fields),
        seq_num=fields.whole("seqNum", most=LARGEST_NUMBER) or 0,
        generated_at=fields.whole("generatedAt", most=LARGEST_NUMBER),
        tasks=tuple(dict(each.document) for each in fields.objects("tasks")),
    )


def _heartbeat(fields: Fields) -> HeartbeatMessage:
    return HeartbeatMessage(fields.text("messageId"), fields.flag("healthy"))


def _credentials(fields: Fields) -> IAMRoleCredentialsMessage:
    message_id = _identified(fields)
    role = fields.object("roleCredentials")
    if role is None:
        raise InvalidMessage(f"roleCredentials is not set for message ID {message_id}")
    if not role.is_set("credentialsId"):
        raise InvalidMessage(f"roleCredentials.credentialsId is not set for message ID {message_id}")
    kind = _named(fields, "roleType")
    if kind not in tuple(RoleType):
        raise BadField("roleType", " or ".join(RoleType), kind)
    return IAMRoleCredentialsMessage(
        message_id, TaskArn(_named(fields, "taskArn")), RoleType(kind), read_credentials(role)
    )


def _interfaces(fields: Fields) -> tuple[ElasticNetworkInterface, ...]:
    found = fields.objects("elasticNetworkInterfaces")
    if not found:
        raise InvalidMessage(f"No ENIs for message ID {_identified(fields)}")
    return tuple(read_interface(each) for each in found)


def _wait(fields: Fields) -> timedelta:
    milliseconds = fields.whole("waitTimeoutMs", least=-LONGEST_WAIT, most=LONGEST_WAIT) or 0
    if milliseconds <= 0:
        raise InvalidMessage(f"Invalid timeout set for message ID {_identified(fields)}")
    return timedelta(milliseconds=milliseconds)


def _attach_task(fields: Fields) -> AttachTaskNetworkInterfacesMessage:
    addressed, interfaces = _addressed(fields), _interfaces(fields)
    return AttachTaskNetworkInterfacesMessage(
        *addressed,
        TaskArn(_named(fields, "taskArn")),
        fields.text("taskClusterArn"),
        interfaces,
        _wait(fields),
    )


def _attach_instance(fields: Fields) -> AttachInstanceNetworkInterfacesMessage:
    return AttachInstanceNetworkInterfacesMessage(*_addressed(fields), _interfaces(fields), _wait(fields))


def _confirm(fields: Fields) -> ConfirmAttachmentMessage:
    addressed = _addressed(fields)
    attachment = fields.object("attachment")
    if attachment is None:
        raise InvalidMessage(f"attachment is not set for message ID {addressed[0]}")
    return ConfirmAttachmentMessage(
        *addressed,
        fields.text("taskArn"),
        attachment.needed_text("attachmentArn"),
        attachment.text("attachmentType"),
        tuple((each.text("name"), each.text("value")) for each in attachment.objects("attachmentProperties")),
        USUAL_WAIT if fields.get("waitTimeoutMs") is None else _wait(fields),
    )


def _listed(fields: Fields, name: str) -> tuple[ManifestTask, ...]:
    return tuple(
        ManifestTask(TaskArn(each.needed_text("taskArn")), each.text("desiredStatus"))
        for each in fields.objects(name)
    )


def _manifest(fields: Fields) -> TaskManifestMessage:
    addressed = _addressed(fields)
    timeline = fields.whole("timeline", most=LARGEST_NUMBER)
    if timeline is None:
        raise InvalidMessage(f"timeline is not set for message ID {addressed[0]}")
    return TaskManifestMessage(*addressed, timeline, _listed(fields, "tasks"))


def _verification(fields: Fields) -> TaskStopVerificationAck:
    return TaskStopVerificationAck(_identified(fields), _listed(fields, "stopTasks"))


def _update(fields: Fields) -> UpdateInfo | None:
    found = fields.object("updateInfo")
    return None if found is None else UpdateInfo(found.text("location"), found.text("signature"))


_READERS: dict[str, Callable[[Fields], Message]] = {
    "PayloadMessage": _payload,
    "HeartbeatMessage": _heartbeat,
    "IAMRoleCredentialsMessage": _credentials,
    "AttachTaskNetworkInterfacesMessage": _attach_task,
    "AttachInstanceNetworkInterfacesMessage": _attach_instance,
    "ConfirmAttachmentMessage": _confirm,
    "TaskManifestMessage": _manifest,
    "TaskStopVerificationAck": _verification,
    "StageUpdateMessage": lambda fields: StageUpdateMessage(*_addressed(fields), _update(fields)),
    "PerformUpdateMessage": lambda fields: PerformUpdateMessage(*_addressed(fields), _update(fields)),
    "CloseMessage": lambda fields: CloseMessage(fields.text("message")),
}
