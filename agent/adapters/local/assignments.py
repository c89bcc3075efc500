"""A journal of every live task beside the database, from which a lost database is rebuilt.

Without it a broken database would end every task on the machine, and its addresses would be given twice.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import structlog

from agent.adapters.local.records import AttachmentRecord, DefinitionRecord, Document, TaskRecord

log = structlog.get_logger()

FILE_NAME = "assignments.jsonl"
_VERSION = 1
_LARGEST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Assignment:
    """Everything about one live task."""

    task: TaskRecord
    definition: DefinitionRecord
    attachment: AttachmentRecord


class Assignments:
    """One line per change, the last line of a task counts. Readable by its owner only.

    Lines are appended, not whole files replaced: replacing costs a millisecond on a journalling file system,
    and every launch waits for it. The file is rewritten at start, and when it has grown.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / FILE_NAME
        self._live: dict[str, str] = {}
        self._file: IO[str] | None = None
        self._size = 0
        self._limit = _LARGEST

    def keep(self, task: TaskRecord, definition: DefinitionRecord, attachment: AttachmentRecord) -> None:
        """Write what is known of a live task. Raise ``OSError``."""
        line = _line(
            {
                "version": _VERSION,
                "task": task.as_json(),
                "definition": definition.as_json(),
                "attachment": attachment.as_json(),
            }
        )
        self._live[task.id] = line
        self._append(line)

    def forget(self, task_id: str) -> None:
        """The task is over. Raise ``OSError``."""
        if self._live.pop(task_id, None) is not None:
            self._append(_line({"version": _VERSION, "over": task_id}))

    def load(self) -> tuple[Assignment, ...]:
        """What was live when the journal was last written; unreadable lines are logged and left out."""
        found: dict[str, Assignment] = {}
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return ()
        except OSError as problem:
            log.warning("assignments.unreadable", path=str(self._path), problem=str(problem))
            return ()
        for number, line in enumerate(lines, start=1):
            try:
                content = json.loads(line)
                if content["version"] != _VERSION:
                    raise ValueError(f"version {content['version']}; this berth understands {_VERSION}")
                if "over" in content:
                    found.pop(content["over"], None)
                    continue
                assignment = Assignment(
                    TaskRecord.from_json(content["task"]),
                    DefinitionRecord.from_json(content["definition"]),
                    AttachmentRecord.from_json(content["attachment"]),
                )
                found[assignment.task.id] = assignment
            except (ValueError, KeyError, TypeError, AttributeError) as problem:
                log.warning("assignment.skipped", path=str(self._path), line=number, problem=str(problem))
        # A launch whose transaction failed stands there too; its address was given to somebody else since.
        return tuple({one.attachment.ipv4_address: one for one in found.values()}.values())

    def start(self, live: tuple[Assignment, ...]) -> None:
        """Begin anew with what is live now. Raise ``OSError``."""
        self._live = {}
        self._rewrite()
        for one in live:
            self.keep(one.task, one.definition, one.attachment)

    def close(self) -> None:
        """Close the file. Fine if it is not open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, line: str) -> None:
        if self._file is None or self._size > self._limit:
            self._rewrite()
            return
        self._file.write(line)
        self._file.flush()
        self._size += len(line)

    def _rewrite(self) -> None:
        self.close()
        aside = self._path.with_suffix(".new")
        aside.unlink(missing_ok=True)
        aside.touch(mode=0o600)
        aside.write_text("".join(self._live.values()), encoding="utf-8")
        aside.rename(self._path)
        self._file = self._path.open("a", encoding="utf-8")
        self._size = sum(len(line) for line in self._live.values())
        self._limit = max(_LARGEST, 2 * self._size)


def _line(content: Document) -> str:
    return json.dumps(content, separators=(",", ":")) + "\n"
