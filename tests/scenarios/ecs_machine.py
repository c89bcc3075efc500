"""A container instance on fakes: the agent with the ECS backend as the daemon wires it, and its cluster."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Any

from agent.adapters.ecs.acs import ControlSession, Conversation, control_url
from agent.adapters.ecs.assignments import Assignments
from agent.adapters.ecs.attachments import Attachments
from agent.adapters.ecs.backend import EcsBackend
from agent.adapters.ecs.change import Change
from agent.adapters.ecs.channel import CONTROL_TIMES, Channel
from agent.adapters.ecs.credentials import DeliveredCredentials
from agent.adapters.ecs.outbox import Outbox
from agent.adapters.ecs.records import InstanceRecord
from agent.adapters.ecs.store import Store
from agent.lifecycle.admission import Resources
from agent.lifecycle.derive import task_status
from agent.lifecycle.names import docker_name, pause_name
from agent.model.ids import TaskArn
from agent.model.spec import PullBehavior
from agent.model.state import Policy
from agent.model.status import TaskStatus
from agent.ports.clock import Clock
from agent.supervisor.janitor import Janitor
from agent.supervisor.node import Node
from agent.supervisor.perform import Performer
from tests.fakes.checkpoint import MemoryCheckpoints
from tests.fakes.credentials import FakeLogins
from tests.fakes.documents import MemoryDocuments
from tests.fakes.interfaces import FakeInterfaces
from tests.fakes.network import FakeNetwork
from tests.fakes.pulls import MemoryPulls
from tests.fakes.runtime import FakeRuntime
from tests.scenarios.ecs_cluster import Cluster, Order
from tests.scenarios.machine import LARGE, Complaints


class _Signer:
    async def handshake(self, url: str) -> Mapping[str, str]:
        del url
        return {}

    def note_server_time(self, date_header: str | None) -> bool:
        del date_header
        return False

    def forget_keys(self) -> None:
        raise AssertionError("no handshake of this cluster is refused")


class EcsMachine:
    """What outlives the agent, and its present life as ``node`` and ``credentials``."""

    def __init__(
        self, clock: Clock, *, retention: timedelta = timedelta(hours=3), capacity: Resources = LARGE
    ) -> None:
        self.clock = clock
        self.capacity = capacity
        self.cluster = Cluster(clock)
        self.documents = MemoryDocuments()
        self.checkpoints = MemoryCheckpoints()
        self.runtime = FakeRuntime(clock)
        self.network = FakeNetwork()
        self.interfaces = FakeInterfaces()
        self.health = Complaints()
        self.pulls = MemoryPulls()
        self._policy = Policy(retention=retention)
        self.node: Node | None = None
        self.credentials = DeliveredCredentials(clock)

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[Node]:
        """One life of the agent. Leaving the block kills it: nothing is finished, nothing is said."""
        clock, changed = self.clock, Change()
        store = Store(self.documents, clock, changed)
        await store.open()
        if store.instance is None:
            await store.update_instance(lambda _: InstanceRecord("demo", self.cluster.instance))
        outbox = Outbox(self.cluster, store, clock, cluster="demo")
        attachments = Attachments(store, self.interfaces, outbox, clock, timedelta(minutes=5))
        self.credentials = DeliveredCredentials(clock)
        assignments = Assignments(
            store,
            self.credentials,
            attachments,
            outbox,
            tasks_changed=changed,
            cluster="demo",
            pull_behavior=PullBehavior.DEFAULT,
        )
        self.node = node = Node(
            backend=EcsBackend(assignments, outbox, self.credentials, changed),
            performer=Performer(self.runtime, self.network, self.credentials, FakeLogins(), self.pulls),
            checkpoints=self.checkpoints,
            interfaces=self.interfaces,
            clock=clock,
            health=self.health,
            policy=self._policy,
            capacity=self.capacity,
        )
        janitor = Janitor(self.runtime, self.network, known=node.known, sandboxes=node.sandboxes)
        channel = self._channel(ControlSession(assignments, attachments, clock, heartbeat=lambda: None))
        async with asyncio.TaskGroup() as life:
            work = (outbox.run(), attachments.run(), node.run(), janitor.run(), channel.run())
            tasks = [life.create_task(each) for each in (*work, self.cluster.beat())]
            try:
                yield node
            finally:
                for task in tasks:
                    task.cancel()
        self.cluster.hang_up()
        self.runtime = self.runtime.restarted()

    def _channel(self, session: ControlSession) -> Channel:
        has_connected = False

        async def converse(conversation: Conversation) -> None:
            nonlocal has_connected
            has_connected = True
            await session.converse(conversation)

        async def url() -> str:
            return control_url(
                "https://control.example",
                cluster="demo",
                instance_arn=self.cluster.instance,
                agent_version="1",
                agent_hash="0" * 8,
                docker_version="",
                send_credentials=not has_connected,
            )

        return Channel(
            "control",
            url=url,
            signer=_Signer(),
            http=None,  # type: ignore[arg-type]  # the dialer has its own way
            converse=converse,
            on_inactive=lambda: None,
            times=CONTROL_TIMES,
            clock=self.clock,
            health=self.health,
            dialer=self.cluster,
            random=Random(7),
        )

    # -- what a story does ---------------------------------------------------------------------

    def run_task(self, **more: Any) -> Order:
        """The cluster orders a task, and its interface appears."""
        order = self.cluster.order(**more)
        self.interfaces.appear(order.eni.mac)
        return order

    async def until(self, condition: Callable[[], bool], *, within: float = 600.0) -> None:
        """Let time pass until it is true. Raise ``TimeoutError`` after so many (jumped) seconds."""
        pause = 0.01
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(pause)
                pause = min(pause * 1.2, 5.0)

    def is_running(self, order: Order) -> bool:
        """Whether agent and world agree that all of it runs."""
        assert self.node is not None
        state = self.node.by_arn(TaskArn(order.arn))
        if state is None:
            return False
        names = {
            pause_name(state.spec),
            *(docker_name(state.spec, each.name) for each in state.spec.containers),
        }
        return task_status(state) is TaskStatus.RUNNING and names <= self.runtime.running

    def exits(self, order: Order, code: int) -> None:
        """The task's container ends by itself."""
        (name,) = [
            name
            for name, each in self.runtime.containers.items()
            if each.task_arn == order.arn and each.container_name == order.plan.containers[0].name
        ]
        self.runtime.exit(name, code)

    def containers_of(self, order: Order) -> dict[str, tuple[Any, Any, Any]]:
        """Identity, process and start of each of the task's containers: what must not change."""
        return {
            name: (each.container_id, each.pid, each.started_at)
            for name, each in self.runtime.containers.items()
            if each.task_arn == order.arn
        }
