"""What this agent knows of state directories: every format in it, and the steps between the formats."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from agent import __version__
from agent.adapters.files import codec
from agent.adapters.files.state import Newer, Plan, StateDirectory, Step, newer_documents, read_document
from agent.adapters.host.boots import this_boot

CONTENTS = (
    "tasks",
    "ecs",
    "assignments",
    "assignments.jsonl",
    "berth.db",
    "berth.db-wal",
    "credentials.json",
    "pulled-images.json",
)
"""What a copy of the state consists of. Logs, the lock and what was set aside as broken are not state."""

LEASES_FORMAT = 1
"""The format of the plugins' leases, which a test compares with the plugins' own number."""


def state_of(data_directory: Path, run_directory: Path) -> StateDirectory:
    """The state in these two directories. Nothing is read yet."""
    plan = Plan(
        __version__,
        steps={0: (_journal_step(), _database_step())},
        contents=CONTENTS,
        witnesses=(
            _newer_database,
            _newer_records,
            partial(_newer_leases, run_directory / "ipam" / "leases.json"),
        ),
    )
    return StateDirectory(data_directory, plan)


def _newer_records(directory: Path, is_stamped: bool) -> Iterator[Newer]:
    """Only where no stamp speaks for all of them: there, a high number in one record is damage."""
    if is_stamped or not directory.is_dir():
        return
    yield from newer_documents(directory / "tasks", "version", codec.VERSION)
    if (directory / "ecs").is_dir():
        from agent.adapters.ecs import records  # noqa: PLC0415 - the local backend has no use for it

        yield from newer_documents(directory / "ecs", "format", records.FORMAT)


def _newer_database(directory: Path, is_stamped: bool) -> Iterator[Newer]:  # noqa: ARG001 - a witness
    path = directory / "berth.db"
    if not path.exists():
        return
    from agent.adapters.local.page import user_version  # noqa: PLC0415 - the ecs backend has no use for it
    from agent.adapters.local.schema import SCHEMA_VERSION  # noqa: PLC0415

    found = user_version(path)
    if found > SCHEMA_VERSION:
        yield Newer(path, found, SCHEMA_VERSION)


def _newer_leases(path: Path, directory: Path, is_stamped: bool) -> Iterator[Newer]:  # noqa: ARG001 - a witness
    """Outside of the state directory, and valid for one boot; but two tasks at one address is worse."""
    document = read_document(path) or {}  # missing or broken: the plugin begins anew
    found = document.get("format")
    if type(found) is int and found > LEASES_FORMAT and document.get("boot") == this_boot():
        yield Newer(path, found, LEASES_FORMAT)


def _journal_step() -> Step:
    def is_needed(directory: Path) -> bool:
        return (directory / "assignments").is_dir()

    def run(directory: Path) -> None:
        from agent.adapters.local.older import join_assignment_files  # noqa: PLC0415 - once in a life

        join_assignment_files(directory)

    return Step("one journal of live tasks", is_needed, run)


def _database_step() -> Step:
    def is_needed(directory: Path) -> bool:
        path = directory / "berth.db"
        if not path.exists():
            return False
        from agent.adapters.local.schema import needs_migration  # noqa: PLC0415 - not without a database

        return needs_migration(path)

    def run(directory: Path) -> None:
        from agent.adapters.local.schema import migrate_file  # noqa: PLC0415

        migrate_file(directory / "berth.db")

    return Step("the tables of the database", is_needed, run)
