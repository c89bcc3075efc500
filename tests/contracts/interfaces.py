"""What every ``InterfaceWatcher`` must do. Run by the fake's and each adapter's own test file."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Protocol

import pytest

from agent.model.ids import MacAddress
from agent.ports.network import InterfaceWatcher

LIMIT = 5.0


class InterfaceStage(Protocol):
    """What a test of the contract needs beside the port: hands on the host's links."""

    watcher: InterfaceWatcher

    async def add(self, mac: str) -> None:
        """Let a link with this MAC address appear."""

    async def remove(self, mac: str) -> None:
        """Take the link away."""


def a_mac() -> MacAddress:
    return MacAddress("0e:" + secrets.token_bytes(5).hex(":"))


async def until_seen(appearances: AsyncIterator[MacAddress], *macs: str) -> None:
    missing = set(macs)
    async with asyncio.timeout(LIMIT):
        async for mac in appearances:
            missing.discard(mac)
            if not missing:
                return
    raise AssertionError("appearances() ended; it must never end")


async def until_absent(watcher: InterfaceWatcher, mac: str) -> None:
    async with asyncio.timeout(LIMIT):
        while watcher.is_present(MacAddress(mac)):
            await asyncio.sleep(0.002)


class InterfaceContract:
    """Subclass it, and give a fixture ``stage``."""

    @pytest.fixture
    def stage(self) -> InterfaceStage:
        raise NotImplementedError("a contract needs a stage")

    async def test_a_link_that_is_not_there_is_not_present(self, stage):
        assert not stage.watcher.is_present(a_mac())

    async def test_a_link_that_appears_is_announced_and_present(self, stage):
        mac = a_mac()
        async with aclosing(stage.watcher.appearances()) as appearances:
            async with asyncio.TaskGroup() as group:
                group.create_task(until_seen(appearances, mac))
                await asyncio.sleep(0)
                await stage.add(mac)
            assert stage.watcher.is_present(mac)

    async def test_a_link_that_was_there_before_is_announced_to_a_new_reader(self, stage):
        mac = a_mac()
        await stage.add(mac)
        async with aclosing(stage.watcher.appearances()) as appearances:
            await until_seen(appearances, mac)

    async def test_upper_and_lower_case_are_the_same_address(self, stage):
        mac = a_mac()
        await stage.add(mac.upper())
        async with aclosing(stage.watcher.appearances()) as appearances:
            await until_seen(appearances, mac)
        assert stage.watcher.is_present(mac)
        assert stage.watcher.is_present(MacAddress(mac.upper()))

    async def test_a_link_that_goes_is_not_present_any_more(self, stage):
        mac = a_mac()
        await stage.add(mac)
        async with aclosing(stage.watcher.appearances()) as appearances:
            await until_seen(appearances, mac)
        await stage.remove(mac)
        await until_absent(stage.watcher, mac)

    async def test_a_link_that_comes_back_is_announced_again(self, stage):
        mac = a_mac()
        async with aclosing(stage.watcher.appearances()) as appearances:
            await stage.add(mac)
            await until_seen(appearances, mac)
            await stage.remove(mac)
            await until_absent(stage.watcher, mac)
            await stage.add(mac)
            await until_seen(appearances, mac)

    async def test_every_reader_sees_every_link(self, stage):
        first, second = a_mac(), a_mac()
        watcher = stage.watcher
        async with aclosing(watcher.appearances()) as one, aclosing(watcher.appearances()) as other:
            await stage.add(first)
            await until_seen(one, first)
            await stage.add(second)
            await until_seen(one, second)
            await until_seen(other, first, second)

    async def test_a_reader_that_went_away_disturbs_nobody(self, stage):
        mac = a_mac()
        async with aclosing(stage.watcher.appearances()) as appearances:
            gone = asyncio.ensure_future(anext(appearances))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
        async with aclosing(stage.watcher.appearances()) as appearances:
            await stage.add(mac)
            await until_seen(appearances, mac)
