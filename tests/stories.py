"""Random stories: the pure core against a simulated world in which anything fails, late, or half.

A story draws a task, then at each turn one of: perform a step in flight (which may fail, and may have had its
effect all the same, perhaps long before it is heard of), let a container exit, look (what is seen may arrive
late), request a stop, lose the agent and recover, pass some time.
The invariants are checked after every turn.
"""

import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from agent.lifecycle.derive import begin, is_removed, is_steady, report, task_status
from agent.lifecycle.explain import explain
from agent.lifecycle.plan import launched, next_wake, plan
from agent.lifecycle.reduce import is_in_flight, reduce
from agent.model.events import (
    ContainerObserved,
    Event,
    InterfaceAppeared,
    Recovered,
    ReportAccepted,
    ResourcesGranted,
    StepFailed,
    StepSucceeded,
    StopRequested,
    TimePassed,
)
from agent.model.ids import ContainerId
from agent.model.observation import PAUSE_NAME, ContainerSnapshot, PulledImage
from agent.model.spec import Condition, ContainerSpec, Dependency
from agent.model.state import Attachment, Policy, Reason, TaskState
from agent.model.status import ContainerStatus, Goal, Health, SandboxStatus, TaskStatus
from agent.model.steps import Step, StepName
from tests.builders import NOON, a_spec

MOST_TURNS = 3000


@dataclass
class Thing:
    """A container of the simulated world."""

    is_running: bool = False
    was_started: bool = False
    exit_code: int | None = None
    started_at: datetime | None = None
    healthy: bool = False


@dataclass
class World:
    """What really exists, whatever the agent believes."""

    now: datetime = NOON
    things: dict[str, Thing] = field(default_factory=dict)
    network_attached: bool = False
    sandboxes_made: int = 0

    def snapshot(self, task: TaskState, name: str) -> ContainerSnapshot | None:
        docker_name = task.sandbox.docker_name if name == PAUSE_NAME else task.container(name).docker_name
        thing = self.things.get(docker_name)
        if thing is None:
            return None
        return ContainerSnapshot(
            container_id=ContainerId(docker_name),
            docker_name=docker_name,
            task_arn=task.arn,
            container_name=name,
            observed_at=self.now,
            is_running=thing.is_running,
            was_started=thing.was_started,
            pid=7 if thing.is_running else None,
            started_at=thing.started_at,
            exit_code=thing.exit_code,
            health=Health.HEALTHY if thing.healthy and thing.is_running else Health.UNKNOWN,
        )


