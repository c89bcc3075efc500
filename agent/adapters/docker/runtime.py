"""The ``ContainerRuntime`` port on Docker Engine: every verb of it, and the order of calls within each."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from docker import APIClient

from agent.adapters.docker.calls import (
    Answer,
    DaemonVersions,
    NoImage,
    create,
    create_volume,
    inspect,
    inspect_all,
    inspect_image,
    remove,
    remove_volume,
    start,
    versions,
)
from agent.adapters.docker.cgroups import TaskGroups, groups_here
from agent.adapters.docker.changes import Changes
from agent.adapters.docker.connection import Connection, Lane
from agent.adapters.docker.images import environment_names, pulled_image
from agent.adapters.docker.leftovers import Leftovers
from agent.adapters.docker.logs import read_logs
from agent.adapters.docker.marks import marked
from agent.adapters.docker.pause import ImageLoader
from agent.adapters.docker.pulls import Puller
from agent.adapters.docker.settings import DockerSettings
from agent.adapters.docker.snapshot import snapshot_of
from agent.adapters.docker.stopping import Stopper
from agent.adapters.docker.threads import QueueFull, Turn, Turns
from agent.adapters.docker.translate import (
    container_document,
    own_filter,
    own_volumes,
    pause_document,
    unknown_volumes,
    volume_labels,
    volume_name,
)
from agent.model.credentials import RegistryLogin
from agent.model.errors import (
    CannotCreateContainer,
    CannotMakeVolume,
    CannotPullImage,
    CannotRemoveContainer,
    CannotStartContainer,
    ContainerVanished,
    RuntimeUnavailable,
)
from agent.model.ids import ContainerId, TaskId, task_id
from agent.model.observation import PAUSE_NAME, ContainerSnapshot, PulledImage
from agent.model.progress import Progress
from agent.model.spec import ContainerSpec, TaskSpec
from agent.model.timeouts import go_duration
from agent.ports.clock import Clock
from agent.ports.runtime import ContainerPlan, LogQuery, PausePlan


class DockerRuntime:
    """Implements ``ContainerRuntime`` and ``ContainerLogs``. Nothing works before ``start`` has returned.

    ``versions``: what the daemon says of itself; None before ``start``.
    """

    def __init__(self, settings: DockerSettings, clock: Clock, progress: Progress | None = None) -> None:
        self._settings = settings
        self._limits = settings.limits
        self._clock = clock
        self._connection = Connection(settings)
        self._turns = Turns()
        self._puller = Puller(self._connection, settings)
        self._pause = ImageLoader(self._connection, settings.pause, settings.limits)
        self._stopper = Stopper(self._connection, settings, clock, self._groups_of)
        self._leftovers = Leftovers(self._connection, settings)
        watched, busy = progress or Progress(), self._turns.is_busy
        self._changes = Changes(
            self._connection, settings, watched, observe=self.observe, inspect=self._look, is_busy=busy
        )
        self._groups: TaskGroups | None = None
        self.versions: DaemonVersions | None = None
        self._image_environments: dict[str, frozenset[str]] = {}
        self._seen: dict[str, ContainerSnapshot] = {}
        # Created here and not started since: starting one of these needs no look at what became of it.
        self._fresh: set[str] = set()

    async def start(self) -> None:
        """Agree with the daemon on a version, learn how it makes control groups, load the pause image.

        Raise ``RuntimeUnavailable`` while it does not answer, ``CannotCreateContainer`` if the pause image
        cannot be had. May be called again after either.
        """
        await self._connection.open()
        info = await self._connection.call(
            Lane.LOOK, lambda client: client.info(), limit=self._limits.inspect, transition="inspecting"
        )
        self._groups = groups_here(self._settings, info)
        self.versions = await self._connection.call(
            Lane.LOOK, versions, limit=self._limits.inspect, transition="inspecting"
        )
        await self._pause.ensure_loaded()

    async def check(self) -> None:
        """Raise ``RuntimeUnavailable`` unless the daemon answers within seconds."""
        if not await self._connection.ping():
            raise RuntimeUnavailable(f"Docker at {self._settings.host} does not answer a ping")

    async def aclose(self) -> None:
        """Give up idle connections and threads. Containers, and calls under way, go on."""
        self._connection.close()

    # -- images --------------------------------------------------------------------------------

    async def find_image(self, image: str) -> PulledImage | None:
        """The image, if it is present on this machine."""
        inspected = await self._connection.call(
            Lane.LOOK,
            lambda client: inspect_image(client, image),
            limit=self._limits.inspect,
            transition="inspecting",
        )
        if inspected is None:
            return None
        self._image_environments[image] = environment_names(inspected)
        return pulled_image(image, inspected)

    async def pull_image(self, image: str, login: RegistryLogin | None) -> PulledImage:
        """Fetch the image. Raise ``CannotPullImage``, or ``StepTimedOut`` with what took too long."""
        await self._puller.pull(image, login)
        found = await self.find_image(image)
        if found is None:
            raise CannotPullImage(f"{image}: the pull ended without an error, but the image is not there")
        return found

    # -- containers ----------------------------------------------------------------------------

    async def ensure_pause_started(self, plan: PausePlan) -> ContainerSnapshot:
        """Make control group and pause container, start it."""
        groups = self._ready_groups()
        name = plan.docker_name
        parent = groups.parent_for(plan.task.task_id)
        self._leftovers.protect(plan.task.task_id)

        def make(client: APIClient) -> Answer | None:
            groups.ensure(plan.task)
            document = pause_document(plan, self._settings, parent, self._pause.image_id)
            return create(client, name, document, self._clock)

        async with self._turn(name, self._limits.create) as turn:
            try:
                await self._create(name, plan.task, PAUSE_NAME, make, turn)
            except NoImage:
                # Somebody has pruned it since the agent started.
                await self._pause.ensure_loaded()
                await self._create(name, plan.task, PAUSE_NAME, make, turn)
            return await self._started(name, turn)

    async def ensure_created(self, plan: ContainerPlan) -> ContainerSnapshot:
        """Make the container and the volumes of the task that it mounts."""
        groups = self._ready_groups()
        name, spec, task = plan.docker_name, plan.container, plan.task
        unknown = unknown_volumes(task, spec)
        if unknown:
            raise CannotCreateContainer(
                f"container {spec.name} mounts volume {unknown[0][0]!r}, which the task lacks"
            )
        self._leftovers.protect(task.task_id)
        async with self._turn(name, self._limits.create) as turn:
            await self._make_volumes(task, spec, turn)
            document = container_document(
                plan, self._settings, groups.parent_for(task.task_id), await self._environment_of(spec.image)
            )

            def make(client: APIClient) -> Answer | None:
                return create(client, name, document, self._clock)

            try:
                found = await self._create(name, task, spec.name, make, turn)
            except NoImage as error:
                raise CannotCreateContainer(str(error)) from error
            return found or await self._inspected(name)

    async def ensure_started(self, docker_name: str) -> ContainerSnapshot:
        """Start it, unless it was started before; what ran and ended is not run again."""
        async with self._turn(docker_name, self._limits.start) as turn:
            return await self._started(docker_name, turn)

    async def ensure_stopped(self, docker_name: str, grace: timedelta) -> ContainerSnapshot | None:
        """Ask it to end, kill it after the grace, at the latest ourselves; return when it is seen gone."""
        patience = grace + self._limits.stop_margin
        seen = self._seen.get(docker_name)
        try:
            async with self._turn(docker_name, patience) as turn:
                stopped = await self._stopper.stop(docker_name, grace, seen, turn)
        except _EarlierCallHangs as error:
            # The earlier call may be a start that still comes into effect, so its end cannot be claimed.
            await self._stopper.kill(seen, error)
            raise
        if stopped is None:
            self._forget(docker_name)
            return None
        return self._noted(stopped)

    async def ensure_removed(self, docker_name: str) -> None:
        """Remove the container and its unnamed volumes; fine if it does not exist."""
        async with self._turn(docker_name, self._limits.remove) as turn:
            await self._connection.call(
                Lane.CHANGE,
                lambda client: remove(client, docker_name),
                limit=self._limits.remove,
                transition="removing",
                refusal=CannotRemoveContainer,
                turn=turn,
            )
            self._forget(docker_name)

    async def ensure_sandbox_removed(self, task: TaskSpec, pause_name: str) -> None:
        """Remove pause container, the task's own volumes, its control group."""
        groups = self._ready_groups()
        volumes = [volume_name(task, each.name) for each in task.volumes if each.host_path is None]

        def clear(client: APIClient) -> None:
            remove(client, pause_name)
            for volume in volumes:
                remove_volume(client, volume)
            groups.remove(task.task_id)

        async with self._turn(pause_name, self._limits.remove) as turn:
            await self._connection.call(
                Lane.CHANGE,
                clear,
                limit=self._limits.remove,
                transition="removing",
                refusal=CannotRemoveContainer,
                turn=turn,
            )
            self._forget(pause_name)
            self._leftovers.release(task.task_id)

    # -- looking -------------------------------------------------------------------------------

    async def observe(self) -> tuple[ContainerSnapshot, ...]:
        """Every container that carries this agent's labels."""
        asked_at = self._clock.now()
        answers = await self._connection.call(
            Lane.LIST,
            lambda client: inspect_all(client, own_filter(self._settings), self._clock),
            limit=self._limits.list,
            transition="listing",
        )
        snapshots = tuple(snapshot_of(*answer) for answer in answers)
        newer = {name: each for name, each in self._seen.items() if each.observed_at > asked_at}
        self._seen = {**{each.docker_name: each for each in snapshots}, **newer}
        return snapshots

    def changes(self) -> AsyncIterator[ContainerSnapshot]:
        """Hints that something changed; the full list first, and after every reconnect."""
        return self._changes.watch()

    async def leftovers(self, known: frozenset[TaskId]) -> tuple[str, ...]:
        """Names of volumes and control groups with this agent's marks that belong to no known task."""
        return await self._leftovers.find(known, self._ready_groups())

    async def remove_leftovers(self, known: frozenset[TaskId]) -> tuple[str, ...]:
        """Remove them; what is still in use stays and is not among the names."""
        return await self._leftovers.remove(known, self._ready_groups())

    def read(self, container_id: ContainerId, wanted: LogQuery) -> AsyncIterator[bytes]:
        """What the container has printed (``ContainerLogs``)."""
        host, limit = self._settings.host, self._limits.inspect
        return read_logs(self._connection, host, container_id, wanted, open_limit=limit)

    # -- inside --------------------------------------------------------------------------------

    async def _create(
        self,
        name: str,
        task: TaskSpec,
        container: str,
        make: Callable[[APIClient], Answer | None],
        turn: Turn,
    ) -> ContainerSnapshot | None:
        """None: it was made now. Otherwise what was there, which must be the same container of the task."""
        answer = await self._connection.call(
            Lane.CHANGE,
            make,
            limit=self._limits.create,
            transition="created",
            refusal=CannotCreateContainer,
            turn=turn,
        )
        if answer is None:
            self._fresh.add(name)
            return None
        found = snapshot_of(*answer)
        if (found.task_arn, found.container_name) != (task.arn, container):
            raise CannotCreateContainer(
                f"the name {name} is taken by container {found.container_name or found.container_id} of "
                f"{found.task_arn or 'no task'}; expected container {container} of {task.arn}"
            )
        return self._noted(found)

    async def _started(self, name: str, turn: Turn) -> ContainerSnapshot:
        is_fresh = name in self._fresh
        self._fresh.discard(name)
        answer = await self._connection.call(
            Lane.START,
            lambda client: start(client, name, self._clock, is_fresh=is_fresh),
            limit=self._limits.start,
            transition="started",
            refusal=CannotStartContainer,
            turn=turn,
        )
        return await marked(self._noted(snapshot_of(*answer)), lambda: self._look(name))

    async def _make_volumes(self, task: TaskSpec, spec: ContainerSpec, turn: Turn) -> None:
        marks = volume_labels(task.arn, self._settings)
        names = [volume_name(task, volume) for volume in own_volumes(task, spec)]
        if not names:
            return

        def make(client: APIClient) -> None:
            for name in names:
                create_volume(client, name, marks)

        await self._connection.call(
            Lane.CHANGE,
            make,
            limit=self._limits.volume,
            transition="creating volume",
            refusal=CannotMakeVolume,
            turn=turn,
        )

    async def _environment_of(self, image: str) -> frozenset[str]:
        """The names of the variables that the image sets; remembered from when it was last looked at."""
        if self._settings.region and image not in self._image_environments:
            await self.find_image(image)
        return self._image_environments.get(image, frozenset())

    async def _look(self, name: str) -> ContainerSnapshot | None:
        answer = await self._connection.call(
            Lane.LOOK,
            lambda client: inspect(client, name, self._clock),
            limit=self._limits.inspect,
            transition="inspecting",
        )
        return None if answer is None else self._noted(snapshot_of(*answer))

    async def _inspected(self, name: str) -> ContainerSnapshot:
        found = await self._look(name)
        if found is None:
            raise ContainerVanished("No container matching saved ID found")
        return found

    def _noted(self, snapshot: ContainerSnapshot) -> ContainerSnapshot:
        self._seen[snapshot.docker_name] = snapshot
        return snapshot

    def _forget(self, name: str) -> None:
        self._seen.pop(name, None)
        self._fresh.discard(name)
        self._stopper.forget(name)

    def _groups_of(self, snapshot: ContainerSnapshot) -> tuple[Path, ...]:
        if self._groups is None or not snapshot.task_arn:
            return ()
        return self._groups.paths_of(task_id(snapshot.task_arn), snapshot.container_id)

    def _ready_groups(self) -> TaskGroups:
        if self._groups is None:
            raise RuntimeUnavailable(f"Docker at {self._settings.host} has not answered yet")
        return self._groups

    @asynccontextmanager
    async def _turn(self, name: str, limit: timedelta) -> AsyncIterator[Turn]:
        try:
            async with self._turns.take(name, limit.total_seconds()) as turn:
                yield turn
        except QueueFull as error:
            raise _EarlierCallHangs(
                f"Docker at {self._settings.host} has not ended an earlier call for {name} "
                f"within {go_duration(limit)}"
            ) from error


class _EarlierCallHangs(RuntimeUnavailable):
    """An earlier call for the same container has not come to its end."""
