"""The store as the rest of the backend sees it: transactions over ledgers, and repair after a loss."""

import json
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import structlog

from agent.adapters.local.assignments import Assignments
from agent.adapters.local.database import Database, UnusableContent
from agent.adapters.local.ledger import Ledger
from agent.adapters.local.records import AttachmentRecord, DefinitionRecord, TaskRecord
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
        self._database = Database(data_dir, clock, _check_records)
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


def _check_records(connection: sqlite3.Connection) -> None:
    """Raise ``UnusableContent`` if a record cannot be read: SQLite's own check looks at its pages only.

    Everything must be JSON, since queries look into it; what is live must be a record too.
    """
    for table in ("definitions", "tasks", "attachments"):
        bad = connection.execute(f"SELECT rowid FROM {table} WHERE NOT json_valid(record)").fetchone()  # noqa: S608 - our own three names
        if bad is not None:
            raise UnusableContent(f"{table}, row {bad[0]}: the record is not JSON")
    for kind, query in _LIVE:
        for row, text in connection.execute(query):
            try:
                kind.from_json(json.loads(text))
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as problem:
                raise UnusableContent(f"{kind.__name__} in row {row}: {problem}") from problem


_DEFINITIONS_IN_USE = """SELECT rowid, record FROM definitions WHERE (family, revision) IN
    (SELECT family, revision FROM tasks WHERE last_status != 'STOPPED')"""
_LIVE: tuple[tuple[type[TaskRecord | DefinitionRecord | AttachmentRecord], str], ...] = (
    (TaskRecord, "SELECT rowid, record FROM tasks WHERE last_status != 'STOPPED'"),
    (AttachmentRecord, "SELECT rowid, record FROM attachments WHERE released_at IS NULL"),
    (DefinitionRecord, _DEFINITIONS_IN_USE),
)


def _tidy(ledger: Ledger) -> int:
    ledger.forget_history(HISTORY, TOKENS, EVENTS)
    return ledger.forget_stopped(SHOWN_AFTER_STOP, STOPPED_TASKS)
