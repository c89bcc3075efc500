"""The local backend keeps the contract of every backend."""

import contextlib

import pytest

from agent.adapters.clock import SystemClock
from agent.model.ids import TaskArn, task_id
from agent.model.status import TaskStatus
from tests.agent.adapters.local.stage import NGINX, MemoryVpc, in_subnet, running
from tests.contracts.backend import BackendContract

HELD = {
    "PROVISIONING": TaskStatus.PENDING,
    "PENDING": TaskStatus.PENDING,
    "RUNNING": TaskStatus.RUNNING,
    "STOPPING": TaskStatus.RUNNING,
    "DEPROVISIONING": TaskStatus.STOPPED,
    "STOPPED": TaskStatus.STOPPED,
}


class LocalStage:
    def __init__(self, stage) -> None:
        self.stage = stage
        self.backend = stage.backend

    async def assign(self) -> TaskArn:
        await self.backend.perform("RegisterTaskDefinition", dict(NGINX))
        answer = await self.backend.perform(
            "RunTask", {"taskDefinition": NGINX["family"], "networkConfiguration": in_subnet()}
        )
        return TaskArn(answer["tasks"][0]["taskArn"])

    async def ask_to_stop(self, arn: TaskArn, reason: str) -> None:
        await self.backend.perform("StopTask", {"task": arn, "reason": reason})

    async def held_status(self, arn: TaskArn) -> TaskStatus | None:
        answer = await self.backend.perform("DescribeTasks", {"tasks": [task_id(arn)]})
        return HELD[answer["tasks"][0]["lastStatus"]]


class TestLocalBackend(BackendContract):
    @pytest.fixture
    async def stage(self, tmp_path):
        async with contextlib.AsyncExitStack() as stack:
            started = await stack.enter_async_context(running(tmp_path, SystemClock(), vpc=MemoryVpc()))
            yield LocalStage(started)
