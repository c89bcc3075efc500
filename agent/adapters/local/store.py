"""The store as the rest of the backend sees it: transactions over ledgers, and repair after a loss."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import structlog

from agent.adapters.local.assignments import Assignments
from agent.adapters.local.database import Database
from agent.adapters.local.ledger import Ledger
from agent.adapters.local.records import DefinitionRecord
from agent.ports.clock import Clock

log = structlog.get_logger()

Answer = TypeVar("Answer")

SHOWN_AFTER_STOP = timedelta(hours=1)
"""How long describe-tasks shows a stopped task, as Amazon ECS does."""
STOPPED_TASKS = 1000
HISTORY = timedelta(days=7)
EVENTS = 200_000
TOKENS = timedelta(hours=24)


class Store:
    """Tasks, definitions and interfaces on disk. ``on_change``: called when what should be done changed."""

    def __init__(self, data_dir: Path, clock: Clock, on_change: Callable[[], None] = lambda: None) -> None:
        self._database = Database(data_dir, clock)
        self._assignments = Assignments(data_dir)
        self._definitions: dict[tuple[str, int], DefinitionRecord] = {}
        self._clock = clock
        self._on_change = on_change

    async def open(self, cluster: str) -> None:
        """Open the database; rebuild what is live from the side records if it was lost.

        Raise ``DatabaseFailed``.
        """
        opened = await self._database.open()
        await self.transact(lambda ledger: self._repair(ledger, cluster, is_lost=opened.is_new))

    async def transact(self, work: Callable[[Ledger], Answer]) -> Answer:
        """Run ``work`` in one transaction, on the database's thread. What it raises undoes everything.

        Raise ``DatabaseFailed``.
        """

        def with_ledger(ledger: Ledger) -> tuple[Answer, bool]:
            return work(ledger), ledger.tasks_changed

        now = self._clock.now()
        answer, has_changed = await self._database.transact(
            lambda connection: with_ledger(Ledger(connection, self._assignments, self._definitions, now))
        )
        if has_changed:
            self._on_change()
        return answer

    async def tidy(self) -> None:
        """Delete what nobody may ask for any more. Raise ``DatabaseFailed``."""
        forgotten = await self.transact(_tidy)
        if forgotten:
            log.info("tasks.forgotten", count=forgotten)

    async def aclose(self) -> None:
        """Close the files."""
        await self._database.aclose()
        self._assignments.close()

    def _repair(self, ledger: Ledger, cluster: str, *, is_lost: bool) -> None:
        ledger.add_cluster(cluster)
        # A database that was there is the truth; what only the journal knows is a leftover of a crash.
        lost = self._assignments.load() if is_lost else ()
        self._assignments.start(())
        for assignment in lost:
            ledger.add_cluster(assignment.task.cluster)
            ledger.save_definition(assignment.definition)
            ledger.add_task(assignment.task, assignment.definition, assignment.attachment)
            ledger.note(assignment.task.id, "task.rebuilt", "the database was lost")
        if lost:
            log.warning("tasks.rebuilt", count=len(lost))
        for task in () if is_lost else ledger.live_tasks():
            ledger.save_task(task)


def _tidy(ledger: Ledger) -> int:
    ledger.forget_history(HISTORY, TOKENS, EVENTS)
    return ledger.forget_stopped(SHOWN_AFTER_STOP, STOPPED_TASKS)
