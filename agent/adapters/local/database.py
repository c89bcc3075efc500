"""The SQLite file: opened, checked, set aside when broken; one thread, one short transaction at a time."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from agent.adapters.local.schema import FILE_NAME, SCHEMA, SCHEMA_VERSION, migrate, refuse_newer
from agent.ports.clock import Clock

log = structlog.get_logger()

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Opened:
    """How the file was found. ``is_new``: made just now. ``set_aside``: where a broken one was put."""

    is_new: bool
    set_aside: Path | None = None


class DatabaseFailed(Exception):
    """The database did not do what was asked, and nothing of it happened. The text says why."""


class UnusableContent(Exception):
    """The file is a database, but not one that this version can use."""


class Database:
    """One connection on one thread of its own. Every transaction is a function of the connection.

    ``check`` looks at a file that was there and raises ``UnusableContent`` if it cannot be worked with.
    """

    def __init__(
        self, data_dir: Path, clock: Clock, check: Callable[[sqlite3.Connection], None] = lambda _: None
    ) -> None:
        self._path = data_dir / FILE_NAME
        self._clock = clock
        self._check = check
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="berth-db")
        self._connection: sqlite3.Connection | None = None
        self._is_closed = False

    async def open(self) -> Opened:
        """Open or make the file; a broken one is put aside, an older one brought up to date.

        Raise ``DatabaseFailed`` if none can be made, ``StateTooNew`` for one that a newer agent wrote: it is
        not even opened for writing.
        """
        return await self._on_thread(self._open)

    async def transact(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """Run ``work`` in one transaction. What it raises undoes the transaction and is raised here.

        Raise ``DatabaseFailed`` when SQLite fails. What a cancelled caller asked for may still be done.
        """
        return await self._on_thread(lambda: self._transact(work))

    async def aclose(self) -> None:
        """Close the file and end the thread. Fine if it never was open, or is closed."""
        if not self._is_closed:
            await self._on_thread(self._close)
            self._is_closed = True
            self._thread.shutdown(wait=False)

    async def _on_thread(self, work: Callable[[], Answer]) -> Answer:
        if self._is_closed:
            raise DatabaseFailed(f"the database {self._path} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # -- on the thread -------------------------------------------------------------------------

    def _open(self) -> Opened:
        set_aside: Path | None = None
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._connection, is_new = _opened(self._path, self._check)
            except (sqlite3.DatabaseError, UnusableContent) as problem:
                if isinstance(problem, sqlite3.OperationalError) and not _is_broken(problem):
                    raise
                set_aside = self._put_aside(problem)
                self._connection, is_new = _opened(self._path, self._check)
        except (OSError, sqlite3.Error) as error:
            raise DatabaseFailed(
                f"cannot open the database {self._path}: {error}; check the data directory's space and owner"
            ) from error
        return Opened(is_new, set_aside)

    def _put_aside(self, problem: Exception) -> Path:
        stamp = self._clock.now().strftime("%Y%m%dT%H%M%S")
        aside = self._path.with_name(f"{FILE_NAME}.broken-{stamp}")
        number = 1
        while aside.exists():
            number += 1
            aside = self._path.with_name(f"{FILE_NAME}.broken-{stamp}-{number}")
        self._path.rename(aside)
        for suffix in ("-wal", "-shm"):
            # They belong to the broken file: a new one must not replay them.
            companion = self._path.with_name(FILE_NAME + suffix)
            if companion.exists():
                companion.rename(aside.with_name(aside.name + suffix))
        log.error("database.set_aside", path=str(self._path), kept_as=str(aside), problem=str(problem))
        return aside

    def _transact(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        connection = self._connection
        if connection is None:
            raise DatabaseFailed(f"the database {self._path} is not open")
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                answer = work(connection)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            if connection.in_transaction:
                connection.rollback()
            log.exception("transaction.failed", path=str(self._path))
            raise DatabaseFailed(f"the database {self._path} failed: {error}") from error
        return answer

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _opened(path: Path, check: Callable[[sqlite3.Connection], None]) -> tuple[sqlite3.Connection, bool]:
    refuse_newer(path)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        path.chmod(0o600)
        # NORMAL in WAL mode cannot corrupt; a power cut may lose the last commits, and ends the tasks too.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise UnusableContent(f"quick_check says: {verdict}")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        is_new = version == 0 and tables == 0
        if is_new:
            connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        elif not 1 <= version <= SCHEMA_VERSION:
            raise UnusableContent(f"schema version {version}; this berth understands 1 to {SCHEMA_VERSION}")
        else:
            migrate(connection)
            check(connection)
    except BaseException:
        connection.close()
        raise
    return connection, is_new


def _is_broken(error: sqlite3.OperationalError) -> bool:
    """Whether an error speaks of the file's content, not of the machine (space, rights, locks)."""
    machine = {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
    }
    return (error.sqlite_errorcode & 0xFF) not in machine
