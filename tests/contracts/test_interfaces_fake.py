"""The fake interfaces keep the contract."""

import pytest

from tests.contracts.interfaces import InterfaceContract
from tests.fakes.interfaces import FakeInterfaces


class FakeStage:
    def __init__(self) -> None:
        self.watcher = FakeInterfaces()

    async def add(self, mac: str) -> None:
        self.watcher.appear(mac)

    async def remove(self, mac: str) -> None:
        self.watcher.disappear(mac)


class TestFakeInterfaces(InterfaceContract):
    @pytest.fixture
    def stage(self) -> FakeStage:
        return FakeStage()
