"""The stage of the local backend, started for each test that asks for it."""

import pytest

from agent.adapters.clock import SystemClock
from tests.agent.adapters.local.stage import running


@pytest.fixture
async def stage(tmp_path):
    async with running(tmp_path / "data", SystemClock()) as stage:
        yield stage
