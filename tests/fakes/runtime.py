"""A container runtime in memory: containers that run, exit, vanish, fail and hang exactly when a test says so."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from agent.model.credentials import RegistryLogin
from agent.model.errors import (
    CannotCreateContainer,
    CannotPullImage,
    CannotRemoveContainer,
    CannotStartContainer,
    CannotStopContainer,
    RuntimeUnavailable,
)
from agent.model.ids import ContainerId, TaskId
from agent.model.observation import PAUSE_NAME, ContainerSnapshot, PulledImage
from agent.model.spec import TaskSpec
from agent.model.status import Health
from agent.ports.clock import Clock
from agent.ports.runtime import ContainerPlan, LogQuery, PausePlan
from tests.fakes.runtime_world import FakeImage, World

__all__ = ["FakeImage", "FakeRuntime", "Verb"]

Verb = Literal[
    "check",
    "find_image",
    "pull_image",
    "ensure_pause_started",
    "ensure_created",
    "ensure_started",
    "ensure_stopped",
    "ensure_removed",
    "ensure_sandbox_removed",
    "observe",
    "leftovers",
    "remove_leftovers",
]


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception
    had_effect: bool


class FakeRuntime:
    """Implements ``ContainerRuntime`` and ``ContainerLogs``, on the time of a clock.

    An image that nobody described with ``add_image`` runs until it is told to stop and then exits with 0;
    it can be pulled unless its name is in ``missing_images``.

    ``containers``: the world, by Docker name. ``calls``: every (verb, subject), in order, also those that
    failed; the subject is a Docker name, an image, or empty. ``is_unavailable``: every verb raises
    ``RuntimeUnavailable``. ``restarted`` gives a second runtime on the same world, as a new agent finds it.
    """

    def __init__(self, clock: Clock, *images: FakeImage) -> None:
        self._clock = clock
        self._world = World()
        self.calls: list[tuple[Verb, str]] = []
        self.missing_images: set[str] = set()
        self.is_unavailable = False
        self._failures: dict[Verb, list[_Failure]] = {}
        self._gates: dict[Verb, tuple[asyncio.Event, bool]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._listeners: set[asyncio.Queue[ContainerSnapshot | None]] = set()
        self._held: list[ContainerSnapshot] | None = None
        for image in images:
            self.add_image(image)

    async def check(self) -> None:
        """Raise ``RuntimeUnavailable`` as every verb does."""
        async with self._call("check", ""):
            return

    # -- the port: images ----------------------------------------------------------------------

    async def find_image(self, image: str) -> PulledImage | None:
        """The image, if it is present."""
        async with self._call("find_image", image):
            found = self._world.images.get(image)
            return found.pulled if found is not None else None

    async def pull_image(self, image: str, login: RegistryLogin | None) -> PulledImage:
        """Make it present. Raise ``CannotPullImage`` for the names in ``missing_images``."""
        async with self._call("pull_image", image):
            if image in self.missing_images:
                raise CannotPullImage(f"cannot pull {image}: manifest unknown (login: {login is not None})")
            return self._world.images.setdefault(image, FakeImage(image)).pulled

    # -- the port: containers ------------------------------------------------------------------

    async def ensure_pause_started(self, plan: PausePlan) -> ContainerSnapshot:
        """Make control group and pause container, and start it."""
        async with self._call("ensure_pause_started", plan.docker_name):
            self._world.cgroups.add(plan.task.task_id)
            name, task = plan.docker_name, plan.task
            self._world.create(name, task, PAUSE_NAME, FakeImage("pause"), self._clock.now())
            return self._start(name)

    async def ensure_created(self, plan: ContainerPlan) -> ContainerSnapshot:
        """Make the container and the volumes that it mounts."""
        async with self._call("ensure_created", plan.docker_name):
            image = self._world.images.get(plan.container.image)
            if image is None:
                raise CannotCreateContainer(f"No such image: {plan.container.image}")
            empty = {volume.name for volume in plan.task.volumes if volume.host_path is None}
            for mount in plan.container.mount_points:
                if mount.volume in empty:
                    self._world.volumes[f"{plan.task.task_id}-{mount.volume}"] = plan.task.task_id
            snapshot = self._world.create(
                plan.docker_name, plan.task, plan.container.name, image, self._clock.now()
            )
            self._world.pause_of.setdefault(plan.docker_name, plan.pause_id)
            return snapshot

    async def ensure_started(self, docker_name: str) -> ContainerSnapshot:
        """Start it, unless it was started before. Raise ``CannotStartContainer`` without a running pause."""
        async with self._call("ensure_started", docker_name):
            if docker_name not in self._world.containers:
                raise CannotStartContainer(f"No such container: {docker_name}")
            pause = self._world.pause_of.get(docker_name)
            running = {each.container_id for each in self._world.containers.values() if each.is_running}
            was_started = self._world.containers[docker_name].was_started
            if not was_started and pause is not None and pause not in running:
                raise CannotStartContainer("cannot join network of a non running container")
            return self._start(docker_name)

    async def ensure_stopped(self, docker_name: str, grace: timedelta) -> ContainerSnapshot | None:
        """End it. None: there is no such container."""
        if grace < timedelta(0):
            raise CannotStopContainer(f"grace is {grace}; expected no negative duration")
        async with self._call("ensure_stopped", docker_name):
            found = self._world.containers.get(docker_name)
            if found is None:
                return None
            if found.is_running:
                image = self._world.image_of[docker_name]
                self.exit(docker_name, 137 if image.is_stubborn else image.stops_with)
            return self._seen(docker_name)

    async def ensure_removed(self, docker_name: str) -> None:
        """Remove it. Raise ``CannotRemoveContainer`` while it runs."""
        async with self._call("ensure_removed", docker_name):
            found = self._world.containers.get(docker_name)
            if found is not None and found.is_running:
                raise CannotRemoveContainer(f"container {docker_name} is running; stop it first")
            self.vanish(docker_name)

    async def ensure_sandbox_removed(self, task: TaskSpec, pause_name: str) -> None:
        """Remove pause container, volumes and control group. Raise ``CannotRemoveContainer`` while in use."""
        async with self._call("ensure_sandbox_removed", pause_name):
            users = [
                name
                for name, each in self._world.containers.items()
                if each.task_arn == task.arn and each.is_running and name in self._world.image_of
            ]
            if users:
                raise CannotRemoveContainer(f"the sandbox of task {task.task_id} is in use by {users}")
            self.vanish(pause_name)
            self._world.forget(frozenset({task.task_id}))

    async def observe(self) -> tuple[ContainerSnapshot, ...]:
        """Every container of the world."""
        async with self._call("observe", ""):
            return self._all()

    async def changes(self) -> AsyncIterator[ContainerSnapshot]:
        """The full list, then every change; the full list again after ``drop_changes``."""
        queue: asyncio.Queue[ContainerSnapshot | None] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            for snapshot in self._all():
                yield snapshot
            while True:
                change = await queue.get()
                for snapshot in (change,) if change is not None else self._all():
                    yield snapshot
        finally:
            self._listeners.discard(queue)

    async def leftovers(self, known: frozenset[TaskId]) -> tuple[str, ...]:
        """Volumes and control groups of tasks that are not known."""
        async with self._call("leftovers", ""):
            return self._world.leftovers(known)

    async def remove_leftovers(self, known: frozenset[TaskId]) -> tuple[str, ...]:
        """Remove them."""
        async with self._call("remove_leftovers", ""):
            names = self._world.leftovers(known)
            owners = {*self._world.volumes.values(), *self._world.cgroups}
            self._world.forget(frozenset(owners - known))
            return names

    async def read(self, container_id: ContainerId, wanted: LogQuery) -> AsyncIterator[bytes]:
        """What was given to ``write``; with ``follow`` until the container has ended."""
        if wanted.since is not None or wanted.timestamps:
            raise ValueError("the fake runtime does not know when a container printed something")
        if self.is_unavailable:
            raise RuntimeUnavailable("the fake runtime does not answer")
        lines = self._world.output.setdefault(container_id, [])
        position = 0 if wanted.tail is None else max(0, len(lines) - wanted.tail)
        while True:
            while position < len(lines):
                position += 1
                yield lines[position - 1]
            runs = any(c.container_id == container_id and c.is_running for c in self._all())
            if not (wanted.follow and runs):
                return
            await asyncio.sleep(0.005)

    # -- the test's side: what goes wrong ------------------------------------------------------

    def fail_next(self, verb: Verb, error: Exception, *, times: int = 1, had_effect: bool = False) -> None:
        """Let the next calls of the verb raise the error. ``had_effect``: after doing what they should."""
        self._failures.setdefault(verb, []).extend([_Failure(error, had_effect)] * times)

    def hang(self, verb: Verb, *, had_effect: bool = False) -> None:
        """Let calls of the verb wait until ``release``. ``had_effect``: they do their work first."""
        self._gates[verb] = (asyncio.Event(), had_effect)

    def release(self, verb: Verb) -> None:
        """Let the calls go on, those that wait and those to come; fine if none hangs."""
        gate = self._gates.pop(verb, None)
        if gate is not None:
            gate[0].set()

    def hold_changes(self) -> None:
        """Keep changes back until ``release_changes`` (they come late) or ``drop_changes`` (they are lost)."""
        self._held = [] if self._held is None else self._held

    def release_changes(self) -> None:
        """Deliver what was held back, in order, as it was when it happened."""
        held, self._held = self._held or [], None
        for snapshot in held:
            self._announce(snapshot)

    def drop_changes(self) -> None:
        """Lose what was held back, as when the daemon restarts: the full list follows."""
        self._held = None
        for queue in self._listeners:
            queue.put_nowait(None)

    def restarted(self) -> "FakeRuntime":
        """A runtime of a new agent on the same world: nothing of the old one's calls or faults is left."""
        successor = FakeRuntime(self._clock)
        successor._world = self._world
        successor.missing_images = self.missing_images
        return successor

    # -- the test's side: what happens in the world --------------------------------------------

    @property
    def containers(self) -> dict[str, ContainerSnapshot]:
        """The world as it is now, by Docker name."""
        return dict(self._world.containers)

    @property
    def running(self) -> frozenset[str]:
        """The Docker names of all that runs."""
        return frozenset(name for name, each in self._world.containers.items() if each.is_running)

    @property
    def is_clean(self) -> bool:
        """Whether no container, volume and control group is left."""
        return not (self._world.containers or self._world.volumes or self._world.cgroups)

    def add_image(self, image: FakeImage, *, is_present: bool = True) -> None:
        """Describe how an image behaves. ``is_present`` False: it must be pulled first."""
        if is_present:
            self._world.images[image.name] = image
        else:
            self._world.images.pop(image.name, None)

    def exit(self, docker_name: str, code: int, *, was_oom_killed: bool = False, error: str = "") -> None:
        """The container's process ends."""
        before = self._world.containers[docker_name]
        if not before.is_running:
            raise ValueError(f"container {docker_name} does not run, so it cannot exit")
        after = replace(
            before,
            is_running=False,
            pid=None,
            finished_at=self._clock.now(),
            exit_code=code,
            was_oom_killed=was_oom_killed,
            error=error,
        )
        self._put(after)

    def set_health(self, docker_name: str, health: Health, output: str = "") -> None:
        """The container's health check says something new."""
        found = self._world.containers[docker_name]
        self._put(replace(found, health=health, health_since=self._clock.now(), health_output=output))

    def copy(self, docker_name: str, name: str) -> None:
        """Somebody runs an image that was committed from the container: it has the labels, not the name."""
        self._put(
            replace(self._world.containers[docker_name], docker_name=name, container_id=ContainerId(name))
        )

    def vanish(self, docker_name: str) -> None:
        """Somebody removes the container; nobody is told. Fine if there is none."""
        found = self._world.containers.pop(docker_name, None)
        self._world.image_of.pop(docker_name, None)
        self._world.pause_of.pop(docker_name, None)
        if found is not None:
            self._world.output.pop(found.container_id, None)

    def write(self, docker_name: str, output: bytes) -> None:
        """The container prints something."""
        identity = self._world.containers[docker_name].container_id
        self._world.output.setdefault(identity, []).append(output)

    def count(self, verb: Verb, subject: str | None = None) -> int:
        """How often the verb was called, of one subject or of all."""
        return sum(1 for name, of in self.calls if name == verb and subject in {None, of})

    # -- inside --------------------------------------------------------------------------------

    def _call(self, verb: Verb, subject: str) -> "_Call":
        return _Call(self, verb, subject)

    def _start(self, name: str) -> ContainerSnapshot:
        found = self._world.containers[name]
        if not found.was_started:
            self._world.next_pid += 1
            pid, now = self._world.next_pid, self._clock.now()
            self._put(replace(found, is_running=True, was_started=True, pid=pid, started_at=now))
            code = self._world.image_of[name].exits_with
            if code is not None:
                self.exit(name, code)
        return self._seen(name)

    def _seen(self, name: str) -> ContainerSnapshot:
        return replace(self._world.containers[name], observed_at=self._clock.now())

    def _all(self) -> tuple[ContainerSnapshot, ...]:
        return tuple(self._seen(name) for name in self._world.containers)

    def _put(self, snapshot: ContainerSnapshot) -> None:
        self._world.containers[snapshot.docker_name] = snapshot
        self._announce(self._seen(snapshot.docker_name))

    def _announce(self, snapshot: ContainerSnapshot) -> None:
        if self._held is not None:
            self._held.append(snapshot)
            return
        for queue in self._listeners:
            queue.put_nowait(snapshot)


