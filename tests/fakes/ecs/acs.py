"""The control channel of the stand-in: what it says, what it expects back, and whether that came (2.4)."""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.fakes.ecs.protocol import ACS_MESSAGES
from tests.fakes.ecs.records import Journal
from tests.fakes.ecs.shapes import problems
from tests.fakes.ecs.sockets import Connection, Outgoing, SocketSide, opened
from tests.fakes.ecs.tasks import Eni, Json
from tests.fakes.ecs.truth import AttachmentRecord, TaskRecord, Truth, message_id

ACK, HEARTBEAT_ACK, CREDENTIALS_ACK = "AckRequest", "HeartbeatAckRequest", "IAMRoleCredentialsAckRequest"
VERIFICATION = "TaskStopVerificationMessage"
_RESENT = ("PayloadMessage", "AttachTaskNetworkInterfacesMessage", "IAMRoleCredentialsMessage")


@dataclass(slots=True)
class Sent:
    """A message with an id. ``owed``: the acknowledgements still missing; ``times``: how often it was sent.

    ``is_raw``: written by the test, so that nothing is expected of its answer.
    """

    message_id: str
    type: str
    body: Json
    owed: set[str]
    expected: frozenset[str]
    expirations: dict[str, str] = field(default_factory=dict)
    times: int = 0
    is_raw: bool = False
    acked_at: float | None = None
    nack_reason: str | None = None
    acks: Counter[str] = field(default_factory=Counter)


