"""A cluster of Amazon ECS without a network: it orders, resends, forgets nothing, and can be away."""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from agent.adapters.ecs.channel_socket import CannotDial, Closed, Frame
from agent.model.errors import BackendUnavailable, ReportRejected
from agent.ports.clock import Clock
from tests.fakes.ecs.tasks import (
    Eni,
    Names,
    RoleCredentials,
    TaskPlan,
    one_container,
    role_credentials,
    task_document,
)

KEYS_HOLD = 6 * 3600.0
INTERFACE_WAIT = 300.0
HEARTBEAT_EVERY = 30.0
"""Seconds, as the service has them."""


@dataclass
class Order:
    """A task as the cluster wants it. ``history``: what was accepted of it, in order."""

    arn: str
    plan: TaskPlan
    eni: Eni
    keys: RoleCredentials
    goal: str = "RUNNING"
    is_ordered: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def told(self) -> list[str]:
        """What was accepted, in short: ATTACHED, PENDING, RUNNING, STOPPED."""
        return ["ATTACHED" if "attachments" in each else str(each["status"]) for each in self.history]

    @property
    def said(self) -> list[str]:
        """The same without PENDING, which is told only if there is time for it, and each once.

        A status is told again along with news of containers (ecs-protocol 1.8); see ``said_once``.
        """
        return [each for each in dict.fromkeys(self.told) if each != "PENDING"]

    @property
    def said_once(self) -> bool:
        """Whether each change that was accepted had something to say that was not said before."""
        known: set[tuple[str, str]] = set()
        for change, told in zip(self.history, self.told, strict=True):
            of_containers = [(each["containerName"], each["status"]) for each in change.get("containers", ())]
            news = {("", told), *of_containers} - known
            if not news or not known.isdisjoint(of_containers):
                return False
            known |= news
        return True

    @property
    def is_over(self) -> bool:
        return "STOPPED" in self.said


class Line:
    """One websocket, at the cluster's end."""

    def __init__(self, heard: Callable[[dict[str, Any]], None]) -> None:
        self._heard = heard
        self._coming: asyncio.Queue[Frame | Closed] = asyncio.Queue()

    async def receive(self) -> Frame | Closed:
        return await self._coming.get()

    async def send(self, payload: bytes) -> None:
        self._heard(json.loads(payload))

    async def close(self, code: int, text: str) -> None:
        del code, text
        self._coming.put_nowait(Closed(None))

    def say(self, kind: str, message: dict[str, Any]) -> None:
        self._coming.put_nowait(Frame(json.dumps({"type": kind, "message": message})))

    def cut(self) -> None:
        self._coming.put_nowait(Closed(None))


