"""The control channel's conversation: every message is understood, carried out and answered on its own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol
from urllib.parse import urlencode

import structlog

from agent.adapters.ecs.assignments import Assignments
from agent.adapters.ecs.attachments import Attachments
from agent.adapters.ecs.records import AttachmentRecord
from agent.adapters.ecs.wire import answers
from agent.adapters.ecs.wire.envelope import BadEnvelope, read_envelope
from agent.adapters.ecs.wire.messages import (
    Addressed,
    AttachInstanceNetworkInterfacesMessage,
    AttachTaskNetworkInterfacesMessage,
    CloseMessage,
    ConfirmAttachmentMessage,
    ErrorMessage,
    HeartbeatMessage,
    IAMRoleCredentialsMessage,
    InvalidMessage,
    Message,
    PayloadMessage,
    PerformUpdateMessage,
    StageUpdateMessage,
    TaskManifestMessage,
    TaskStopVerificationAck,
    UnknownMessage,
    read_message,
)
from agent.model.errors import CheckpointFailed
from agent.ports.clock import Clock

log = structlog.get_logger()

PROTOCOL_VERSION = "2"
SEQUENCE_NUMBER = "1"
"""Fixed values of the query (ecs-protocol 2.1)."""

UPDATES_ARE_DISABLED = "Updates are disabled"
NOTHING_DOWNLOADED = "Cannot perform update; update not downloaded"
"""Why updates are refused (ecs-protocol 2.4): whoever installed the agent updates it."""


class Conversation(Protocol):
    """One live connection, as the channel gives it."""

    def texts(self) -> AsyncIterator[str]:
        """Yield what arrives, until the connection ends."""

    async def send(self, text: str) -> None:
        """Send one text frame."""

    def active(self) -> None:
        """A message was understood: the peer is alive."""


def control_url(
    endpoint: str,
    *,
    cluster: str,
    instance_arn: str,
    agent_version: str,
    agent_hash: str,
    docker_version: str,
    send_credentials: bool,
) -> str:
    """Where the control channel connects to; keys in alphabetical order (ecs-protocol 2.1)."""
    query = {
        "agentHash": agent_hash,
        "agentVersion": agent_version,
        "clusterArn": cluster,
        "containerInstanceArn": instance_arn,
    }
    if docker_version:
        query["dockerVersion"] = f"DockerVersion: {docker_version}"
    query |= {
        "protocolVersion": PROTOCOL_VERSION,
        "sendCredentials": "true" if send_credentials else "false",
        "seqNum": SEQUENCE_NUMBER,
    }
    return f"{endpoint.rstrip('/')}/ws?{urlencode(query)}"


class ControlSession:
    """What is said on the control channel. ``heartbeat`` is called at each heartbeat of the cluster."""

    def __init__(
        self,
        assignments: Assignments,
        attachments: Attachments,
        clock: Clock,
        *,
        heartbeat: Callable[[], None],
    ) -> None:
        self._assignments = assignments
        self._attachments = attachments
        self._clock = clock
        self._heartbeat = heartbeat
        self._handlers: dict[type[Any], Callable[[Any, Conversation], Awaitable[None]]] = {
            HeartbeatMessage: self._take_heartbeat,
            PayloadMessage: self._take_payload,
            IAMRoleCredentialsMessage: self._take_credentials,
            AttachTaskNetworkInterfacesMessage: self._take_interfaces,
            AttachInstanceNetworkInterfacesMessage: self._take_interfaces,
            ConfirmAttachmentMessage: self._refuse_attachment,
            TaskManifestMessage: self._take_manifest,
            TaskStopVerificationAck: self._take_verification,
            StageUpdateMessage: self._refuse_update,
            PerformUpdateMessage: self._refuse_update,
            CloseMessage: self._note,
            ErrorMessage: self._note,
        }

    async def converse(self, conversation: Conversation) -> None:
        """Answer until the connection ends. No message ends the session, however broken."""
        async for text in conversation.texts():
            message = _understood(text, conversation)
            if message is None:
                continue
            try:
                await self._handlers[type(message)](message, conversation)
            except CheckpointFailed as error:
                # Not acknowledged: the cluster sends it again.
                log.error("message.failed", message=type(message).__name__, reason=str(error))  # noqa: TRY400
            except ConnectionError:
                raise  # the connection has ended while we answered
            except Exception:
                # A bug that one message meets must not keep the next from being heard.
                log.exception("message.crashed", message=type(message).__name__)

    # -- messages ------------------------------------------------------------------------------

    async def _take_heartbeat(self, message: HeartbeatMessage, conversation: Conversation) -> None:
        self._heartbeat()
        await conversation.send(answers.heartbeat_ack_request(message.message_id))

    async def _take_payload(self, message: PayloadMessage, conversation: Conversation) -> None:
        taken = await self._assignments.take_payload(message)
        if not taken.is_whole:
            log.warning("payload.unacknowledged", message_id=message.message_id)
            return
        await conversation.send(_ack(message))
        for each in taken.delivered:
            await conversation.send(answers.credentials_ack_request(message.message_id, each))

    async def _take_credentials(self, message: IAMRoleCredentialsMessage, conversation: Conversation) -> None:
        if self._assignments.take_credentials(message):
            await conversation.send(answers.credentials_ack_request(message.message_id, message.credentials))

    async def _take_interfaces(
        self,
        message: AttachTaskNetworkInterfacesMessage | AttachInstanceNetworkInterfacesMessage,
        conversation: Conversation,
    ) -> None:
        owner = message.task_arn if isinstance(message, AttachTaskNetworkInterfacesMessage) else ""
        expires_at = self._clock.now() + message.wait
        await self._attachments.announce(
            AttachmentRecord(each.attachment_arn, each.mac_address, owner, expires_at)
            for each in message.interfaces
        )
        # Says that we know of them, whether or not a device is there (ecs-protocol 2.4). It comes when they
        # are on record: what was acknowledged is never sent again, not even after a crash.
        await conversation.send(_ack(message))

    async def _take_manifest(self, message: TaskManifestMessage, conversation: Conversation) -> None:
        candidates = await self._assignments.take_manifest(message)
        if candidates is None:
            log.info("manifest.outdated", timeline=message.timeline)
            return
        await conversation.send(_ack(message))
        if candidates:
            log.warning("manifest.differs", tasks=list(candidates))
            await conversation.send(
                answers.task_stop_verification(message.message_id, message.cluster_arn, candidates)
            )

    async def _take_verification(self, message: TaskStopVerificationAck, _: Conversation) -> None:
        await self._assignments.take_verification(message)

    async def _refuse_update(
        self, message: StageUpdateMessage | PerformUpdateMessage, conversation: Conversation
    ) -> None:
        is_stage = isinstance(message, StageUpdateMessage)
        reason = UPDATES_ARE_DISABLED if is_stage else NOTHING_DOWNLOADED
        log.warning("update.refused", message_id=message.message_id, reason=reason)
        await conversation.send(
            answers.nack_request(message.message_id, message.cluster_arn, message.instance_arn, reason)
        )

    async def _refuse_attachment(self, message: ConfirmAttachmentMessage, _: Conversation) -> None:
        # An acknowledgement would promise a volume; without one the cluster gives the attachment up.
        log.warning(
            "attachment.unsupported",
            attachment=message.attachment_arn,
            type=message.attachment_type,
            problem="this agent attaches no volumes",
        )

    async def _note(self, message: CloseMessage | ErrorMessage, _: Conversation) -> None:
        name = message.name if isinstance(message, ErrorMessage) else "CloseMessage"
        log.info("channel.said", kind=name, text=message.text[:200])


def _understood(text: str, conversation: Conversation) -> Message | None:
    try:
        message = read_message(read_envelope(text))
    except (BadEnvelope, UnknownMessage) as problem:
        log.warning("message.skipped", problem=str(problem))
        return None  # no sign of life: whoever sends only such is not the cluster
    except InvalidMessage as problem:
        conversation.active()
        log.warning("message.dropped", problem=str(problem))
        return None
    conversation.active()
    return message


def _ack(message: Addressed) -> str:
    return answers.ack_request(message.message_id, message.cluster_arn, message.instance_arn)