class _Call:
    """One call of a verb: counted, in its turn, and with the faults that were ordered for it."""

    def __init__(self, runtime: FakeRuntime, verb: Verb, subject: str) -> None:
        self._runtime = runtime
        self._verb: Verb = verb
        self._turn = runtime._turns.setdefault(subject, asyncio.Lock()) if subject else asyncio.Lock()
        self._failure: _Failure | None = None
        runtime.calls.append((verb, subject))

    async def __aenter__(self) -> None:
        await self._turn.acquire()
        try:
            await asyncio.sleep(0)  # a real call always lets others run
            gate, had_effect = self._runtime._gates.get(self._verb, (None, False))
            if gate is not None and not had_effect:
                await gate.wait()
            if self._runtime.is_unavailable:
                raise RuntimeUnavailable("the fake runtime does not answer")
            failures = self._runtime._failures.get(self._verb)
            self._failure = failures.pop(0) if failures else None
            if self._failure is not None and not self._failure.had_effect:
                raise self._failure.error
        except BaseException:
            self._turn.release()
            raise

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            gate, had_effect = self._runtime._gates.get(self._verb, (None, False))
            if error is None and gate is not None and had_effect:
                await gate.wait()
            if error is None and self._failure is not None:
                raise self._failure.error
        finally:
            self._turn.release()
