"""The telemetry channel of the stand-in: every frame's signature and shape, and its acknowledgement (3)."""

import json

from tests.fakes.ecs.protocol import TCS_ACKS, TCS_MESSAGES
from tests.fakes.ecs.records import Journal
from tests.fakes.ecs.shapes import problems
from tests.fakes.ecs.signatures import SignatureRefused, Verifier
from tests.fakes.ecs.sockets import Connection, SocketSide, opened
from tests.fakes.ecs.tasks import Json
from tests.fakes.ecs.truth import Truth

LARGEST = 1024 * 1024


class TcsSide:
    """Checks and acknowledges. ``acknowledges`` False: nothing is acknowledged. Safe from every thread."""

    def __init__(self, side: SocketSide, truth: Truth, verifier: Verifier) -> None:
        self.side = side
        self.acknowledges = True
        self._truth = truth
        self._journal: Journal = truth.journal
        self._verifier = verifier
        self._unfinished: dict[int, str | None] = {}

    def heartbeat(self, connection: Connection | None = None) -> None:
        """Send a heartbeat, which has no id here."""
        self.side.post("HeartbeatMessage", {"healthy": True}, connection)

    def greet(self, connection: Connection) -> None:
        """A heartbeat at once, as in the recorded session."""
        self.heartbeat(connection)

    def beat(self, connection: Connection) -> None:
        """One more heartbeat."""
        self.heartbeat(connection)

    def hear(self, connection: Connection, frame: str | bytes) -> None:
        """Judge a frame and acknowledge it."""
        data = frame.encode() if isinstance(frame, str) else frame
        try:
            _, payload = self._verifier.check_frame(connection.host, connection.path, connection.query, data)
            kind, body = opened(payload)
        except SignatureRefused as refusal:
            self.side.note_in(connection, "(unsigned)", None, frame)
            self._journal.refusal(f"tcs frame: {refusal.code}: {refusal}")
            self.side.post("BadRequestException", {"message": str(refusal)}, connection)
            return
        except ValueError as error:
            self.side.note_in(connection, "(undecodable)", None, frame)
            self._journal.violation(f"tcs: no envelope: {error}")
            return
        self.side.note_in(connection, kind, body, frame)
        shape = TCS_MESSAGES.get(kind)
        if shape is None:
            self._journal.violation(f"tcs: type {kind!r}, expected one of {sorted(TCS_MESSAGES)}")
            return
        found = list(problems(body, shape))
        for problem in found:
            self._journal.violation(f"tcs {kind}: {problem}")
        if found:
            return
        self._judge(connection, kind, body)
        if self.acknowledges:
            self.side.post(TCS_ACKS[kind], {"message": ""}, connection)

    def _judge(self, connection: Connection, kind: str, body: Json) -> None:
        note, metadata = self._journal.violation, body["metadata"]
        if not self._truth.is_this_cluster(metadata["cluster"]):
            note(f"tcs {kind}: cluster {metadata['cluster']!r} is not this one")
        if metadata["containerInstance"] not in self._truth.instances:
            note(f"tcs {kind}: container instance {metadata['containerInstance']} never registered")
        if len(json.dumps(body)) > LARGEST:
            note(f"tcs {kind}: more than {LARGEST} bytes")
        for task in [*body.get("taskMetrics", ()), *body.get("tasks", ())]:
            if task["taskArn"] not in self._truth.tasks:
                note(f"tcs {kind}: task {task['taskArn']} was never sent")
        if kind != "PublishMetricsRequest":
            return
        has_tasks = bool(body.get("taskMetrics"))
        if metadata["idle"] == has_tasks:
            note(f"tcs {kind}: idle {metadata['idle']} with {len(body.get('taskMetrics', ()))} tasks")
        before = self._unfinished.get(connection.number)
        if before is not None and before != metadata["messageId"]:
            note(f"tcs {kind}: {before} had no part with fin")
        self._unfinished[connection.number] = None if metadata["fin"] else metadata["messageId"]
