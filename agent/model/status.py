"""The two ladders, and the goal. A status is where it is, a goal where it must go; both only rise."""

from enum import IntEnum, StrEnum


class SandboxStatus(IntEnum):
    """Where a sandbox is: pause container, its network namespace, and what is attached to it."""

    ABSENT = 0
    PAUSED = 1
    CONNECTED = 2
    DISCONNECTED = 3
    STOPPED = 4
    REMOVED = 5


class ContainerStatus(IntEnum):
    """Where an app container is."""

    PENDING = 0
    PULLED = 1
    CREATED = 2
    RUNNING = 3
    STOPPED = 4
    REMOVED = 5


class Goal(IntEnum):
    """Where something must go."""

    RUN = 0
    STOP = 1
    REMOVE = 2


class TaskStatus(StrEnum):
    """What a backend is told about a task or a container (Amazon ECS's words)."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"


class Health(StrEnum):
    """What a container's health check says. UNKNOWN: it has no check, or none has finished yet."""

    UNKNOWN = "UNKNOWN"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
