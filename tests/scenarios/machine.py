"""A machine on fakes: the whole agent but its technology, which can be killed and started again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from agent.lifecycle.admission import Resources
from agent.lifecycle.derive import task_status
from agent.lifecycle.names import docker_name, pause_name
from agent.model.ids import TaskArn
from agent.model.spec import TaskSpec
from agent.model.state import Policy, TaskState
from agent.model.status import TaskStatus
from agent.ports.clock import Clock
from agent.supervisor.janitor import Janitor
from agent.supervisor.node import Node
from agent.supervisor.perform import Performer
from tests.fakes.backend import FakeBackend
from tests.fakes.checkpoint import MemoryCheckpoints
from tests.fakes.credentials import FakeCredentials, FakeLogins
from tests.fakes.interfaces import FakeInterfaces
from tests.fakes.network import FakeNetwork
from tests.fakes.pulls import MemoryPulls
from tests.fakes.runtime import FakeRuntime

LARGE = Resources(cpu=64 * 1024, memory=256 * 1024)
"""A machine that no story fills without meaning to."""


class Complaints:
    """``HealthReports`` that remembers what is wrong now, and all that ever was."""

    def __init__(self) -> None:
        self.now: dict[str, str] = {}
        self.ever: list[str] = []

    def report(self, component: str, problem: str | None) -> None:
        if problem is None:
            self.now.pop(component, None)
        else:
            self.now[component] = problem
            self.ever.append(f"{component}: {problem}")


class FakeMachine:
    """Everything that outlives the agent, and the agent's present life as ``node``."""

    def __init__(self, clock: Clock, *, policy: Policy | None = None, capacity: Resources = LARGE) -> None:
        self.clock = clock
        self.capacity = capacity
        self.policy = policy or Policy(retention=timedelta(hours=3))
        self.backend = FakeBackend()
        self.runtime = FakeRuntime(clock)
        self.network = FakeNetwork()
        self.interfaces = FakeInterfaces()
        self.checkpoints = MemoryCheckpoints()
        self.credentials = FakeCredentials(clock)
        self.logins = FakeLogins()
        self.pulls = MemoryPulls()
        self.health = Complaints()
        self.node = self._new_node()
        self.janitor = self._new_janitor()

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[Node]:
        """One life of the agent. Leaving the block kills it: nothing is finished, nothing is said."""
        self.node = self._new_node()
        self.janitor = self._new_janitor()
        async with asyncio.TaskGroup() as life:
            tasks = [life.create_task(self.node.run()), life.create_task(self.janitor.run())]
            try:
                yield self.node
            finally:
                for task in tasks:
                    task.cancel()
        self.runtime = self.runtime.restarted()

    def run_task(self, spec: TaskSpec, *, interface: bool = True) -> TaskArn:
        """The backend assigns the task, and its network interface appears."""
        self.backend.want(spec)
        if interface:
            self.interfaces.appear(spec.network.mac_address)
        return spec.arn

    async def until(self, condition: Callable[[], bool], *, within: float = 3600.0) -> None:
        """Let time pass until it is true. Raise ``TimeoutError`` after so many (jumped) seconds."""
        pause = 0.01
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(pause)
                pause = min(pause * 1.2, 5.0)

    async def until_told(self, arn: TaskArn, status: TaskStatus, *, within: float = 3600.0) -> None:
        """Until the backend has taken a report with this status."""
        await self.until(lambda: self.told(arn) is status, within=within)

    def told(self, arn: TaskArn) -> TaskStatus | None:
        """What the backend believes."""
        latest = self.backend.latest(arn)
        return None if latest is None else latest.status

    def state(self, arn: TaskArn) -> TaskState:
        """What the agent believes."""
        state = self.node.by_arn(arn)
        assert state is not None, f"the agent does not know {arn}"
        return state

    def is_running(self, spec: TaskSpec) -> bool:
        """Whether agent and world agree that all of it runs."""
        state = self.node.by_arn(spec.arn)
        names = {pause_name(spec), *(docker_name(spec, each.name) for each in spec.containers)}
        return (
            state is not None and task_status(state) is TaskStatus.RUNNING and names <= self.runtime.running
        )

    def _new_node(self) -> Node:
        return Node(
            backend=self.backend,
            performer=Performer(self.runtime, self.network, self.credentials, self.logins, self.pulls),
            checkpoints=self.checkpoints,
            interfaces=self.interfaces,
            clock=self.clock,
            health=self.health,
            policy=self.policy,
            capacity=self.capacity,
        )

    def _new_janitor(self) -> Janitor:
        return Janitor(self.runtime, self.network, known=self.node.known, sandboxes=self.node.sandboxes)
