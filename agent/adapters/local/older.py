"""What older agents kept beside the database, and how it becomes what this one keeps.

One directory held a file for every live task, before one journal took its place. Both are read only when the
database is lost; so the files must not be lost with an upgrade.
"""

import json
import shutil
from pathlib import Path

import structlog

from agent.adapters.local.assignments import FILE_NAME

log = structlog.get_logger()

DIRECTORY = "assignments"


def join_assignment_files(data_dir: Path) -> None:
    """Make lines of the journal of those files, before its own, and remove them. Raise ``OSError``.

    The journal is replaced whole, and only then are the files removed. Cut off in between, it is done again:
    of a task's lines the last counts, and those of the journal stay behind those of the files.
    """
    journal = data_dir / FILE_NAME
    lines = [line for path in sorted((data_dir / DIRECTORY).glob("*.json")) if (line := _line(path))]
    own = journal.read_bytes().splitlines() if journal.exists() else []
    lines += [line for line in own if line not in set(lines)]
    aside = journal.with_suffix(".joined")
    aside.unlink(missing_ok=True)
    aside.touch(mode=0o600)
    aside.write_bytes(b"".join(line + b"\n" for line in lines))
    aside.replace(journal)
    shutil.rmtree(data_dir / DIRECTORY)


def _line(path: Path) -> bytes:
    """The file as one line; empty if it is broken."""
    try:
        return json.dumps(json.loads(path.read_bytes()), separators=(",", ":")).encode()
    except ValueError as problem:
        log.warning("assignment.skipped", path=str(path), problem=str(problem))
        return b""
