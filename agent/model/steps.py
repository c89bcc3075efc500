"""Everything that can be done to a task, as data. The lifecycle decides; the supervisor performs."""

from dataclasses import dataclass
from enum import StrEnum


class StepName(StrEnum):
    """The verbs of the table. Each is idempotent: doing it twice is doing it once."""

    START_PAUSE = "start_pause"
    ATTACH_NETWORK = "attach_network"
    DETACH_NETWORK = "detach_network"
    STOP_PAUSE = "stop_pause"
    REMOVE_PAUSE = "remove_pause"
    PULL_IMAGE = "pull_image"
    CREATE_CONTAINER = "create_container"
    START_CONTAINER = "start_container"
    STOP_CONTAINER = "stop_container"
    REMOVE_CONTAINER = "remove_container"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do now. ``container`` None: it concerns the sandbox.

    ``number`` is unique within the task, so that the outcome of a step that was given up is recognised.
    """

    name: StepName
    container: str | None
    number: int