class Cluster:
    """Both what the agent submits to and what it dials.

    ``is_away``: nothing is taken and nobody answers. ``judge``: called with each change before it is accepted;
    it may raise. ``tries`` counts calls, ``orders`` are all tasks by ARN.
    """

    def __init__(self, clock: Clock) -> None:
        self.names = Names("demo")
        self.instance = self.names.new_instance_arn()
        self.is_away = False
        self.judge: Callable[[dict[str, Any]], None] = lambda _: None
        self.tries: Counter[str] = Counter()
        self.orders: dict[str, Order] = {}
        self.asked_for_keys: list[bool] = []
        self._clock = clock
        self._line: Line | None = None
        self._unanswered: dict[str, tuple[str, dict[str, Any]]] = {}
        self._sequence = 0

    # -- what happens --------------------------------------------------------------------------

    def go_away(self) -> None:
        """From now on nothing comes through, and what was connected is cut."""
        self.is_away = True
        self.hang_up()

    def come_back(self) -> None:
        """Everything answers again."""
        self.is_away = False

    def hang_up(self) -> None:
        """What was connected is cut."""
        if self._line is not None:
            self._line.cut()
        self._line = None

    async def beat(self) -> None:
        """Heartbeats for ever."""
        while True:
            await asyncio.sleep(HEARTBEAT_EVERY)
            self._say("HeartbeatMessage", {"healthy": True})

    @property
    def is_connected(self) -> bool:
        return self._line is not None

    def order(self, *, mark: str = "app", wait: float = INTERFACE_WAIT, role: str = "fkTaskRole") -> Order:
        """A task shall run: its interface is announced now, the payload follows when that is attached."""
        number = len(self.orders) + 1
        eni = Eni(
            mac=f"0a:77:00:00:{number >> 8:02x}:{number & 255:02x}",
            ipv4=f"10.77.{1 + (number >> 8)}.{number & 255}",
            attachment_arn=self.names.new_attachment_arn(),
        )
        keys = role_credentials(self.names.role_arn(role), self._clock.now(), KEYS_HOLD)
        made = Order(self.names.new_task_arn(), one_container(f"example/{mark}:1", name=mark), eni, keys)
        self.orders[made.arn] = made
        self._owe(
            "AttachTaskNetworkInterfacesMessage",
            {
                "taskArn": made.arn,
                "taskClusterArn": self.names.cluster_arn,
                "waitTimeoutMs": int(wait * 1000),
                "elasticNetworkInterfaces": [eni.document()],
            },
        )
        return made

    def stop(self, order: Order) -> None:
        """The task shall end."""
        order.goal = "STOPPED"
        self._send_task(order)

    def unanswered(self) -> list[str]:
        """The types of messages that still wait for their acknowledgement."""
        return [kind for kind, _ in self._unanswered.values()]

    # -- as the API ----------------------------------------------------------------------------

    async def submit(self, body: dict[str, Any], *, operation: str = "SubmitTaskStateChange") -> None:
        """Take a change, or not."""
        self.tries[operation] += 1
        await asyncio.sleep(0.02)
        if self.is_away:
            raise BackendUnavailable("the cluster is away")
        self.judge(body)
        order = self.orders.get(body["task"])
        if order is None:
            raise ReportRejected("Amazon ECS said InvalidParameterException: Unable to find the task.")
        order.history.append(body)
        if "attachments" in body:
            self._send_task(order)

    # -- as what is dialled --------------------------------------------------------------------

    async def dial(self, url: str, headers: Mapping[str, str]) -> Line:
        """Connect. Raise ``CannotDial`` while nobody answers."""
        del headers
        self.tries["dial"] += 1
        await asyncio.sleep(0.05)
        if self.is_away:
            raise CannotDial("the cluster is away")
        self._line = Line(self._hear)
        is_asked = parse_qs(urlsplit(url).query)["sendCredentials"] == ["true"]
        self.asked_for_keys.append(is_asked)
        self._say("HeartbeatMessage", {"healthy": True})
        self._say("TaskManifestMessage", self._manifest())
        for order in self.orders.values() if is_asked else ():
            self.send_keys(order)
        for kind, message in list(self._unanswered.values()):
            self._line.say(kind, message)
        return self._line

    def send_keys(self, order: Order) -> None:
        """New keys for the task's role, under the same id."""
        if not order.is_ordered or order.is_over or order.goal == "STOPPED":
            return
        made = role_credentials(order.keys.role_arn, self._clock.now(), KEYS_HOLD, order.keys.credentials_id)
        order.keys = made
        self._say(
            "IAMRoleCredentialsMessage",
            {
                "taskArn": order.arn,
                "taskClusterArn": self.names.cluster_arn,
                "roleType": "TaskApplication",
                "roleCredentials": made.document(),
            },
        )

    # -- parts ---------------------------------------------------------------------------------

    def _send_task(self, order: Order) -> None:
        order.is_ordered = True
        document = task_document(
            replace(order.plan, family="scenario"),
            self.names,
            order.arn,
            desired_status=order.goal,
            enis=(order.eni,),
            credentials=order.keys if order.goal == "RUNNING" else None,
        )
        number = self._next()
        self._owe("PayloadMessage", {"seqNum": number, "timeline": number, "tasks": [document]})

    def _manifest(self) -> dict[str, Any]:
        tasks = [
            {"taskArn": each.arn, "taskClusterArn": self.names.cluster_arn, "desiredStatus": each.goal}
            for each in self.orders.values()
            if each.is_ordered and not each.is_over
        ]
        return {"timeline": self._next(), "tasks": tasks}

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _owe(self, kind: str, message: dict[str, Any]) -> None:
        whole = self._say(kind, message)
        self._unanswered[whole["messageId"]] = (kind, whole)

    def _say(self, kind: str, message: dict[str, Any]) -> dict[str, Any]:
        whole = {
            "messageId": str(uuid.uuid4()),
            "clusterArn": self.names.cluster_arn,
            "containerInstanceArn": self.instance,
            "generatedAt": int(self._clock.now().timestamp() * 1000),
            **message,
        }
        if self._line is not None:
            self._line.say(kind, whole)
        return whole

    def _hear(self, envelope: dict[str, Any]) -> None:
        kind, message = envelope["type"], envelope["message"]
        if kind == "AckRequest":
            self._unanswered.pop(message["messageId"], None)
        elif kind == "TaskStopVerificationMessage":
            gone = [
                each
                for each in message["stopCandidates"]
                if (order := self.orders.get(each["taskArn"])) is None or order.goal == "STOPPED"
            ]
            self._say("TaskStopVerificationAck", {"messageId": message["messageId"], "stopTasks": gone})