class AcsSide:
    """Sends messages and keeps the books. Safe from every thread.

    ``sends_manifest``: a manifest follows each connect. ``resends``: what was not acknowledged is sent again
    after a connect. ``verify``: chooses, of the tasks that the agent asks about, those that stop.
    """

    def __init__(self, side: SocketSide, truth: Truth, now: Callable[[], datetime]) -> None:
        self.side = side
        self.sends_manifest = True
        self.resends = True
        self.verify: Callable[[list[Json]], list[Json]] = truth.to_stop
        self._truth = truth
        self._journal: Journal = truth.journal
        self._now = now
        self._sent: dict[str, Sent] = {}
        self._manifests: dict[str, Json] = {}
        self._swallowed: Counter[str] = Counter()

    # -- sending -------------------------------------------------------------------------------

    def heartbeat(self, connection: Connection | None = None) -> str:
        """Send a heartbeat; its id."""
        body = {"healthy": True, "messageId": message_id()}
        return self._send("HeartbeatMessage", body, {HEARTBEAT_ACK}, connection)

    def manifest(
        self,
        tasks: list[Json] | None = None,
        timeline: int | None = None,
        connection: Connection | None = None,
    ) -> str:
        """Send a manifest of those tasks, or of all that are not over; its id."""
        with self._journal.lock:
            body = {
                **self._place(),
                "generatedAt": self._millis(),
                "messageId": message_id(),
                "timeline": self._truth.next_sequence() if timeline is None else timeline,
                "tasks": self._truth.manifest() if tasks is None else tasks,
            }
            return self._send("TaskManifestMessage", body, {ACK}, connection)

    def attach(self, task_arn: str, enis: tuple[Eni, ...], wait_ms: int) -> str:
        """Announce interfaces of a task; the message's id."""
        with self._journal.lock:
            for eni in enis:
                deadline = time.monotonic() + wait_ms / 1000
                record = AttachmentRecord(eni.attachment_arn, task_arn, eni.mac, deadline)
                self._truth.attachments[eni.attachment_arn] = record
            body = {
                **self._place(),
                "taskArn": task_arn,
                "taskClusterArn": self._truth.names.cluster_arn,
                "generatedAt": self._millis(),
                "messageId": message_id(),
                "waitTimeoutMs": wait_ms,
                "elasticNetworkInterfaces": [eni.document() for eni in enis],
            }
            return self._send("AttachTaskNetworkInterfacesMessage", body, {ACK})

    def payload(self, tasks: list[Json], sequence: int | None = None) -> str:
        """Send tasks; the message's id."""
        with self._journal.lock:
            number = self._truth.next_sequence() if sequence is None else sequence
            body = {
                **self._place(),
                "generatedAt": self._millis(),
                "messageId": message_id(),
                "seqNum": number,
                "timeline": number,
                "tasks": tasks,
            }
            return self._send("PayloadMessage", body, {ACK})

    def credentials(self, task_arn: str, role_type: str, document: Json) -> str:
        """Send new credentials for a task's role; the message's id."""
        body = {
            "messageId": message_id(),
            "taskArn": task_arn,
            "taskClusterArn": self._truth.names.cluster_arn,
            "roleType": role_type,
            "roleCredentials": document,
        }
        return self._send("IAMRoleCredentialsMessage", body, set())

    def message(self, kind: str, body: Json) -> str | None:
        """Send any message; nothing is expected of the answer. Its id, if it has one."""
        return self.raw(json.dumps({"type": kind, "message": body}))

    def raw(self, frame: str | bytes) -> str | None:
        """Send any text, or bytes as a binary frame. The id of the message, if it is one that has an id."""
        try:
            kind, body = opened(frame)
        except ValueError:
            kind, body = "(raw)", None
        found = body.get("messageId") if isinstance(body, dict) else None
        with self._journal.lock:
            if isinstance(found, str):
                sent = self._sent.setdefault(found, Sent(found, kind, body, set(), frozenset(), is_raw=True))
                sent.times += self.side.copies
                if kind == "TaskManifestMessage":
                    self._manifests[found] = body
            self.side.post_frame(Outgoing(frame, kind, body))
        return found if isinstance(found, str) else None

    def resend(self, sent: Sent, connection: Connection | None = None) -> None:
        """Send a message again as it was."""
        with self._journal.lock:
            if self.side.post(sent.type, sent.body, connection):
                sent.times += self.side.copies

    # -- the books -----------------------------------------------------------------------------

    def sent(self, message_id: str) -> Sent:
        """What was sent with that id."""
        with self._journal.lock:
            return self._sent[message_id]

    def unacked(self) -> list[Sent]:
        """What still misses an acknowledgement, in order."""
        with self._journal.lock:
            return [sent for sent in self._sent.values() if sent.owed]

    def swallow(self, kind: str, times: int = 1) -> None:
        """Let the next messages of that type be lost on the way here; they are still in the journal."""
        with self._journal.lock:
            self._swallowed[kind] += times

    # -- as a conversation ---------------------------------------------------------------------

    def greet(self, connection: Connection) -> None:
        """Heartbeat and manifest, as in the recorded session; keys if asked for; then what is owed."""
        late = [sent for sent in self.unacked() if sent.type in _RESENT]
        self.heartbeat(connection)
        if self.sends_manifest:
            self.manifest(connection=connection)
        if connection.handshake.query.get("sendCredentials") == "true":
            for task in self._truth.tasks.values():
                self._send_keys_again(task)
        for sent in late if self.resends else ():
            self.resend(sent, connection)

    def beat(self, connection: Connection) -> None:
        """One more heartbeat."""
        self.heartbeat(connection)

    def hear(self, connection: Connection, frame: str | bytes) -> None:
        """Judge a message and act on it."""
        if isinstance(frame, bytes):
            self._journal.violation("acs: a binary frame, expected text")
        try:
            kind, body = opened(frame)
        except ValueError as error:
            self.side.note_in(connection, "(undecodable)", None, frame)
            self._journal.violation(f"acs: no envelope: {error}")
            return
        self.side.note_in(connection, kind, body, frame)
        shape = ACS_MESSAGES.get(kind)
        if shape is None:
            self._journal.violation(f"acs: type {kind!r}, expected one of {sorted(ACS_MESSAGES)}")
            return
        found = list(problems(body, shape))
        for problem in found:
            self._journal.violation(f"acs {kind}: {problem}")
        if found:
            return
        if self._swallowed[kind]:
            self._swallowed[kind] -= 1
            return
        if kind == VERIFICATION:
            self._verify(connection, body)
        else:
            self._acknowledged(kind, body)

    # -- parts ---------------------------------------------------------------------------------

    def _send(self, kind: str, body: Json, owed: set[str], connection: Connection | None = None) -> str:
        with self._journal.lock:
            if kind == "TaskManifestMessage":
                self._manifests[body["messageId"]] = body
            expirations = _expirations(kind, body)
            expected = frozenset(owed | {f"{CREDENTIALS_ACK}:{each}" for each in expirations})
            sent = Sent(body["messageId"], kind, body, set(expected), expected, expirations)
            self._sent[sent.message_id] = sent
            if self.side.post(kind, body, connection):
                sent.times += self.side.copies
            elif self.side.connection is not None:
                sent.times += self.side.copies  # held, to be released
            return sent.message_id

    def _send_keys_again(self, task: TaskRecord) -> None:
        if task.document is None or task.desired_status != "RUNNING" or task.is_over:
            return
        for role_type, credentials in task.credentials.items():
            self.credentials(task.arn, role_type, credentials.document())

    def _acknowledged(self, kind: str, body: Json) -> None:
        sent = self._sent.get(body["messageId"])
        if sent is None:
            self._journal.violation(f"acs {kind}: message {body['messageId']} was never sent")
            return
        if kind == "NackRequest":
            sent.nack_reason = body["reason"]
            if not sent.is_raw:
                self._journal.violation(f"acs NackRequest for {sent.type}: {body['reason']}")
            return
        key = f"{kind}:{body['credentialsId']}" if kind == CREDENTIALS_ACK else kind
        sent.acks[key] += 1
        sent.owed.discard(key)
        if not sent.owed and sent.acked_at is None:
            sent.acked_at = time.monotonic()
        if sent.is_raw:
            return
        if key not in sent.expected:
            self._journal.violation(
                f"acs {key}: not an answer to {sent.type}, expected {sorted(sent.expected)}"
            )
        elif sent.acks[key] > sent.times:
            self._journal.violation(
                f"acs {key} for {sent.type}: {sent.acks[key]} times, sent {sent.times} times"
            )
        if kind == ACK:
            place = self._place()
            expected = (place["clusterArn"], place["containerInstanceArn"])
            if (body["cluster"], body["containerInstance"]) != expected:
                self._journal.violation(f"acs AckRequest: cluster and instance, expected {expected}")
        if kind == CREDENTIALS_ACK and sent.expirations.get(body["credentialsId"]) != body["expiration"]:
            expiration = sent.expirations.get(body["credentialsId"])
            self._journal.violation(f"acs {kind}: expiration {body['expiration']}, expected {expiration}")

    def _verify(self, connection: Connection, body: Json) -> None:
        manifest = self._manifests.get(body["messageId"])
        if manifest is None:
            self._journal.violation(f"acs {VERIFICATION}: {body['messageId']} is no manifest's id")
            return
        runs = {task["taskArn"] for task in manifest["tasks"] if task["desiredStatus"] == "RUNNING"}
        for candidate in body["stopCandidates"]:
            if candidate["taskArn"] in runs:
                self._journal.violation(f"acs {VERIFICATION}: {candidate['taskArn']} runs in the manifest")
        answer = {
            "generatedAt": self._millis(),
            "messageId": body["messageId"],
            "stopTasks": self.verify(body["stopCandidates"]),
        }
        self.side.post("TaskStopVerificationAck", answer, connection)

    def _place(self) -> Json:
        instance = self._truth.instance
        return {
            "clusterArn": self._truth.names.cluster_arn,
            "containerInstanceArn": instance.arn if instance else self._truth.names.new_instance_arn(),
        }

    def _millis(self) -> int:
        return int(self._now().timestamp() * 1000)


def _expirations(kind: str, body: Json) -> dict[str, Any]:
    """Expiration by credentials id, of every set of keys in the message."""
    if kind == "IAMRoleCredentialsMessage":
        found = [body["roleCredentials"]]
    elif kind == "PayloadMessage":
        found = [
            task[name]
            for task in body["tasks"]
            for name in ("roleCredentials", "executionRoleCredentials")
            if task.get(name)
        ]
    else:
        found = []
    return {each["credentialsId"]: each.get("expiration") for each in found if each.get("credentialsId")}
