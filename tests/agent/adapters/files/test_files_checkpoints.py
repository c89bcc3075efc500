"""The store on disk keeps the contract, and says which file it could not write and why."""

import asyncio
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.adapters.files.checkpoints import FileCheckpoints
from agent.adapters.files.codec import encode_task
from agent.adapters.files.folder import Folder
from agent.model.errors import CheckpointFailed
from agent.model.ids import TaskArn
from agent.model.state import TaskState
from tests.contracts.checkpoint import CheckpointContract, a_task


class FileStage:
    def __init__(self, datadir: Path) -> None:
        self.datadir = datadir
        self.store = FileCheckpoints(datadir)
        self.opened = [self.store]

    async def restarted(self) -> FileCheckpoints:
        obstacle = self.path(a_task()).with_suffix(".json.new")
        if obstacle.is_dir():
            obstacle.rmdir()
        self.opened.append(FileCheckpoints(self.datadir))
        return self.opened[-1]

    def damage(self, task: TaskState) -> None:
        text = self.path(task).read_bytes()
        self.path(task).write_bytes(text[: len(text) // 2])

    def forbid_writing(self) -> None:
        # Root may write everywhere, so take the place of the file that is written aside.
        self.path(a_task()).with_suffix(".json.new").mkdir()

    def path(self, task: TaskState) -> Path:
        return self.datadir / "tasks" / f"{task.task_id}.json"


@pytest.fixture
async def stage(tmp_path):
    stage = FileStage(tmp_path / "data")
    yield stage
    for store in stage.opened:
        await store.aclose()


class TestFileCheckpoints(CheckpointContract):
    @pytest.fixture
    def stage(self, stage) -> FileStage:
        return stage


@pytest.fixture(name="files")
def _files(stage):
    return stage


async def test_the_file_is_private_and_nothing_else_is_left_beside_it(files):
    await files.store.save(a_task())
    path = files.path(a_task())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


async def test_a_broken_file_is_kept_under_its_name_and_logged_with_the_reason(files):
    await files.store.save(a_task())
    files.damage(a_task())
    with capture_logs() as logs:
        await files.store.load_all()
    broken = files.path(a_task()).parent / "broken" / files.path(a_task()).name
    assert broken.read_bytes() in encode_task(a_task())
    (line,) = [line for line in logs if line["event"] == "checkpoint.set_aside"]
    assert "not JSON" in line["problem"]
    assert line["kept_as"] == str(broken)


async def test_a_second_broken_file_of_a_task_does_not_replace_the_first(files):
    for text in (b"one", b"two", b"three"):
        await files.store.save(a_task())
        files.path(a_task()).write_bytes(text)
        await files.store.load_all()
    broken = files.path(a_task()).parent / "broken"
    assert sorted(path.read_bytes() for path in broken.iterdir()) == [b"one", b"three", b"two"]


@pytest.mark.parametrize("kind", ["directory", "pipe", "dangling link", "huge", "of another task"])
async def test_whatever_bears_a_checkpoints_name_is_set_aside(files, kind):
    await files.store.save(a_task(2))
    path = files.path(a_task(1))
    match kind:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "dangling link":
            path.symlink_to("/nonexistent")
        case "huge":
            with path.open("wb") as file:
                file.truncate(17 * 1024 * 1024)
        case _:
            path.write_bytes(encode_task(a_task(2)))
    loaded = await files.store.load_all()
    assert loaded.tasks == (a_task(2),)
    assert loaded.set_aside == (path.name,)
    assert os.path.lexists(path.parent / "broken" / path.name)


async def test_a_file_left_over_from_a_crash_while_writing_is_removed(files):
    await files.store.save(a_task())
    aside = files.path(a_task()).with_suffix(".json.new")
    aside.write_bytes(b'{"version":1,')
    loaded = await files.store.load_all()
    assert loaded.tasks == (a_task(),)
    assert loaded.set_aside == ()
    assert not aside.exists()


async def test_other_files_are_left_alone(files):
    await files.store.save(a_task())
    note = files.path(a_task()).with_name("README")
    note.write_text("hello")
    assert (await files.store.load_all()).tasks == (a_task(),)
    assert note.read_text() == "hello"


async def test_a_datadir_that_is_a_file_is_named_with_the_cause(tmp_path):
    (tmp_path / "data").write_text("in the way")
    store = FileCheckpoints(tmp_path / "data")
    try:
        with pytest.raises(
            CheckpointFailed, match=r"cannot read the checkpoints in .*/data/tasks: Not a directory"
        ):
            await store.load_all()
        with pytest.raises(CheckpointFailed, match=r"cannot write .*/data/tasks/0+1\.json: Not a directory"):
            await store.save(a_task())
    finally:
        await store.aclose()


async def test_a_full_disk_is_named_with_the_path(files, monkeypatch):
    await files.store.save(a_task())

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("agent.adapters.files.folder.os.open", full)
    with pytest.raises(CheckpointFailed, match=r"cannot write .*/tasks/0+1\.json: No space left on device"):
        await files.store.save(a_task())


@pytest.mark.parametrize("name", ["..", ".hidden", "", "a\x00b", "x" * 300])
async def test_a_task_id_that_cannot_name_a_file_is_refused(files, name):
    task = a_task()
    strange = replace(
        task, spec=replace(task.spec, arn=TaskArn(f"arn:aws:ecs:us-east-1:0:task/default/{name}"))
    )
    with pytest.raises(CheckpointFailed, match="cannot name a file"):
        await files.store.save(strange)


async def test_a_slow_disk_holds_up_neither_the_loop_nor_the_order_of_saves(files, monkeypatch):
    gate = threading.Event()
    write = Folder.write

    def slow(self: Folder, name: str, content: bytes) -> None:
        assert gate.wait(10)
        write(self, name, content)

    monkeypatch.setattr(Folder, "write", slow)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(files.store.save(replace(a_task(), next_step=1)))
        await asyncio.sleep(0.01)
        first.cancel()  # the write itself cannot be called back
        second = group.create_task(files.store.save(replace(a_task(), next_step=2)))
        await asyncio.sleep(0.01)
        assert not second.done()
        gate.set()
    assert (await files.store.load_all()).tasks == (replace(a_task(), next_step=2),)
