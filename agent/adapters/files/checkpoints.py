"""Keeps one file per task, replaced whole at every save: a crash leaves the old state or the new one."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from agent.adapters.files.additions import Additions
from agent.adapters.files.codec import CheckpointUnreadable, decode_record, encode_task
from agent.adapters.files.folder import SUFFIX, FileUnreadable, Folder
from agent.model.ids import TaskArn, task_id
from agent.model.state import TaskState
from agent.ports.checkpoint import Loaded

P = ParamSpec("P")
T = TypeVar("T")


class FileCheckpoints:
    """``CheckpointStore`` in ``<datadir>/tasks/<task id>.json``; the unreadable goes to ``tasks/broken/``.

    All disk work happens on one thread of its own: a slow disk delays only those who wait for it, and two
    saves of one task cannot overtake each other, not even if the first was cancelled. Nothing is synced to
    the medium: a power cut ends the containers too, and recovery looks at the world.
    """

    def __init__(self, datadir: Path) -> None:
        self._folder = Folder(datadir / "tasks", "checkpoints", is_synced=False)
        self._added: dict[str, Additions] = {}
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
        await self._on_thread(self._forget, task_id(arn))

    async def _on_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **kwargs))

    # -- on the thread -------------------------------------------------------------------------

    def _load_all(self) -> Loaded:
        tasks, set_aside = [], []
        for name in self._folder.names():
            try:
                tasks.append(self._load(name))
            except (CheckpointUnreadable, FileUnreadable, OSError) as error:
                self._folder.set_aside(name, str(error))
                set_aside.append(f"{name}{SUFFIX}")
        return Loaded(tuple(tasks), tuple(set_aside))

    def _save(self, task: TaskState) -> None:
        self._folder.write(task.task_id, encode_task(task, self._added.get(task.task_id)))

    def _forget(self, name: str) -> None:
        self._folder.delete(name)
        self._added.pop(name, None)

    def _load(self, name: str) -> TaskState:
        record = decode_record(self._folder.read(name))
        task = record.task
        if name != task.task_id:
            raise CheckpointUnreadable(f"it holds task {task.task_id}, expected {name}")
        if record.added:
            self._added[name] = record.added
        return task
