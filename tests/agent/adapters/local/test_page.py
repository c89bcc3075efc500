"""The version of a database is read from its bytes: as SQLite would say, with nothing made beside the file."""

import sqlite3
from pathlib import Path

import pytest

from agent.adapters.local.page import user_version


@pytest.fixture
def database(tmp_path: Path):
    """An open database in WAL mode, of which nothing has been moved out of the log yet."""
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    yield connection, tmp_path / "x.db"
    connection.close()


def copied(path: Path, to: Path) -> Path:
    """As a kill leaves it: without the shared memory."""
    to.mkdir()
    for each in (path, path.with_name(path.name + "-wal")):
        if each.exists():
            (to / each.name).write_bytes(each.read_bytes())
    return to / path.name


def test_a_version_that_is_only_in_the_log_is_seen_and_nothing_is_made(database, tmp_path: Path) -> None:
    connection, path = database
    connection.execute("CREATE TABLE t (x)")
    for version in (1, 7):
        connection.execute(f"PRAGMA user_version = {version}")
        copy = copied(path, tmp_path / f"copy-{version}")
        names = sorted(each.name for each in copy.parent.iterdir())
        assert user_version(copy) == version
        assert sorted(each.name for each in copy.parent.iterdir()) == names
    assert path.read_bytes()[60:64] == b"\0\0\0\0", "the first page itself does not know"


def test_a_version_that_was_not_committed_is_not_seen(database, tmp_path: Path) -> None:
    connection, path = database
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("CREATE TABLE t (x)")
    connection.execute("PRAGMA user_version = 3")
    connection.execute("BEGIN")
    connection.execute("PRAGMA user_version = 9")
    connection.executemany(
        "INSERT INTO t VALUES (?)", [("x" * 3000,) for _ in range(50)]
    )  # spills into the log
    assert user_version(copied(path, tmp_path / "copy")) == 3
    connection.execute("ROLLBACK")


def test_what_is_left_in_the_log_from_before_it_began_anew_does_not_count(database, tmp_path: Path) -> None:
    connection, path = database
    connection.execute("PRAGMA user_version = 9")
    connection.execute("CREATE TABLE t (x)")
    connection.execute("PRAGMA user_version = 2")
    connection.execute("PRAGMA wal_checkpoint(RESTART)")
    connection.execute("INSERT INTO t VALUES (1)")
    assert user_version(copied(path, tmp_path / "copy")) == 2


def test_a_log_that_is_cut_off_anywhere_gives_a_version_that_was_committed(database, tmp_path: Path) -> None:
    connection, path = database
    connection.execute("CREATE TABLE t (x)")
    for version in (1, 2, 3):
        connection.execute(f"PRAGMA user_version = {version}")
    copy = copied(path, tmp_path / "copy")
    log = copy.with_name(copy.name + "-wal")
    whole = log.read_bytes()
    seen = set()
    for length in (*range(0, len(whole), 61), len(whole)):
        log.write_bytes(whole[:length])
        seen.add(user_version(copy))
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "content", [b"", b"x", b"SQLite format 3\0", b"\xff" * 4096, b"this is no database" * 99]
)
def test_what_is_no_database_has_no_version(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.db").write_bytes(content)
    (tmp_path / "x.db-wal").write_bytes(content)
    assert user_version(tmp_path / "x.db") == 0


def test_a_file_that_is_missing_or_a_directory_has_no_version(tmp_path: Path) -> None:
    assert user_version(tmp_path / "x.db") == 0
    assert user_version(tmp_path) == 0


def test_a_version_that_cannot_be_is_damage(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "x.db")
    connection.execute("PRAGMA user_version = 16777217")
    connection.close()
    assert user_version(tmp_path / "x.db") == 0