class Story:
    """One life of one task. ``failing``: the share of steps that fail."""

    def __init__(self, seed: int, *, failing: float, crashing: float = 0.02, exits: float = 0.05) -> None:
        self.dice = random.Random(seed)
        self.failing = failing
        self.crashing = crashing
        self.exits = exits
        self.world = World()
        spec = a_spec(*_containers(self.dice))
        self.task = begin(spec, NOON, Policy(retention=timedelta(seconds=self.dice.choice([1, 60, 10800]))))
        self.saved = self.task
        self.told_stopped = False
        self.steps: list[Step] = []
        self.events: list[tuple[Event, tuple[Step, ...]]] = []
        self.disturbances = 0
        self.pause_ended = False
        self.late_looks: list[ContainerObserved] = []
        self._apply(TimePassed(self.world.now))

    def run(self) -> None:
        """To the end. Raise ``AssertionError`` at the first broken invariant."""
        for _ in range(MOST_TURNS):
            if is_removed(self.task):
                break
            self._turn()
        else:
            raise AssertionError(f"the story never ended: {self.task}\n{self._last_events()}")
        assert not self.world.things, f"left in the world: {self.world.things}"
        assert not self.world.network_attached, "the network is still attached"

    # -- turns ---------------------------------------------------------------------------------

    def _turn(self) -> None:
        self.world.now += timedelta(milliseconds=self.dice.randrange(1, 200))
        draw = self.dice.random()
        if draw < self.crashing:
            return self._crash()
        if draw < self.crashing + 0.01:
            return self._apply(StopRequested(self.world.now, "scaled in"))
        if draw < self.crashing + 0.01 + self.exits:
            return self._something_happens()
        if self.task.granted_at is None and draw < 0.5:
            return self._apply(ResourcesGranted(self.world.now))
        if self.task.sandbox.interface_seen_at is None and draw < 0.3:
            return self._apply(InterfaceAppeared(self.world.now))
        return self._work_goes_on(draw)

    def _work_goes_on(self, draw: float) -> None:
        in_flight = [
            each.in_flight.step for each in (self.task.sandbox, *self.task.containers) if each.in_flight
        ]
        if in_flight and draw < 0.2:
            return self._effect_is_seen(self.dice.choice(in_flight))
        if draw < 0.3:
            return self._look_late()
        if in_flight and draw < 0.8:
            return self._end(self.dice.choice(in_flight))
        if self.task.accepted != report(self.task) and draw < 0.9:
            return self._apply(ReportAccepted(self.world.now, report(self.task)))
        if not in_flight:
            if is_steady(self.task) and self.dice.random() < 0.3:
                return self._apply(StopRequested(self.world.now, "scaled in"))
            wake = next_wake(self.task)
            if wake is not None:
                self.world.now = max(self.world.now, wake)
        return self._apply(TimePassed(self.world.now))

    def _end(self, step: Step) -> None:
        # Docker starts nothing in the namespace of a pause container that has ended.
        is_hopeless = step.name is StepName.START_CONTAINER and not self._pause_runs()
        fails = is_hopeless or self.dice.random() < self.failing
        learned = None
        if not fails or self.dice.random() < 0.5:
            learned = self._effect(step)
        if fails:
            reason = Reason("TestError", f"{step.name} failed")
            unavailable = self.dice.random() < 0.3
            self._apply(StepFailed(self.world.now, step, reason, is_unavailable=unavailable))
        else:
            self._apply(StepSucceeded(self.world.now, step, learned))
        assert not is_in_flight(self.task, step), f"{step} has ended, but is in flight for ever"

    def _effect(self, step: Step) -> object:
        world, task = self.world, self.task
        name = step.container
        if step.name in (StepName.START_PAUSE, StepName.PULL_IMAGE):
            assert task.granted_at is not None, f"{step} before there was room"
        docker_name = task.sandbox.docker_name if name is None else task.container(name).docker_name
        thing = world.things.get(docker_name)
        members = [world.things.get(each.docker_name) for each in task.containers]
        match step.name:
            case StepName.START_PAUSE:
                if thing is None:
                    world.sandboxes_made += 1
                world.things[docker_name] = Thing(True, True, started_at=world.now)
                return world.snapshot(task, PAUSE_NAME)
            case StepName.ATTACH_NETWORK:
                world.network_attached = True
                return Attachment("169.254.172.2")
            case StepName.DETACH_NETWORK:
                assert not any(each and each.is_running for each in members), (
                    "network gone before its members"
                )
                world.network_attached = False
            case StepName.STOP_PAUSE:
                assert not any(each and each.is_running for each in members), (
                    "sandbox gone before its members"
                )
                if thing is not None:
                    thing.is_running = False
            case StepName.REMOVE_PAUSE:
                world.things.pop(docker_name, None)
            case StepName.PULL_IMAGE:
                return PulledImage("sha256:0")
            case StepName.CREATE_CONTAINER:
                world.things.setdefault(docker_name, Thing())
                return world.snapshot(task, name or "")
            case StepName.START_CONTAINER:
                if thing is None or not self._pause_runs():
                    return None
                assert world.network_attached, f"{name} started without a network"
                self._check_order(name or "")
                if not thing.was_started:
                    thing.is_running = thing.was_started = True
                    thing.started_at = world.now
                return world.snapshot(task, name or "")
            case StepName.STOP_CONTAINER:
                if thing is not None and thing.is_running:
                    self._check_reverse_order(name or "")
                    thing.is_running, thing.exit_code = False, 0
                return world.snapshot(task, name or "")
            case StepName.REMOVE_CONTAINER:
                assert thing is None or not thing.is_running, f"{name} removed while it runs"
                world.things.pop(docker_name, None)
        return None

    def _effect_is_seen(self, step: Step) -> None:
        """The step has done its work, and a look sees that before its end is heard of."""
        if step.name is not StepName.STOP_CONTAINER or self.dice.random() < 0.5:
            self._effect(step)
        name = step.container or PAUSE_NAME
        snapshot = self.world.snapshot(self.task, name)
        self._apply(ContainerObserved(self.world.now, name, self.world.now, snapshot))

    def _look_late(self) -> None:
        """Look now and tell it at some later turn, or tell what was seen at an earlier one."""
        if self.late_looks and self.dice.random() < 0.5:
            return self._apply(replace(self.late_looks.pop(0), at=self.world.now))
        for name in (PAUSE_NAME, *(each.name for each in self.task.containers)):
            snapshot = self.world.snapshot(self.task, name)
            self.late_looks.append(ContainerObserved(self.world.now, name, self.world.now, snapshot))
        return None

    def _pause_runs(self) -> bool:
        pause = self.world.things.get(self.task.sandbox.docker_name)
        return pause is not None and pause.is_running

    def _something_happens(self) -> None:
        names = [each.name for each in self.task.containers]
        name = self.dice.choice([*names, PAUSE_NAME] if self.dice.random() < 0.1 else names)
        docker_name = (
            self.task.sandbox.docker_name if name == PAUSE_NAME else self.task.container(name).docker_name
        )
        thing = self.world.things.get(docker_name)
        if thing is not None and thing.is_running:
            if self.dice.random() < 0.5 and name != PAUSE_NAME:
                thing.healthy = True
            else:
                thing.is_running, thing.exit_code = False, self.dice.choice([0, 0, 1, 137])
                if name == PAUSE_NAME:
                    self.pause_ended = True
                    self.world.network_attached = False
        snapshot = self.world.snapshot(self.task, name)
        self._apply(ContainerObserved(self.world.now, name, self.world.now, snapshot))

    def _crash(self) -> None:
        """Steps in flight end or not, unheard; the agent comes back with what was saved, and looks."""
        for entity in (self.task.sandbox, *self.task.containers):
            if entity.in_flight is not None and self.dice.random() < 0.5:
                self._effect(entity.in_flight.step)
        self.task = self.saved
        self.late_looks.clear()
        self.world.now += timedelta(seconds=self.dice.randrange(1, 30))
        names = [PAUSE_NAME, *(each.name for each in self.task.containers)]
        snapshots = tuple(found for name in names if (found := self.world.snapshot(self.task, name)))
        self._apply(Recovered(self.world.now, self.world.now, snapshots))

    # -- the loop of the supervisor, and the invariants ------------------------------------------

    def _apply(self, event: Event) -> None:
        before = self.task
        decided = reduce(self.task, event)
        steps = plan(decided)
        self.task = self.saved = launched(decided, steps)
        self.events.append((event, steps))
        self.disturbances += isinstance(event, Recovered | StepFailed)
        _check_nothing_goes_back(before, self.task)
        self._check_the_truth()
        self._check_every_wait_is_explained()

    def _last_events(self) -> str:
        return "\n".join(
            f"{event} -> {[step.name.value for step in steps]}" for event, steps in self.events[-40:]
        )

    def _check_the_truth(self) -> None:
        if "pause container ended" in str(self.task.reason) and not self.pause_ended:
            raise AssertionError("a pause container that runs was called ended")
        if task_status(self.task) is not TaskStatus.STOPPED:
            assert not self.told_stopped, "STOPPED was taken back"
            return
        self.told_stopped = True
        running = [
            each.name
            for each in self.task.containers
            if (thing := self.world.things.get(each.docker_name)) and thing.is_running
        ]
        assert not running, f"told STOPPED while {running} run"
        assert self.world.sandboxes_made <= 1 + self.disturbances

    def _check_every_wait_is_explained(self) -> None:
        if is_steady(self.task):
            return
        waits = explain(self.task, self.world.now)
        assert waits, f"nothing explains {self.task}"
        assert all(wait.cause and wait.then for wait in waits)
        # Only room may be waited for without a deadline: whether it comes is up to other tasks.
        assert {wait.waits_for for wait in waits if wait.until is None} <= {"resources_granted"}

    def _check_order(self, name: str) -> None:
        for dependency in self.task.spec.container(name).depends_on:
            awaited = self.task.container(dependency.container)
            thing = self.world.things.get(awaited.docker_name)
            is_over = awaited.status >= ContainerStatus.STOPPED
            match dependency.condition:
                case Condition.START:
                    assert is_over or (thing is not None and thing.was_started)
                case Condition.COMPLETE:
                    assert thing is not None
                    assert thing.exit_code is not None
                case Condition.SUCCESS:
                    assert thing is not None
                    assert thing.exit_code == 0
                case Condition.HEALTHY:
                    assert thing is not None
                    assert thing.healthy

    def _check_reverse_order(self, name: str) -> None:
        for container in self.task.spec.containers:
            if any(each.container == name for each in container.depends_on):
                thing = self.world.things.get(self.task.container(container.name).docker_name)
                known = self.task.container(container.name).status
                is_running = thing is not None and thing.is_running and known is ContainerStatus.RUNNING
                assert not is_running, f"{name} stopped before {container.name}, which depends on it"


