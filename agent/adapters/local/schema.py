"""The tables of the database, their version, and how an older file becomes a newer one."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path

import structlog

from agent.adapters.local.page import user_version
from agent.model.errors import StateTooNew

log = structlog.get_logger()

FILE_NAME = "berth.db"
SCHEMA_VERSION = 1
"""``PRAGMA user_version`` of the file. Raise it with every change of the tables, and add a migration."""

MIGRATIONS: Mapping[int, tuple[str, ...]] = {}
"""Version n -> statements that make n + 1 of it. Complete from 1 to SCHEMA_VERSION - 1."""

SCHEMA = """
CREATE TABLE clusters (
    name TEXT PRIMARY KEY,
    created_at REAL NOT NULL
) STRICT;
CREATE TABLE instances (
    id TEXT PRIMARY KEY,
    cluster TEXT NOT NULL REFERENCES clusters(name),
    status TEXT NOT NULL,
    version INTEGER NOT NULL,
    registered_at REAL NOT NULL
) STRICT;
CREATE TABLE definitions (
    family TEXT NOT NULL,
    revision INTEGER NOT NULL,
    is_active INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (family, revision)
) STRICT;
CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    cluster TEXT NOT NULL REFERENCES clusters(name),
    family TEXT NOT NULL,
    revision INTEGER NOT NULL,
    desired_status TEXT NOT NULL,
    last_status TEXT NOT NULL,
    started_by TEXT,
    cpu INTEGER NOT NULL,
    memory INTEGER NOT NULL,
    created_at REAL NOT NULL,
    stopped_at REAL,
    record TEXT NOT NULL,
    FOREIGN KEY (family, revision) REFERENCES definitions(family, revision)
) STRICT;
CREATE INDEX tasks_by_last_status ON tasks(last_status);
CREATE TABLE attachments (
    id TEXT PRIMARY KEY,
    task_id TEXT NOT NULL UNIQUE REFERENCES tasks(id) ON DELETE CASCADE,
    subnet_id TEXT NOT NULL,
    ipv4_address TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at REAL NOT NULL,
    released_at REAL,
    record TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX attachments_by_address ON attachments(ipv4_address) WHERE released_at IS NULL;
CREATE INDEX attachments_by_status ON attachments(status);
CREATE TABLE tokens (
    cluster TEXT NOT NULL,
    token TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    task_ids TEXT NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (cluster, token)
) STRICT;
CREATE TABLE tags (
    arn TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (arn, key)
) STRICT;
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id TEXT NOT NULL,
    at REAL NOT NULL,
    name TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_task ON events(task_id, number);
"""

_MISSING_COLUMN = (
    "ALTER TABLE tasks ADD COLUMN started_by TEXT",
    "UPDATE tasks SET started_by = json_extract(record, '$.started_by') WHERE json_valid(record)",
)
"""The first files of version 1 have no such column: it came without a new number."""


def refuse_newer(path: Path) -> None:
    """Raise ``StateTooNew`` if a newer agent wrote the file. It is read as bytes: SQLite does not open it."""
    found = user_version(path)
    if found > SCHEMA_VERSION:
        raise StateTooNew(file=str(path), found=found, understood=SCHEMA_VERSION, directory=str(path.parent))


def needs_migration(path: Path) -> bool:
    """Whether the file is older than this agent. A broken one is not: opening it sets it aside."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        return bool(_missing(connection))
    except sqlite3.DatabaseError as problem:
        log.warning("database.not_migrated", path=str(path), problem=str(problem))
        return False
    finally:
        connection.close()


def migrate_file(path: Path) -> None:
    """Bring the file up to date; it may be cut off and run again. Raise ``OSError``."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    try:
        migrate(connection)
        # so that the file's own first page tells the version, also to an agent that reads only that
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as problem:
        raise OSError(f"{path}: {problem}") from problem
    finally:
        connection.close()


def migrate(connection: sqlite3.Connection) -> None:
    """Run what is missing in one transaction; nothing happens if nothing is. Raise ``sqlite3.Error``."""
    if not _missing(connection):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _missing(connection):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _missing(connection: sqlite3.Connection) -> tuple[str, ...]:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if not 1 <= version <= SCHEMA_VERSION:
        return ()
    columns = {row[1] for row in connection.execute("PRAGMA table_info(tasks)")}
    first = _MISSING_COLUMN if version == 1 and columns and "started_by" not in columns else ()
    return (*first, *(each for number in range(version, SCHEMA_VERSION) for each in MIGRATIONS[number]))
