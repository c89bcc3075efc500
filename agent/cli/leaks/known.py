"""Who belongs here: asked of the running agent, else read from the records that the last one has left."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.cli.connection import Connection
from agent.cli.doctor.facts import claim_holder
from agent.cli.doctor.storage import newer_than_known
from agent.cli.failures import FAILED, NOT_FOUND, NOT_RUNNING, USAGE, Failure
from agent.cli.leaks.things import Known
from agent.model.ids import ContainerId, TaskArn, TaskId, task_id
from agent.settings import Settings

_DATABASE = "berth.db"


def knowing(connection: Connection, settings: Settings) -> Callable[[], Known]:
    """Asks anew at each call. Raises ``Failure`` where nobody can say: then nothing counts as left."""

    def ask() -> Known:
        try:
            answer = connection.get("/berth/v1/known")
        except Failure as failure:
            if failure.code == NOT_FOUND:
                raise Failure("the running agent is older than this command; restart it first") from failure
            if failure.code != NOT_RUNNING:
                raise
            _refuse_hidden_agent(connection.introspection)
            return recorded(settings)
        if not answer.get("is_complete"):
            raise Failure("the backend has not named all of its tasks yet; ask again in a moment")
        cluster = str(connection.get("/v1/metadata").get("Cluster") or "")
        return Known(
            tasks=frozenset(task_id(TaskArn(arn)) for arn in answer["tasks"]),
            sandboxes=frozenset(ContainerId(each) for each in answer["sandboxes"]),
            interfaces=_interfaces(settings),
            has_agent=True,
            cluster=cluster,
        )

    return ask


def recorded(settings: Settings) -> Known:
    """What the records on disk say, of every backend; they are only read. Raise ``Failure``."""
    directory = settings.data_directory
    try:
        if not directory.is_dir():
            raise Failure(
                f"no agent runs, and there is no {directory} with its records: nobody can say which tasks "
                "belong here; name the agent's settings with --env-file",
                USAGE,
            )
        if newer := newer_than_known(directory):
            raise Failure(f"a newer agent wrote this: {newer}; use the command of that version")
        tasks, sandboxes = _checkpoints(directory / "tasks")
        tasks |= _of_cluster(directory / "ecs") | _of_database(directory / _DATABASE)
        interfaces = _interfaces(settings)
    except PermissionError as error:
        raise Failure(f"{error.filename} may be read by root only; use sudo") from error
    return Known(
        frozenset(tasks), frozenset(sandboxes), interfaces, has_agent=False, cluster=_cluster(settings)
    )


def _refuse_hidden_agent(address: str) -> None:
    pid = claim_holder(Path("/proc"))
    if pid is not None:
        raise Failure(
            f"an agent runs (process {pid}), but does not answer on {address}: only it can say what belongs "
            "here; name its settings with --env-file, or wait until it has started",
            FAILED,
        )


def _checkpoints(directory: Path) -> tuple[set[TaskId], set[ContainerId]]:
    tasks: set[TaskId] = set()
    sandboxes: set[ContainerId] = set()
    for path in _files(directory, "*.json"):
        tasks.add(TaskId(path.stem))
        document = _document(path)
        sandbox = (document.get("task") or {}).get("sandbox") or {}
        if sandbox.get("container_id"):
            sandboxes.add(ContainerId(str(sandbox["container_id"])))
    # what could not be read is still somebody's
    tasks |= {TaskId(path.name.partition(".")[0]) for path in _files(directory / "broken", "*")}
    return tasks, sandboxes


def _of_cluster(directory: Path) -> set[TaskId]:
    """Tasks that Amazon ECS has given to this machine and that have not ended."""
    live = set()
    for path in _files(directory, "task-*.json"):
        document = _document(path)
        if not document.get("ended_at"):
            live.add(TaskId(path.stem.removeprefix("task-")))
    return live


def _of_database(path: Path) -> set[TaskId]:
    """Tasks of the local backend that have not stopped."""
    return {TaskId(row[0]) for row in _rows(path, "SELECT id FROM tasks WHERE last_status != 'STOPPED'")}


def _interfaces(settings: Settings) -> frozenset[str] | None:
    """The interfaces of the simulated VPC that belong to a task."""
    if settings.backend != "local":
        return None
    path = settings.data_directory / _DATABASE
    if not path.exists():
        return None
    query = "SELECT record ->> 'eni_id' FROM attachments WHERE released_at IS NULL"
    return frozenset(str(row[0]) for row in _rows(path, query))


def _rows(path: Path, query: str) -> list[Any]:
    if not path.exists():
        return []
    try:
        # mode=ro: only read; the agent may write beside it
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0) as database:
            return database.execute(query).fetchall()
    except sqlite3.Error as error:
        raise Failure(f"{path} cannot be read ({error}): nobody can say which tasks belong here") from error


def _cluster(settings: Settings) -> str:
    if settings.cluster or settings.backend != "ecs":
        return settings.cluster
    return str(_document(settings.data_directory / "ecs" / "instance.json").get("cluster") or "")


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}  # it has just gone, or is damaged: its name says enough
    return document if isinstance(document, dict) else {}


def _files(directory: Path, pattern: str) -> Iterator[Path]:
    if directory.is_dir():
        yield from sorted(directory.glob(pattern))