def _check_nothing_goes_back(before: TaskState, after: TaskState) -> None:
    assert after.goal >= before.goal
    assert after.sandbox.status >= before.sandbox.status
    assert after.sandbox.goal >= before.sandbox.goal
    for old, new in zip(before.containers, after.containers, strict=True):
        assert new.status >= old.status, f"{old} -> {new}"
        assert new.goal >= old.goal
        assert old.reason is None or new.reason == old.reason, "a later reason hid the first"
    assert before.reason is None or after.reason == before.reason


def _containers(dice: random.Random) -> tuple[ContainerSpec, ...]:
    """One to four containers whose dependencies point backwards, so that there is no cycle."""
    made: list[ContainerSpec] = []
    for index in range(dice.randrange(1, 5)):
        depends = tuple(
            Dependency(each.name, dice.choice(list(Condition))) for each in made if dice.random() < 0.4
        )
        made.append(
            ContainerSpec(
                name=f"c{index}",
                image="example/app:1",
                essential=index == 0 or dice.random() < 0.5,
                depends_on=depends,
                start_timeout=dice.choice([None, 5, 60]),
            )
        )
    if all(not each.essential for each in made):
        made[0] = replace(made[0], essential=True)
    return tuple(made)


__all__ = ["ContainerStatus", "Goal", "SandboxStatus", "Story"]
