"""Who may begin: new tasks stand in one queue until this machine has room for the first of them.

Room is CPU and memory. Tasks with a network interface of their own take no ports of the machine, and this
agent has no other tasks and no graphics processors (ecs-protocol 4.11).
"""

import json
from dataclasses import dataclass
from functools import lru_cache

from agent.model.errors import NotEnoughResources
from agent.model.ids import TaskArn
from agent.model.spec import ContainerSpec, TaskSpec
from agent.model.state import Reason, TaskState
from agent.model.status import Goal

_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Resources:
    """CPU in units (1024 = one core) and memory in MiB: what a machine has, or what a task takes of it."""

    cpu: int
    memory: int

    def __str__(self) -> str:
        return f"{self.cpu} CPU units and {self.memory} MiB"


def demand(spec: TaskSpec) -> Resources:
    """What the task takes: its own limits, or where it has none what its containers ask for together."""
    cpu = spec.cpu or sum(each.cpu for each in spec.containers)
    return Resources(cpu, spec.memory or sum(_memory(each) for each in spec.containers))


def refusal(spec: TaskSpec, capacity: Resources) -> Reason | None:
    """Why the task can never begin on a machine with that capacity. None: it can, once there is room."""
    wants = demand(spec)
    too_much: list[str] = []
    if wants.cpu > capacity.cpu:
        too_much.append(f"{wants.cpu} CPU units, and this machine has {capacity.cpu} for tasks")
    if wants.memory > capacity.memory:
        too_much.append(f"{wants.memory} MiB of memory, and this machine has {capacity.memory} for tasks")
    if not too_much:
        return None
    return Reason(NotEnoughResources.name, f"the task needs {'; it needs '.join(too_much)}")


@dataclass(frozen=True, slots=True)
class Admission:
    """Who has a share of the machine, and who waits for one.

    ``tasks`` are in the order of acceptance. A share is held from the grant until the task is STOPPED.
    """

    tasks: tuple[TaskState, ...]
    capacity: Resources

    def due(self) -> tuple[TaskArn, ...]:
        """Who is to be granted its share now: the head of the queue while it fits. Nobody overtakes it.

        Who was told and has not heard of it yet is named again: its place in the queue keeps the share.
        """
        queue = self.queue()
        if not queue:
            return ()
        room = self.free()
        granted: list[TaskArn] = []
        for task in queue:
            wants = demand(task.spec)
            if wants.cpu > room.cpu or wants.memory > room.memory:
                break
            room = Resources(room.cpu - wants.cpu, room.memory - wants.memory)
            granted.append(task.arn)
        return tuple(granted)

    def queue(self) -> tuple[TaskState, ...]:
        """The tasks that wait for room, the first first. What can never fit does not stand there."""
        return tuple(
            task
            for task in self.tasks
            if task.goal is Goal.RUN and task.granted_at is None and refusal(task.spec, self.capacity) is None
        )

    def free(self) -> Resources:
        """What nobody has. Never less than nothing, though what ran before has its share in any case."""
        held = [demand(task.spec) for task in self.tasks if _holds(task)]
        return Resources(
            max(0, self.capacity.cpu - sum(each.cpu for each in held)),
            max(0, self.capacity.memory - sum(each.memory for each in held)),
        )

    def situation(self, arn: TaskArn) -> str | None:
        """The task's place in the queue and whom it waits for. None: it does not wait for room."""
        queue = self.queue()
        places = [task.arn for task in queue]
        if arn not in places:
            return None
        room = f"the machine has {self.free()} left of {self.capacity}"
        head = queue[0]
        if head.arn != arn:
            place = f"it is number {places.index(arn) + 1} in the queue"
            return f"{place}; the first, {head.task_id}, needs {demand(head.spec)}, and {room}"
        ending = [task.task_id for task in self.tasks if _holds(task) and task.goal > Goal.RUN]
        hope = f"stopping: {', '.join(ending)}" if ending else "no other task is stopping"
        return f"it is the first in the queue, and {room}; {hope}"


def _holds(task: TaskState) -> bool:
    return task.granted_at is not None and task.stopped_at is None


def _memory(spec: ContainerSpec) -> int:
    return spec.memory_reservation or _reservation(spec.overlay.host_config) or spec.memory or 0


@lru_cache(maxsize=1024)
def _reservation(host_config: str) -> int:
    """``MemoryReservation`` of Docker's JSON, which is in bytes and found in any case, in whole MiB."""
    if not host_config:
        return 0
    try:
        document = json.loads(host_config)
    except ValueError:
        return 0  # what Docker cannot be told is refused, by its name, when the container is made
    found = 0
    for key, value in document.items() if isinstance(document, dict) else ():
        if key.casefold() == "memoryreservation" and type(value) is int:
            found = value
    return max(0, found) // _MEBIBYTE
