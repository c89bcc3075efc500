"""Keeps one file per task, replaced whole at every save: a crash leaves the old state or the new one."""

import asyncio
import os
import re
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import structlog

from agent.adapters.files.codec import CheckpointUnreadable, decode_task, encode_task
from agent.model.errors import CheckpointFailed
from agent.model.ids import TaskArn, task_id
from agent.model.state import TaskState
from agent.ports.checkpoint import Loaded

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")

_SUFFIX = ".json"
_ASIDE_SUFFIX = ".json.new"
_LARGEST_BYTES = 16 * 1024 * 1024
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class FileCheckpoints:
    """``CheckpointStore`` in ``<datadir>/tasks/<task id>.json``; the unreadable goes to ``tasks/broken/``.

    All disk work happens on one thread of its own: a slow disk delays only those who wait for it, and two
    saves of one task cannot overtake each other, not even if the first was cancelled. Nothing is synced to
    the medium: a power cut ends the containers too, and recovery looks at the world.
    """

    def __init__(self, datadir: Path) -> None:
        self._directory = datadir / "tasks"
        self._broken = self._directory / "broken"
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")

    async def aclose(self) -> None:
        """Wait for the writes under way, then end the thread."""
        await asyncio.to_thread(self._thread.shutdown)

    async def load_all(self) -> Loaded:
        """Every readable record, by task id. Raise ``CheckpointFailed`` if the directory cannot be used."""
        return await self._on_thread(self._load_all)

    async def save(self, task: TaskState) -> None:
        """Return when the file is in its place. Raise ``CheckpointFailed`` naming the path and the cause."""
        await self._on_thread(self._save, task)

    async def forget(self, arn: TaskArn) -> None:
        """Delete the task's file; fine if there is none. Raise ``CheckpointFailed``."""
        await self._on_thread(self._forget, arn)

    async def _on_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **kwargs))

    # -- on the thread -------------------------------------------------------------------------

    def _load_all(self) -> Loaded:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            names = sorted(entry.name for entry in os.scandir(self._directory))
            for name in names:
                if name.endswith(_ASIDE_SUFFIX):  # a crash came between writing and renaming
                    (self._directory / name).unlink()
        except OSError as error:
            raise CheckpointFailed(
                f"cannot read the checkpoints in {self._directory}: {error.strerror}; "
                "make it a directory that the agent may write"
            ) from error
        tasks, set_aside = [], []
        for name in names:
            if not name.endswith(_SUFFIX):
                continue
            try:
                tasks.append(self._load(self._directory / name))
            except (CheckpointUnreadable, OSError) as error:
                self._set_aside(name, str(error))
                set_aside.append(name)
        return Loaded(tuple(tasks), tuple(set_aside))

    def _load(self, path: Path) -> TaskState:
        # O_NONBLOCK: a named pipe in the directory must not hold up the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 -- of a descriptor
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise CheckpointUnreadable("not a regular file")
            if found.st_size > _LARGEST_BYTES:
                raise CheckpointUnreadable(f"{found.st_size} bytes long, expected at most {_LARGEST_BYTES}")
            task = decode_task(file.read())
        if path.name != task.task_id + _SUFFIX:
            raise CheckpointUnreadable(
                f"it holds task {task.task_id}, expected {path.name.removesuffix(_SUFFIX)}"
            )
        return task

    def _set_aside(self, name: str, problem: str) -> None:
        try:
            self._broken.mkdir(mode=0o700, exist_ok=True)
            target = self._broken / name
            number = 1
            while os.path.lexists(target):
                target = self._broken / f"{name}.{number}"
                number += 1
            (self._directory / name).rename(target)
        except OSError as error:
            log.error("checkpoint.set_aside_failed", file=name, problem=problem, cause=str(error))  # noqa: TRY400
        else:
            log.warning("checkpoint.set_aside", file=name, problem=problem, kept_as=str(target))

    def _save(self, task: TaskState) -> None:
        path = self._path(task.arn)
        aside = path.with_name(path.name.removesuffix(_SUFFIX) + _ASIDE_SUFFIX)
        text = encode_task(task)
        try:
            self._write(aside, text)
            aside.replace(path)
        except OSError as error:
            raise CheckpointFailed(f"cannot write {path}: {error.strerror}") from error

    def _write(self, path: Path, text: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, flags, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 -- of a descriptor
            file.write(text)

    def _forget(self, arn: TaskArn) -> None:
        path = self._path(arn)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointFailed(f"cannot delete {path}: {error.strerror}") from error

    def _path(self, arn: TaskArn) -> Path:
        name = task_id(arn)
        if not _FILE_NAME.fullmatch(name):
            raise CheckpointFailed(
                f"task id {name!r} of {arn!r} cannot name a file in {self._directory}; "
                "expected letters, digits, '.', '_' and '-'"
            )
        return self._directory / f"{name}{_SUFFIX}"
