"""What every ``NetworkProvider`` must do. Run by the fake's and each adapter's own test file."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Protocol

import pytest

from agent.model.errors import CannotAttachNetwork
from agent.model.ids import ContainerId, MacAddress
from agent.model.spec import NetworkInterface
from agent.ports.network import NetworkProvider, SandboxRef


class NetworkStage(Protocol):
    """What a test of the contract needs beside the port: sandboxes, ENIs, and eyes in the kernel."""

    provider: NetworkProvider
    subnet: IPv4Network

    async def sandbox(self) -> SandboxRef:
        """A new sandbox whose process runs."""

    async def eni(self) -> NetworkInterface:
        """A new ENI on this machine."""

    async def kill(self, sandbox: SandboxRef) -> None:
        """End the sandbox's process, and its namespace with it."""

    async def is_attached(self, sandbox: SandboxRef) -> bool:
        """Whether the sandbox has its ENI or its link to the agent."""

    async def ports(self) -> list[str]:
        """The names of all ports of the bridge, sorted."""

    async def break_attach(self) -> None:
        """Let attach fail until ``heal``, if possible after a part of it is done."""

    async def heal(self) -> None:
        """Let attach succeed again."""


def an_eni(number: int = 1) -> NetworkInterface:
    return NetworkInterface(
        attachment_arn=f"arn:aws:ecs:us-east-1:000000000000:attachment/{number}",
        eni_id=f"eni-{number:04x}",
        subnet_id="subnet-1",
        mac_address=MacAddress(f"0e:00:00:00:{number // 256:02x}:{number % 256:02x}"),
        ipv4_addresses=(IPv4Interface(f"10.0.1.{number + 4}/24"),),
        gateways=("10.0.1.1",),
        expires_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


class NetworkContract:
    """Subclass it, and give a fixture ``stage``."""

    @pytest.fixture
    def stage(self) -> NetworkStage:
        raise NotImplementedError("a contract needs a stage")

    async def test_an_attached_sandbox_has_an_address_on_the_task_bridge(self, stage):
        sandbox, eni = await stage.sandbox(), await stage.eni()
        attachment = await stage.provider.attach(sandbox, eni)
        assert IPv4Address(attachment.local_ipv4) in stage.subnet
        assert attachment.interface_name == "eth0"
        assert await stage.is_attached(sandbox)

    async def test_what_is_attached_may_be_attached_again_as_after_a_crash_before_the_answer_was_saved(
        self, stage
    ):
        sandbox, eni = await stage.sandbox(), await stage.eni()
        await stage.provider.attach(sandbox, eni)
        again = await stage.provider.attach(sandbox, eni)
        assert IPv4Address(again.local_ipv4) in stage.subnet
        assert await stage.is_attached(sandbox)
        await stage.provider.detach(sandbox, eni)
        assert not await stage.is_attached(sandbox)

    async def test_two_sandboxes_have_different_addresses(self, stage):
        first = await stage.provider.attach(await stage.sandbox(), await stage.eni())
        second = await stage.provider.attach(await stage.sandbox(), await stage.eni())
        assert first.local_ipv4 != second.local_ipv4

    async def test_several_sandboxes_may_be_attached_and_detached_at_once(self, stage):
        pairs = [(await stage.sandbox(), await stage.eni()) for _ in range(4)]
        attachments = await asyncio.gather(*(stage.provider.attach(*pair) for pair in pairs))
        assert len({attachment.local_ipv4 for attachment in attachments}) == len(pairs)
        await asyncio.gather(*(stage.provider.detach(*pair) for pair in pairs))
        assert [await stage.is_attached(sandbox) for sandbox, _ in pairs] == [False] * len(pairs)

    async def test_detaching_takes_everything_away(self, stage):
        sandbox, eni = await stage.sandbox(), await stage.eni()
        await stage.provider.attach(sandbox, eni)
        await stage.provider.detach(sandbox, eni)
        assert not await stage.is_attached(sandbox)

    async def test_detaching_what_is_not_attached_succeeds(self, stage):
        sandbox, eni = await stage.sandbox(), await stage.eni()
        await stage.provider.detach(sandbox, eni)
        await stage.provider.attach(sandbox, eni)
        await stage.provider.detach(sandbox, eni)
        await stage.provider.detach(sandbox, eni)
        assert not await stage.is_attached(sandbox)

    async def test_detaching_succeeds_when_the_sandbox_has_died(self, stage):
        sandbox, eni = await stage.sandbox(), await stage.eni()
        await stage.provider.attach(sandbox, eni)
        await stage.kill(sandbox)
        await stage.provider.detach(replace(sandbox, pid=None), eni)
        await stage.provider.detach(sandbox, eni)

    async def test_a_sandbox_without_a_process_cannot_be_attached(self, stage):
        sandbox, eni = await stage.sandbox(), await stage.eni()
        with pytest.raises(CannotAttachNetwork):
            await stage.provider.attach(replace(sandbox, pid=None), eni)
        assert not await stage.is_attached(sandbox)

    async def test_what_is_left_of_an_unknown_sandbox_is_found_and_removed_by_name(self, stage):
        kept, lost = await stage.sandbox(), await stage.sandbox()
        await stage.provider.attach(kept, await stage.eni())
        (kept_port,) = await stage.ports()
        await stage.provider.attach(lost, await stage.eni())

        def known() -> frozenset[ContainerId]:
            return frozenset({kept.container_id})

        found = await stage.provider.leftovers(known)
        assert {*found, kept_port} == set(await stage.ports())
        assert len(found) == 1
        assert await stage.provider.remove_leftovers(known) == found
        assert await stage.ports() == [kept_port]
        assert await stage.is_attached(kept)
        assert await stage.provider.leftovers(known) == ()
        assert await stage.provider.remove_leftovers(known) == ()

    async def test_where_nothing_was_ever_attached_nothing_is_left(self, stage):
        assert await stage.provider.leftovers(frozenset) == ()
        assert await stage.provider.remove_leftovers(frozenset) == ()

    async def test_what_is_being_attached_is_never_a_leftover(self, stage):
        attached: set[ContainerId] = set()

        async def attach() -> None:
            sandbox, eni = await stage.sandbox(), await stage.eni()
            await stage.provider.attach(sandbox, eni)
            attached.add(sandbox.container_id)

        async with asyncio.TaskGroup() as group:
            attaching = [group.create_task(attach()) for _ in range(4)]
            while not all(each.done() for each in attaching):
                assert await stage.provider.leftovers(lambda: frozenset(attached)) == ()
                assert await stage.provider.remove_leftovers(lambda: frozenset(attached)) == ()
        assert len(await stage.ports()) == len(attached) == len(attaching)

    async def test_what_is_left_of_a_dead_sandbox_can_be_removed(self, stage):
        sandbox, eni = await stage.sandbox(), await stage.eni()
        await stage.provider.attach(sandbox, eni)
        await stage.kill(sandbox)
        await stage.provider.remove_leftovers(frozenset)
        assert await stage.ports() == []
        assert await stage.provider.leftovers(frozenset) == ()

    async def test_a_failed_attach_leaves_nothing_that_detach_does_not_take_away(self, stage):
        sandbox, eni = await stage.sandbox(), await stage.eni()
        await stage.break_attach()
        with pytest.raises(CannotAttachNetwork) as caught:
            await stage.provider.attach(sandbox, eni)
        assert str(caught.value)
        await stage.provider.detach(sandbox, eni)
        assert not await stage.is_attached(sandbox)

    async def test_after_a_failed_attach_another_may_succeed(self, stage):
        sandbox, eni = await stage.sandbox(), await stage.eni()
        await stage.break_attach()
        with pytest.raises(CannotAttachNetwork):
            await stage.provider.attach(sandbox, eni)
        await stage.heal()
        await stage.provider.attach(sandbox, eni)
        assert await stage.is_attached(sandbox)
