"""The machine below the fake runtime: what is there, whoever looks at it. It outlives a restart of the agent."""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime

from agent.model.errors import CannotCreateContainer
from agent.model.ids import ContainerId, TaskId
from agent.model.observation import ContainerSnapshot, PulledImage
from agent.model.spec import TaskSpec


@dataclass(frozen=True, slots=True)
class FakeImage:
    """An image and how its process behaves.

    ``exits_with``: it ends at once with this code; None: it runs until it is told to end. ``stops_with``: its
    exit code when it is told to. ``is_stubborn``: it does not react and is killed, which gives 137.
    """

    name: str
    exits_with: int | None = None
    stops_with: int = 0
    is_stubborn: bool = False

    @property
    def pulled(self) -> PulledImage:
        """What the runtime knows of it when it is present."""
        digest = hashlib.sha256(self.name.encode()).hexdigest()
        return PulledImage(image_id=f"sha256:{digest}", digest=f"sha256:{digest[::-1]}")


@dataclass(slots=True)
class World:
    """Containers and what they were made of by Docker name, volumes and control groups by task."""

    containers: dict[str, ContainerSnapshot] = field(default_factory=dict)
    images: dict[str, FakeImage] = field(default_factory=dict)
    image_of: dict[str, FakeImage] = field(default_factory=dict)
    pause_of: dict[str, ContainerId] = field(default_factory=dict)
    volumes: dict[str, TaskId] = field(default_factory=dict)
    cgroups: set[TaskId] = field(default_factory=set)
    output: dict[ContainerId, list[bytes]] = field(default_factory=dict)
    next_pid: int = 1000

    def create(
        self, name: str, task: TaskSpec, container: str, image: FakeImage, now: datetime
    ) -> ContainerSnapshot:
        """Make the container or find it made. Raise ``CannotCreateContainer`` if another has the name."""
        found = self.containers.get(name)
        if found is not None:
            if (found.task_arn, found.container_name) != (task.arn, container):
                raise CannotCreateContainer(
                    f"the name {name} is taken by container {found.container_name} of task {found.task_arn}, "
                    f"wanted for {container} of {task.arn}"
                )
            return replace(found, observed_at=now)
        made = ContainerSnapshot(
            container_id=ContainerId(hashlib.sha256(name.encode()).hexdigest()),
            docker_name=name,
            task_arn=task.arn,
            container_name=container,
            observed_at=now,
            is_running=False,
            was_started=False,
            created_at=now,
            image_id=image.pulled.image_id,
        )
        self.image_of[name] = image
        self.containers[name] = made
        return made

    def leftovers(self, known: frozenset[TaskId]) -> tuple[str, ...]:
        """Names of volumes and control groups of tasks that are not known, sorted."""
        volumes = [name for name, owner in self.volumes.items() if owner not in known]
        return tuple(sorted([*volumes, *(f"/ecs/{one}" for one in self.cgroups - known)]))

    def forget(self, tasks: frozenset[TaskId]) -> None:
        """Remove volumes and control groups of these tasks."""
        self.cgroups -= tasks
        for name in [name for name, owner in self.volumes.items() if owner in tasks]:
            del self.volumes[name]
