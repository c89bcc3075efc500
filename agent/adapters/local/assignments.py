"""A small file beside the database for every live task, from which a lost database is rebuilt.

Without them a broken database would end every task on the machine, and its addresses would be given twice.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent.adapters.local.records import AttachmentRecord, DefinitionRecord, TaskRecord

log = structlog.get_logger()

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Assignment:
    """Everything about one live task."""

    task: TaskRecord
    definition: DefinitionRecord
    attachment: AttachmentRecord


class Assignments:
    """The directory of those files: one per live task, replaced as a whole, readable by its owner only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, task: TaskRecord, definition: DefinitionRecord, attachment: AttachmentRecord) -> None:
        """Write the task's file. Raise ``OSError``."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = {
            "version": _VERSION,
            "task": task.as_json(),
            "definition": definition.as_json(),
            "attachment": attachment.as_json(),
        }
        path = self._path(task.id)
        aside = path.with_suffix(".new")
        aside.touch(mode=0o600)
        aside.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
        aside.rename(path)

    def forget(self, task_id: str) -> None:
        """Remove the task's file; fine if there is none. Raise ``OSError``."""
        self._path(task_id).unlink(missing_ok=True)

    def load(self) -> Iterator[Assignment]:
        """Every readable one; others are logged and left where they are."""
        for path in sorted(self._directory.glob("*.json")):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                if content["version"] != _VERSION:
                    raise ValueError(f"version {content['version']}; this berth understands {_VERSION}")
                yield Assignment(
                    TaskRecord.from_json(content["task"]),
                    DefinitionRecord.from_json(content["definition"]),
                    AttachmentRecord.from_json(content["attachment"]),
                )
            except (OSError, ValueError, KeyError, TypeError) as problem:
                log.warning("assignment.skipped", path=str(path), problem=str(problem))

    def forget_all_but(self, task_ids: frozenset[str]) -> None:
        """Remove the files of tasks that are not named. Raise ``OSError``."""
        for path in self._directory.glob("*"):
            if path.suffix == ".new" or path.stem not in task_ids:
                path.unlink(missing_ok=True)

    def _path(self, task_id: str) -> Path:
        return self._directory / f"{task_id}.json"
