"""The fake network keeps the contract, and fails and hangs as it is told."""

import asyncio
from ipaddress import IPv4Network
from itertools import count

import pytest

from agent.model.errors import CannotAttachNetwork
from agent.model.ids import ContainerId
from agent.model.spec import NetworkInterface
from agent.ports.network import SandboxRef
from tests.contracts.network import NetworkContract, an_eni
from tests.fakes.network import FakeNetwork, port_name


class FakeStage:
    def __init__(self) -> None:
        self.provider = FakeNetwork()
        self.subnet = IPv4Network("169.254.172.0/22")
        self._numbers = count(1)

    async def sandbox(self) -> SandboxRef:
        number = next(self._numbers)
        return SandboxRef(ContainerId(f"{number:064x}"), pid=1000 + number)

    async def eni(self) -> NetworkInterface:
        return an_eni(next(self._numbers))

    async def kill(self, sandbox: SandboxRef) -> None:
        self.provider.namespace_died(sandbox.container_id)

    async def is_attached(self, sandbox: SandboxRef) -> bool:
        return self.provider.is_attached(sandbox.container_id)

    async def ports(self) -> list[str]:
        return sorted(map(port_name, self.provider.joined))

    async def break_attach(self) -> None:
        self.provider.lose_answer()

    async def heal(self) -> None:
        self.provider.heal()


@pytest.fixture
def stage() -> FakeStage:
    return FakeStage()


class TestFakeNetwork(NetworkContract):
    @pytest.fixture
    def stage(self, stage) -> FakeStage:
        return stage


async def test_a_failure_comes_as_often_as_asked(stage):
    sandbox, eni = await stage.sandbox(), await stage.eni()
    stage.provider.fail("attach", "ecs-eni: broken", times=2)
    for _ in range(2):
        with pytest.raises(CannotAttachNetwork, match="ecs-eni: broken"):
            await stage.provider.attach(sandbox, eni)
    await stage.provider.attach(sandbox, eni)


async def test_a_lasting_failure_lasts_until_healed(stage):
    sandbox, eni = await stage.sandbox(), await stage.eni()
    stage.provider.fail("detach", times=None)
    for _ in range(3):
        with pytest.raises(CannotAttachNetwork):
            await stage.provider.detach(sandbox, eni)
    stage.provider.heal()
    await stage.provider.detach(sandbox, eni)


async def test_a_hanging_attach_goes_on_when_released(stage):
    sandbox, eni = await stage.sandbox(), await stage.eni()
    stage.provider.hang("attach")
    async with asyncio.TaskGroup() as group:
        attaching = group.create_task(stage.provider.attach(sandbox, eni))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not attaching.done()
        stage.provider.release("attach")
    assert attaching.result().local_ipv4 == "169.254.172.2"
    assert stage.provider.calls == [("attach", sandbox.container_id)]
    assert stage.provider.most_at_once == 1


async def test_a_hanging_attach_that_is_cancelled_attaches_nothing(stage):
    sandbox, eni = await stage.sandbox(), await stage.eni()
    stage.provider.hang("attach")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await stage.provider.attach(sandbox, eni)
    assert not stage.provider.is_attached(sandbox.container_id)


async def test_looking_for_leftovers_fails_as_asked(stage):
    stage.provider.fail("leftovers", "cannot list")
    with pytest.raises(CannotAttachNetwork, match="cannot list"):
        await stage.provider.leftovers(frozenset)
    assert await stage.provider.leftovers(frozenset) == ()
