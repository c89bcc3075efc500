"""Names of containers, computed from the task: choosing again, even after a lost record, gives the same."""

import hashlib
import re

from agent.model.observation import PAUSE_NAME
from agent.model.spec import TaskSpec

HEX_DIGITS = 20
"""How long the unique end of a Docker name is (ecs-protocol 5.1)."""


def docker_name(task: TaskSpec, container: str) -> str:
    """``ecs-<family>-<revision>-<container, letters, digits and dashes only>-<20 hex digits>``."""
    stripped = re.sub(r"[^A-Za-z0-9-]", "", container)
    unique = hashlib.sha256(f"{task.arn}\n{container}".encode()).hexdigest()[:HEX_DIGITS]
    return f"ecs-{task.family}-{task.revision}-{stripped}-{unique}"


def pause_name(task: TaskSpec) -> str:
    """The Docker name of the task's pause container."""
    return docker_name(task, PAUSE_NAME)
