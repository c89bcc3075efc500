"""The checkpoints in memory keep the contract, and fail as they are told."""

from dataclasses import replace

import pytest

from agent.model.errors import CheckpointFailed
from agent.model.state import TaskState
from tests.contracts.checkpoint import CheckpointContract, a_task
from tests.fakes.checkpoint import MemoryCheckpoints


class MemoryStage:
    def __init__(self) -> None:
        self.store = MemoryCheckpoints()

    async def restarted(self) -> MemoryCheckpoints:
        self.store.failure = None
        return self.store

    def damage(self, task: TaskState) -> None:
        self.store.put_raw(f"{task.task_id}.json", b'{"version":1,"ta')

    def forbid_writing(self) -> None:
        self.store.failure = "no space left on device"


class TestMemoryCheckpoints(CheckpointContract):
    @pytest.fixture
    def stage(self) -> MemoryStage:
        return MemoryStage()


async def test_the_save_after_the_last_one_that_fits_fails():
    store = MemoryCheckpoints()
    store.saves_left = 1
    await store.save(a_task())
    with pytest.raises(CheckpointFailed, match="no space left"):
        await store.save(replace(a_task(), next_step=2))
    assert store.held() == (a_task(),)
    assert store.saved == [a_task()]
