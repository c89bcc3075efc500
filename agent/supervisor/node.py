"""Follows the backend's wishes with one supervisor per task, and knows them all."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from agent.lifecycle.admission import Admission, Resources, demand, refusal
from agent.lifecycle.derive import begin, is_attached
from agent.lifecycle.explain import explain
from agent.lifecycle.roster import diff
from agent.model.desired import DesiredTasks, WantedTask
from agent.model.errors import CheckpointFailed
from agent.model.events import (
    Event,
    InterfaceAppeared,
    Recovered,
    ResourcesGranted,
    ResourcesRefused,
    StopRequested,
)
from agent.model.explanation import Explanation
from agent.model.ids import ContainerId, TaskArn
from agent.model.progress import Progress
from agent.model.report import TaskReport
from agent.model.state import Policy, TaskState
from agent.ports.backend import TaskStateBackend
from agent.ports.checkpoint import CheckpointStore
from agent.ports.clock import Clock
from agent.ports.health import HealthReports
from agent.ports.network import InterfaceWatcher
from agent.supervisor import recovery
from agent.supervisor.perform import Performer
from agent.supervisor.reporter import Reporter
from agent.supervisor.task import TaskSupervisor
from agent.supervisor.watcher import Watcher

log = structlog.get_logger()

REMEMBERED = 2000
"""How many finished tasks are remembered, so that a late snapshot does not start one of them again."""

CRASH_DELAY = 5.0
"""Seconds before the loop of a task that met a bug is started anew."""


class Node:
    """The tasks of this machine. Also the ``TaskDirectory`` of the endpoints.

    ``capacity``: what there is for all tasks together; who has no share of it yet waits in a queue.
    ``progress``: where its loops say that they get on; None: nobody watches them.
    """

    def __init__(
        self,
        *,
        backend: TaskStateBackend,
        performer: Performer,
        checkpoints: CheckpointStore,
        interfaces: InterfaceWatcher,
        clock: Clock,
        health: HealthReports,
        policy: Policy,
        capacity: Resources,
        progress: Progress | None = None,
    ) -> None:
        self._backend = backend
        self._performer = performer
        self._checkpoints = checkpoints
        self._interfaces = interfaces
        self._clock = clock
        self._health = health
        self._policy = policy
        self._capacity = capacity
        self._supervisors: dict[TaskArn, TaskSupervisor] = {}
        self._finished: OrderedDict[TaskArn, None] = OrderedDict()
        self._is_loaded = False
        self._has_complete_snapshot = False
        self._sighting: recovery.Sighting | None = None
        self._progress = progress or Progress()
        self._reporter = Reporter(backend, clock, health, self._progress)
        self._reporter.on_accepted(lambda event: self.deliver(event.report.task_arn, event))
        self._watcher = Watcher(
            performer.runtime, clock, health, self._progress, deliver=self.deliver, tasks=self.tasks
        )

    # -- the directory -------------------------------------------------------------------------

    def tasks(self) -> tuple[TaskState, ...]:
        """Every task that the agent knows, in the order of acceptance."""
        return tuple(each.state for each in self._supervisors.values())

    def by_arn(self, arn: TaskArn) -> TaskState | None:
        """The task of that ARN."""
        found = self._supervisors.get(arn)
        return None if found is None else found.state

    def by_address(self, local_ipv4: str) -> TaskState | None:
        """The task whose address on the link to the agent this is, while it is attached."""
        return next((task for task in self.tasks() if is_attached(task, local_ipv4)), None)

    def by_credentials_id(self, credentials_id: str) -> TaskState | None:
        """The task with a role that has this credentials id."""
        for task in self.tasks():
            roles = (task.spec.task_role, task.spec.execution_role)
            if any(role is not None and role.credentials_id == credentials_id for role in roles):
                return task
        return None

    def known(self) -> frozenset[TaskArn] | None:
        """The tasks of this machine. None: the backend has not named all of its tasks yet."""
        return frozenset(self._supervisors) if self._has_complete_snapshot else None

    def sandboxes(self) -> frozenset[ContainerId]:
        """The pause containers of all tasks, whatever has become of them."""
        found = (task.sandbox.container_id for task in self.tasks())
        return frozenset(each for each in found if each is not None)

    def deliver(self, arn: TaskArn, event: Event) -> None:
        """Give the event to the task's loop; an unknown task has none."""
        supervisor = self._supervisors.get(arn)
        if supervisor is not None:
            supervisor.deliver(event)

    def explain(self, task: TaskState, now: datetime) -> tuple[Explanation, ...]:
        """Why the task is not where it should be, with its place in the queue if it stands there."""
        return explain(task, now, self._admission().situation(task.arn))

    # -- the work ------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read the records, from which the endpoints answer. Needs no runtime. Raise ``CheckpointFailed``."""
        for task in await recovery.load(self._checkpoints):
            self._supervisors[task.arn] = self._supervisor(task, is_saved=True)
        self._is_loaded = True

    async def run(self) -> None:
        """Recover, then follow the backend for ever. Raise ``CheckpointFailed``."""
        if not self._is_loaded:
            await self.load()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reporter.run())
            self._sighting = await recovery.look(self._performer.runtime, self._clock, self._health)
            self._restore_shares()
            for task in self.tasks():
                self._start(group, task.arn, self._recovered(task.arn), *self._refused(task))
            self._admit()
            group.create_task(self._watcher.run())
            group.create_task(self._follow_interfaces())
            async for snapshot in self._backend.desired():
                self._follow(group, snapshot)

    def _follow(self, group: asyncio.TaskGroup, snapshot: DesiredTasks) -> None:
        changes = diff(snapshot, {task.arn: task.goal for task in self.tasks()})
        self._accept(group, [wanted for wanted in changes.accept if wanted.arn not in self._finished])
        for arn, reason in changes.stop:
            self.deliver(arn, StopRequested(self._clock.now(), reason))
        if snapshot.complete:
            self._has_complete_snapshot = True

    def _accept(self, group: asyncio.TaskGroup, orders: Sequence[WantedTask]) -> None:
        states = self._with_their_shares(orders)
        for wanted in orders:
            state = states[wanted.arn]
            self._supervisors[wanted.arn] = self._supervisor(state)
            log.info("task.accepted", task_id=state.task_id, family=wanted.spec.family)
            seen = self._recovered(wanted.arn)
            if wanted.stop is None:
                if state.granted_at is None:
                    log.info("task.queued", task_id=state.task_id, needs=str(demand(state.spec)))
                self._start(group, wanted.arn, seen, *self._refused(state))
                continue
            stop = StopRequested(self._clock.now(), wanted.stop)
            # What still runs of it must be stopped, not forgotten; what never was here need not be begun.
            self._start(group, wanted.arn, *((seen, stop) if seen.snapshots else (stop,)))

    def _with_their_shares(self, orders: Sequence[WantedTask]) -> dict[TaskArn, TaskState]:
        """The first states of new tasks: with their share if there is room, so that a grant costs no time."""
        assert self._sighting is not None  # noqa: S101  # run() looks before it follows anything
        now = self._clock.now()
        states: dict[TaskArn, TaskState] = {}
        for wanted in orders:
            state = begin(wanted.spec, self._clock.now(), self._policy)
            # Its record is lost, and what is left of it has its share, however full the machine is.
            states[wanted.arn] = replace(state, granted_at=now) if self._sighting.of(wanted.arn) else state
        leaving = {wanted.arn for wanted in orders if wanted.stop is not None}
        coming = [each for each in states.values() if each.arn not in leaving or each.granted_at is not None]
        for arn in self._admission(*coming).due():
            if arn in states:  # who has waited longer is told as soon as what made the room is on record
                states[arn] = replace(states[arn], granted_at=now)
        return states

    def _restore_shares(self) -> None:
        """Who has containers here has its share, whatever its record says. No loop has started yet."""
        assert self._sighting is not None  # noqa: S101  # run() looks before it starts anything
        for task in self.tasks():
            if task.granted_at is None and self._sighting.of(task.arn):
                restored = replace(task, granted_at=self._clock.now())
                self._supervisors[task.arn] = self._supervisor(restored)

    def _admit(self) -> None:
        """Grant the head of the queue its share, and the next, as long as there is room."""
        for arn in self._admission().due():
            self.deliver(arn, ResourcesGranted(self._clock.now()))

    def _admission(self, *coming: TaskState) -> Admission:
        return Admission((*self.tasks(), *coming), self._capacity)

    def _refused(self, task: TaskState) -> tuple[ResourcesRefused, ...]:
        """What its loop must hear if it can never have its share."""
        reason = refusal(task.spec, self._capacity) if task.granted_at is None else None
        return () if reason is None else (ResourcesRefused(self._clock.now(), reason),)

    def _tell(self, report: TaskReport) -> None:
        """A task that is STOPPED makes room, and so does one that leaves the queue; both are news."""
        self._reporter.offer(report)
        self._admit()

    def _start(self, group: asyncio.TaskGroup, arn: TaskArn, *first: Event) -> None:
        for event in first:
            self.deliver(arn, event)
        group.create_task(self._supervise(arn))

    async def _supervise(self, arn: TaskArn) -> None:
        supervisor = self._supervisors[arn]
        while True:
            try:
                await supervisor.run()
            except* CheckpointFailed:
                raise
            except* Exception:
                # A bug in the loop of one task must not reach the others.
                log.exception("task.crashed", task_arn=arn)
            else:
                break
            await asyncio.sleep(CRASH_DELAY)
            self._sighting = await recovery.look(self._performer.runtime, self._clock, self._health)
            waiting = supervisor.undelivered()
            supervisor = self._supervisors[arn] = self._supervisor(supervisor.state)
            for event in (self._recovered(arn), *self._refused(supervisor.state), *waiting):
                supervisor.deliver(event)
            self._admit()  # a grant may be what met the bug
        del self._supervisors[arn]
        self._finished[arn] = None
        if len(self._finished) > REMEMBERED:
            self._finished.popitem(last=False)

    def _supervisor(self, state: TaskState, *, is_saved: bool = False) -> TaskSupervisor:
        return TaskSupervisor(
            state,
            performer=self._performer,
            checkpoints=self._checkpoints,
            clock=self._clock,
            tell=self._tell,
            progress=self._progress,
            is_saved=is_saved,
        )

    def _recovered(self, arn: TaskArn) -> Recovered:
        """What was seen of the task at the last look. A task that is new has nothing to be seen."""
        assert self._sighting is not None  # noqa: S101  # run() looks before it starts anything
        state = self._supervisors[arn].state
        return Recovered(
            self._clock.now(),
            self._sighting.asked_at,
            self._sighting.of(arn),
            interface_present=self._interfaces.is_present(state.spec.network.mac_address),
        )

    async def _follow_interfaces(self) -> None:
        async for mac in self._interfaces.appearances():
            for task in self.tasks():
                if task.spec.network.mac_address == mac:
                    self.deliver(task.arn, InterfaceAppeared(self._clock.now()))
