"""What the agent knows after a restart: its own records, compared with what the runtime really has."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

import structlog

from agent.model.errors import RuntimeUnavailable
from agent.model.ids import TaskArn
from agent.model.observation import ContainerSnapshot
from agent.model.state import TaskState
from agent.ports.checkpoint import CheckpointStore
from agent.ports.clock import Clock
from agent.ports.health import HealthReports
from agent.ports.runtime import ContainerRuntime

log = structlog.get_logger()

FIRST_DELAY = 0.25
LONGEST_DELAY = 5.0
"""Seconds between looks at a runtime that does not answer."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the runtime has, by task, and when it was asked."""

    asked_at: datetime
    by_task: dict[TaskArn, tuple[ContainerSnapshot, ...]]

    def of(self, arn: TaskArn) -> tuple[ContainerSnapshot, ...]:
        """The containers of one task, running or not."""
        return self.by_task.get(arn, ())


async def load(checkpoints: CheckpointStore) -> tuple[TaskState, ...]:
    """Every task on record, in the order of acceptance.

    Unreadable records are set aside; their tasks are rebuilt from labels.
    """
    loaded = await checkpoints.load_all()
    for name in loaded.set_aside:
        log.warning("checkpoint.set_aside", record=name)
    log.info("checkpoint.loaded", tasks=len(loaded.tasks), set_aside=len(loaded.set_aside))
    return tuple(sorted(loaded.tasks, key=lambda task: task.accepted_at))


async def look(runtime: ContainerRuntime, clock: Clock, health: HealthReports) -> Sighting:
    """Ask the runtime until it answers. Nothing is believed of the records before."""
    delay = FIRST_DELAY
    while True:
        asked_at = clock.now()
        try:
            snapshots = await runtime.observe()
        except RuntimeUnavailable as error:
            health.report("runtime", f"the container runtime does not answer: {error}")
            log.warning("runtime.lost", reason=str(error), retry_in=delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)
            continue
        health.report("runtime", None)
        by_task: dict[TaskArn, tuple[ContainerSnapshot, ...]] = {}
        for each in snapshots:
            by_task[each.task_arn] = (*by_task.get(each.task_arn, ()), each)
        return Sighting(asked_at, by_task)
