"""``ControlPlane``: an ECS control plane on loopback for tests, built from the protocol's description alone.

It answers the API, the control channel and the telemetry channel of one cluster, checks every signature and
every field, and remembers what came and when. All methods block and may be called from any thread; a test whose
own event loop must go on meanwhile uses ``await control.eventually(...)`` or ``asyncio.to_thread``.

    with ControlPlane() as control:
        start_the_agent(control.environment())
        control.wait_connected()
        task = control.run_task(one_container("app:1", "sleep", "9"), appear=links.appear, eni=links.plan())
        control.stop_task(task.arn, wait=True)
        assert control.problems() == []
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from tests.fakes.ecs.acs import AcsSide, Sent
from tests.fakes.ecs.api import ApiSide
from tests.fakes.ecs.faults import Faults
from tests.fakes.ecs.protocol import ACS_QUERY, TCS_QUERY
from tests.fakes.ecs.records import Call, Handshake, Journal, Message, NotSeen
from tests.fakes.ecs.serving import LoopbackServer
from tests.fakes.ecs.signatures import KeyPair, Verifier
from tests.fakes.ecs.sockets import SocketSide
from tests.fakes.ecs.tasks import REGION, Eni, Json, Names, TaskPlan, role_credentials
from tests.fakes.ecs.tcs import TcsSide
from tests.fakes.ecs.truth import EXECUTION_ROLE, TASK_ROLE, InstanceRecord, TaskRecord, Truth

T = TypeVar("T")

WAIT_MS = 300_000
_SOON = 15.0


class ControlPlane:
    """One cluster's control plane. ``tls`` False: plain HTTP and websockets.

    ``faults``: what goes wrong with requests and handshakes (``control.faults.plan("acs", refused(...))``).
    ``acs`` and ``tcs``: the channels, with their own ways to go wrong (``hold``, ``freeze``, ``copies`` ...).
    ``api``: ``echo`` and ``endpoints`` alter answers. ``skew_s``: how far its clock is ahead.
    """

    def __init__(self, cluster: str = "berth-test", region: str = REGION, *, tls: bool = True) -> None:
        self.names = Names(cluster, region)
        self.journal = Journal()
        self.truth = Truth(self.names, self.journal)
        self.faults = Faults()
        self.skew_s = 0.0
        self.keys: dict[str, KeyPair] = {}
        self._current = self._new_keys()
        verifier = Verifier(self.keys, region, self.now)
        self._server = LoopbackServer("ecs-stand-in", self._answer, tls=tls)
        self.api = ApiSide(self.truth, verifier, self.faults, self.now, lambda: self._server.url)

        def side(name: str, shape: Any, cluster_key: str, instance_key: str) -> SocketSide:
            return SocketSide(
                name, shape, cluster_key=cluster_key, instance_key=instance_key,
                truth=self.truth, verifier=verifier, faults=self.faults, now=self.now,
            )  # fmt: skip

        self.acs = AcsSide(side("acs", ACS_QUERY, "clusterArn", "containerInstanceArn"), self.truth, self.now)
        self.tcs = TcsSide(side("tcs", TCS_QUERY, "cluster", "containerInstance"), self.truth, verifier)
        self.acs.side.join(self._server, self.acs)
        self.tcs.side.join(self._server, self.tcs)

    # -- its life ------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen on a free port of loopback."""
        self._server.start()
        return self

    def stop(self) -> None:
        """End everything: connections, thread, port, files."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The API's endpoint, such as https://127.0.0.1:40123."""
        return self._server.url

    @property
    def host(self) -> str:
        """Address and port."""
        return self._server.host

    @property
    def server(self) -> LoopbackServer:
        """The listener: ``refuse_connections``, ``accept_connections``, ``drop_connections``, certificate."""
        return self._server

    def now(self) -> datetime:
        """Its clock."""
        return datetime.now(UTC) + timedelta(seconds=self.skew_s)

    def environment(self) -> dict[str, str]:
        """The variables of an agent that should register here."""
        keys = self.instance_keys
        return {
            "BERTH_BACKEND": "ecs",
            "ECS_BACKEND_HOST": self.url,
            "ECS_CLUSTER": self.names.cluster,
            "BERTH_TLS_VERIFY": "false",
            "AWS_DEFAULT_REGION": self.names.region,
            "AWS_ACCESS_KEY_ID": keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
            "AWS_SESSION_TOKEN": keys.token or "",
        }

    # -- keys ----------------------------------------------------------------------------------

    @property
    def instance_keys(self) -> KeyPair:
        """The keys that an agent signs with."""
        return self._current

    def rotate_keys(self, *, expire_old: bool = False) -> KeyPair:
        """New instance keys. The old ones stay good unless they are to expire."""
        with self.journal.lock:
            if expire_old:
                old = self._current
                self.keys[old.access_key_id] = replace(old, expires_at=self.now())
            self._current = self._new_keys()
            return self._current

    def _new_keys(self) -> KeyPair:
        secret = uuid.uuid4().hex
        made = KeyPair(
            f"EXAMPLEKEYID{secret[:12].upper()}", f"fake-secret-{secret}", f"fake-token-{secret * 4}"
        )
        self.keys[made.access_key_id] = made
        return made

    # -- what came -----------------------------------------------------------------------------

    def calls(self, operation: str | None = None) -> list[Call]:
        """API requests of that operation."""
        return self.journal.calls(operation)

    def messages(
        self, channel: str | None = None, kind: str | None = None, direction: str = "in"
    ) -> list[Message]:
        """What came on a channel (``direction="out"``: what was sent)."""
        return self.journal.messages(channel, kind, direction)

    def handshakes(self, channel: str | None = None) -> list[Handshake]:
        """Requests for websockets, refused ones too."""
        return self.journal.handshakes(channel)

    @property
    def violations(self) -> list[str]:
        """What the protocol does not allow."""
        return self.journal.violations

    @property
    def refusals(self) -> list[str]:
        """Why signatures were refused."""
        return self.journal.refusals

    def problems(self) -> list[str]:
        """Violations and refused signatures: what must be empty after a test without such faults."""
        return [*self.journal.violations, *self.journal.refusals]

    def task(self, arn: str) -> TaskRecord:
        """What is wanted and known of a task."""
        with self.journal.lock:
            return self.truth.tasks[arn]

    @property
    def instance(self) -> InstanceRecord | None:
        """The container instance that registered last."""
        with self.journal.lock:
            return self.truth.instance

    # -- waiting -------------------------------------------------------------------------------

    def wait_for(self, predicate: Callable[[], T], seconds: float = _SOON, what: str = "") -> T:
        """The predicate's first true result; ``NotSeen`` with the last events otherwise."""
        return self.journal.wait_for(predicate, seconds, what)

    async def eventually(self, predicate: Callable[[], T], seconds: float = _SOON, what: str = "") -> T:
        """As ``wait_for``, while the caller's event loop goes on."""
        return await asyncio.to_thread(self.journal.wait_for, predicate, seconds, what)

    def wait_for_registration(self, times: int = 1, seconds: float = _SOON) -> InstanceRecord:
        """The instance, when it has registered that often."""

        def registered() -> InstanceRecord | None:
            found = self.instance
            return found if found is not None and found.registrations >= times else None

        found = self.wait_for(registered, seconds, f"{times} registrations")
        assert found is not None
        return found

    def wait_connected(self, channel: str = "acs", seconds: float = _SOON, *, times: int = 1) -> Handshake:
        """The handshake of the open connection, when at least that many were accepted."""
        side = self._side(channel)

        def connected() -> Handshake | None:
            found = side.connection
            return found.handshake if found is not None and found.number >= times else None

        found = self.wait_for(connected, seconds, f"connection {times} of {channel}")
        assert found is not None
        return found

    def wait_acked(self, message_id: str, seconds: float = _SOON) -> Sent:
        """The message, when everything it is owed has come."""
        self.wait_for(lambda: not self.acs.sent(message_id).owed, seconds, f"acks of {message_id}")
        return self.acs.sent(message_id)

    def wait_attached(self, arn: str, seconds: float = _SOON) -> None:
        """Wait until every interface of the task is reported ATTACHED."""
        task = self.task(arn)
        attachments = self.truth.attachments
        self.wait_for(
            lambda: all(attachments[eni.attachment_arn].status == "ATTACHED" for eni in task.enis),
            seconds, f"interfaces of {arn} attached",
        )  # fmt: skip

    def wait_status(self, arn: str, status: str, seconds: float = 30.0) -> TaskRecord:
        """The task, when it is reported so. A task that stopped instead ends the wait."""
        task = self.task(arn)
        self.wait_for(lambda: task.status == status or task.is_over, seconds, f"{arn} {status}")
        if task.status != status:
            raise NotSeen(f"{arn}: STOPPED ({task.reason!r}), expected {status}\n{self.journal.tail()}")
        return task

    # -- what it says --------------------------------------------------------------------------

    def heartbeat(self) -> str:
        """Send a heartbeat on the control channel; its id."""
        return self.acs.heartbeat()

    def send_manifest(self, tasks: list[Json] | None = None, timeline: int | None = None) -> str:
        """Send a manifest: of those tasks (as on the wire), or of all that are not over."""
        return self.acs.manifest(tasks, timeline)

    def new_task(self, plan: TaskPlan, eni: Eni | None = None, arn: str | None = None) -> TaskRecord:
        """A task that nobody was told of yet. Its interface gets an attachment; its roles get keys."""
        with self.journal.lock:
            task = self.truth.new_task(arn, plan)
            if eni is not None:
                attachment = eni.attachment_arn or self.names.new_attachment_arn()
                task.enis = (replace(eni, attachment_arn=attachment),)
            for role_type, role in ((TASK_ROLE, plan.role), (EXECUTION_ROLE, plan.execution_role)):
                if role is not None:
                    self._give_keys(task, role_type, self.names.role_arn(role), 3600.0)
            return task

    def attach(self, task_arn: str, wait_ms: int = WAIT_MS) -> str:
        """Announce the task's interface; the message's id."""
        return self.acs.attach(task_arn, self.task(task_arn).enis, wait_ms)

    def send_payload(
        self, *tasks: TaskRecord | Json, desired_status: str = "RUNNING", seq: int | None = None
    ) -> str:
        """Send tasks, either known ones or documents as on the wire; the message's id."""
        with self.journal.lock:
            documents = []
            for each in tasks:
                if isinstance(each, TaskRecord):
                    each.desired_status = desired_status
                    documents.append(self.truth.payload_of(each, desired_status))
                else:
                    record = self.truth.new_task(each.get("arn", ""))
                    record.document, record.desired_status = each, each.get("desiredStatus", "")
                    documents.append(each)
            return self.acs.payload(documents, seq)

    def run_task(
        self,
        plan: TaskPlan,
        *,
        eni: Eni | None = None,
        appear: Callable[[Eni], object] | None = None,
        wait_ms: int = WAIT_MS,
        seconds: float = 60.0,
        until: str = "RUNNING",
    ) -> TaskRecord:
        """Start a task as the service does: announce the interface, ``appear`` makes the device, payload after
        ATTACHED, then wait for the status ``until`` (empty: do not wait).
        """  # fmt: skip
        task = self.new_task(plan, eni)
        if task.enis:
            self.attach(task.arn, wait_ms)
            if appear is not None:
                appear(task.enis[0])
            self.wait_attached(task.arn, seconds)
        self.send_payload(task)
        if until:
            self.wait_status(task.arn, until, seconds)
        return task

    def stop_task(self, arn: str, *, wait: bool = False, seconds: float = 60.0) -> str:
        """Ask for the task's end; the message's id. ``wait``: until it is reported STOPPED."""
        sent = self.send_payload(self.task(arn), desired_status="STOPPED")
        if wait:
            self.wait_status(arn, "STOPPED", seconds)
        return sent

    def forget_task(self, arn: str) -> None:
        """The service knows nothing of the task any more; reports of it are refused."""
        with self.journal.lock:
            del self.truth.tasks[arn]
            self.truth.forgotten.add(arn)

    def send_credentials(self, arn: str, role_type: str = TASK_ROLE, lifetime_s: float = 3600.0) -> str:
        """Send new keys for a role of the task, under the same id; the message's id."""
        with self.journal.lock:
            task = self.task(arn)
            old = task.credentials[role_type]
            self._give_keys(task, role_type, old.role_arn, lifetime_s, old.credentials_id)
            return self.acs.credentials(arn, role_type, task.credentials[role_type].document())

    def send_raw(self, frame: str | bytes) -> str | None:
        """Send anything on the control channel: text as text, bytes as a binary frame."""
        return self.acs.raw(frame)

    def deregister(self) -> None:
        """The instance becomes INACTIVE: handshakes are refused from now on, open connections are closed."""
        with self.journal.lock:
            if self.truth.instance is not None:
                self.truth.instance.status = "INACTIVE"
        self.acs.side.close(1000, "deregistered")

    def unacked(self) -> list[Sent]:
        """What still misses an acknowledgement."""
        return self.acs.unacked()

    def resend_unacked(self) -> list[Sent]:
        """Send all of it again, as the service does."""
        owed = self.acs.unacked()
        for sent in owed:
            self.acs.resend(sent)
        return owed

    @contextlib.contextmanager
    def unreachable(self) -> Iterator[None]:
        """Within the block connections are refused, and those that were open are cut."""
        self._server.refuse_connections()
        self._server.drop_connections(reset=True)
        try:
            yield
        finally:
            self._server.accept_connections()

    # -- parts ---------------------------------------------------------------------------------

    def _side(self, channel: str) -> SocketSide:
        return {"acs": self.acs.side, "tcs": self.tcs.side}[channel]

    def _give_keys(
        self, task: TaskRecord, role_type: str, role_arn: str, seconds: float, same: str | None = None
    ) -> None:
        made = role_credentials(role_arn, self.now(), seconds, same)
        task.credentials[role_type] = made
        self.keys[made.access_key_id] = KeyPair(
            made.access_key_id, made.secret_access_key, made.session_token, role_arn, made.expires_at
        )

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        try:
            if path.startswith("/acs/"):
                return await self.acs.side.answer(request)
            if path.startswith("/tcs/"):
                return await self.tcs.side.answer(request)
            return await self.api.answer(request)
        except ConnectionError:
            raise  # the agent has gone while it was being answered
        except Exception as bug:
            # A mistake of the stand-in itself must not look like one of the agent's.
            self.journal.violation(f"the stand-in failed at {time.monotonic():.3f}: {bug!r}")
            raise
