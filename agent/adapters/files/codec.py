"""A task's state as text with a version, so that every agent can read what an older one wrote."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.adapters.files import sums
from agent.adapters.files.additions import Additions, additions, put_back
from agent.adapters.files.records import RecordInvalid, from_json, to_json
from agent.model.errors import AgentError
from agent.model.state import TaskState

VERSION = 1
"""The version that is written. Raise it when an old record would be misread, and add a migration.

A new field with a default needs neither: where it is absent, the default is taken, and an agent that does not
know it keeps it. So the default must be right for a record of an older agent, and the field must do no harm
when it is older than the rest (docs/state.md, "Within one format").
"""

Migration = Callable[[dict[str, Any]], dict[str, Any]]

MIGRATIONS: Mapping[int, Migration] = {}
"""Version n -> what makes a task's JSON object of version n one of n + 1. Complete from 1 to VERSION - 1."""


class CheckpointUnreadable(AgentError):
    """A checkpoint's text is broken, inconsistent, or of a version that this agent does not know."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a checkpoint holds. ``added``: what a newer agent of the same format has added to the task."""

    task: TaskState
    added: Additions = field(default_factory=dict)


def encode_task(task: TaskState, added: Additions | None = None) -> bytes:
    """The text of a checkpoint: one line of JSON, ASCII only, with what others have added and a checksum."""
    content = to_json(task)
    if added:
        put_back(content, added)
    text = sums.text_of(content)
    return f'{{"version":{VERSION},"task":{text},"{sums.NAME}":{sums.sum_of(text)}}}\n'.encode("ascii")


def decode_task(text: bytes) -> TaskState:
    """The state that a checkpoint of any known version holds. Raise ``CheckpointUnreadable``."""
    return decode_record(text).task


def decode_record(text: bytes) -> Record:
    """The state, and what a newer agent has added to it. Raise ``CheckpointUnreadable``.

    Unknown fields are taken for additions only where a checksum proves that nothing is damaged. Agents that
    wrote no checksum knew no field that this one does not know.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointUnreadable(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointUnreadable(f"the record is a {type(document).__name__}, expected an object")
    content = _migrated(document)
    try:
        record = _read(content, is_proven=sums.NAME in document)
    except RecordInvalid as error:
        raise CheckpointUnreadable(str(error)) from error
    _require_consistency(record.task)
    return record


def _read(content: Any, *, is_proven: bool) -> Record:
    try:
        return Record(from_json(TaskState, content, "task"))
    except RecordInvalid:
        if not is_proven:
            raise
    # Seldom, so that it may take its time: a newer agent has been here, or the lifecycle wrote nonsense.
    task = from_json(TaskState, content, "task", is_tolerant=True)
    return Record(task, additions(content, to_json(task)))


def _migrated(document: dict[str, Any]) -> Any:
    version = document.get("version")
    if type(version) is not int or version < 1:
        raise CheckpointUnreadable(f"version is {version!r}, expected a whole number from 1 to {VERSION}")
    if version > VERSION:
        raise CheckpointUnreadable(
            f"version is {version}, this agent knows 1 to {VERSION}: a newer agent wrote it"
        )
    task = document.get("task")
    if not isinstance(task, dict):
        raise CheckpointUnreadable(f"task is {task!r:.80}, expected an object")
    if sums.NAME in document:
        try:
            sums.check(document[sums.NAME], task)
        except sums.SumWrong as error:
            raise CheckpointUnreadable(str(error)) from error
    for old in range(version, VERSION):
        try:
            task = MIGRATIONS[old](task)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise CheckpointUnreadable(
                f"cannot turn version {old} into {old + 1}: {type(error).__name__}: {error}"
            ) from error
    return task


def _require_consistency(task: TaskState) -> None:
    """Refuse what no agent writes and what the lifecycle would stumble over for ever."""
    asked = [container.name for container in task.spec.containers]
    known = [container.name for container in task.containers]
    if known != asked:
        raise CheckpointUnreadable(
            f"task.containers names {known}, expected the containers of the spec: {asked}"
        )
    if len(set(asked)) != len(asked):
        raise CheckpointUnreadable(f"task.spec.containers names {asked}, expected every name once")
    if task.accepted is not None and task.accepted.task_arn != task.arn:
        raise CheckpointUnreadable(
            f"task.accepted.task_arn is {task.accepted.task_arn!r}, expected the task's own: {task.arn!r}"
        )
