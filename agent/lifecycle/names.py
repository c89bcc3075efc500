"""Names of containers, computed from the task: choosing again, even after a lost record, gives the same."""

import hashlib
import re

from agent.model.ids import TaskArn
from agent.model.observation import PAUSE_NAME, ContainerSnapshot
from agent.model.spec import TaskSpec

HEX_DIGITS = 20
"""How long the unique end of a Docker name is (ecs-protocol 5.1)."""

_PREFIX = "ecs-"


def docker_name(task: TaskSpec, container: str) -> str:
    """``ecs-<family>-<revision>-<container, letters, digits and dashes only>-<20 hex digits>``."""
    stripped = re.sub(r"[^A-Za-z0-9-]", "", container)
    return f"{_PREFIX}{task.family}-{task.revision}-{stripped}-{_unique(task.arn, container)}"


def pause_name(task: TaskSpec) -> str:
    """The Docker name of the task's pause container."""
    return docker_name(task, PAUSE_NAME)


def is_own(snapshot: ContainerSnapshot) -> bool:
    """Whether the container has the very name that its labels lead to.

    Labels alone prove nothing: an image committed from a task's container hands them on to all that is run
    from it.
    """
    unique = _unique(snapshot.task_arn, snapshot.container_name)
    return snapshot.docker_name.startswith(_PREFIX) and snapshot.docker_name.endswith(f"-{unique}")


def _unique(arn: TaskArn, container: str) -> str:
    return hashlib.sha256(f"{arn}\n{container}".encode()).hexdigest()[:HEX_DIGITS]
