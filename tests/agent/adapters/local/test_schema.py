"""An older database becomes a newer one in one transaction, or stays what it was."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.adapters.local import schema
from agent.adapters.local.database import Database
from agent.adapters.local.schema import FILE_NAME, MIGRATIONS, SCHEMA_VERSION, migrate_file, needs_migration
from agent.adapters.local.store import Store
from tests.builders import NOON
from tests.fakes.clock import FakeClock

SAMPLE = Path(__file__).parents[3] / "golden" / "state" / "local-c6ce488" / FILE_NAME


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The database of the first local backend: version 1, without a column that came later."""
    return Path(shutil.copy(SAMPLE, tmp_path / FILE_NAME))


def answer(path: Path, query: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_there_is_a_migration_from_every_version_before_this_one() -> None:
    assert set(MIGRATIONS) == set(range(1, SCHEMA_VERSION))


def test_the_first_files_get_the_column_that_they_lack_once(path: Path) -> None:
    assert needs_migration(path)
    migrate_file(path)
    assert not needs_migration(path)
    migrate_file(path)
    query = "SELECT family, started_by FROM tasks ORDER BY family, created_at"
    assert answer(path, query) == [("nginx-awsvpc", None), ("nginx-awsvpc", None), ("web", "deploy/1")]


def test_a_directory_may_have_any_name(tmp_path: Path) -> None:
    odd = tmp_path / "100%25 of it?#"
    odd.mkdir()
    assert needs_migration(Path(shutil.copy(SAMPLE, odd / FILE_NAME)))


async def test_a_database_of_the_first_backend_is_opened_also_by_itself(path: Path) -> None:
    store = Store(path.parent, FakeClock(NOON))
    await store.open("default")
    tasks = await store.transact(lambda ledger: ledger.task_ids("default", "RUNNING", started_by="deploy/1"))
    await store.aclose()
    assert len(tasks) == 1
    assert list(path.parent.glob("*.broken-*")) == []


SPLIT = ("ALTER TABLE events ADD COLUMN colour TEXT", "UPDATE events SET colour = 'blue'")


async def test_each_migration_is_run_and_the_version_counted_up(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 3)
    monkeypatch.setattr(schema, "MIGRATIONS", {1: SPLIT, 2: ("CREATE TABLE third (x)",)})
    migrate_file(path)
    assert answer(path, "PRAGMA user_version") == [(3,)]
    assert answer(path, "SELECT DISTINCT colour FROM events") == [("blue",)]
    assert answer(path, "SELECT count(*) FROM third") == [(0,)]


@pytest.mark.parametrize("good", [0, 1, 2])
async def test_a_migration_that_fails_at_any_statement_leaves_the_file_as_it_was(
    path: Path, monkeypatch, good: int
) -> None:
    before = answer(path, "SELECT sql FROM sqlite_schema ORDER BY name")
    monkeypatch.setattr(schema, "SCHEMA_VERSION", 2)
    monkeypatch.setattr(schema, "MIGRATIONS", {1: (*SPLIT[:good], "UPDATE nowhere SET x = 1")})
    with pytest.raises(OSError, match="no such table: nowhere"):
        migrate_file(path)
    assert answer(path, "SELECT sql FROM sqlite_schema ORDER BY name") == before
    assert answer(path, "PRAGMA user_version") == [(1,)]
    monkeypatch.setattr(schema, "MIGRATIONS", {1: SPLIT})
    migrate_file(path)
    assert answer(path, "PRAGMA user_version") == [(2,)]


def test_a_broken_file_is_not_migrated_but_set_aside_when_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is no database" * 1000)
    assert not needs_migration(tmp_path / FILE_NAME)
    (tmp_path / FILE_NAME).write_bytes(b"")
    assert not needs_migration(tmp_path / FILE_NAME)


async def test_a_broken_file_beside_a_good_one_is_opened_anew(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is no database" * 1000)
    database = Database(tmp_path, FakeClock(NOON))
    opened = await database.open()
    await database.aclose()
    assert opened.is_new
    assert opened.set_aside is not None
