"""The watcher against the kernel's own links: the contract, latency, lost events and a broken socket."""

import asyncio
import secrets
import statistics
import subprocess
import time
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.adapters import interfaces
from agent.adapters.interfaces import LinkWatcher
from tests.contracts.interfaces import InterfaceContract, a_mac, until_absent, until_seen

pytestmark = pytest.mark.integration


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Links:
    """Links of this machine with names of our own, all gone at the end."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def add(self, mac: str, kind: str = "ifb") -> str:
        name = f"bw{secrets.token_hex(5)}"
        self.names[mac.lower()] = name
        ip("link", "add", name, "address", mac, "type", kind)
        return name

    def remove(self, mac: str) -> None:
        ip("link", "del", self.names.pop(mac.lower()))

    def close(self) -> None:
        for name in self.names.values():
            subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)  # it may have gone


class KernelStage:
    def __init__(self, watcher: LinkWatcher, links: Links) -> None:
        self.watcher = watcher
        self.links = links

    async def add(self, mac: str) -> None:
        self.links.add(mac)

    async def remove(self, mac: str) -> None:
        self.links.remove(mac)


@pytest.fixture
def links():
    links = Links()
    yield links
    links.close()


@pytest.fixture
async def watcher():
    watcher = LinkWatcher()
    await watcher.start()
    yield watcher
    await watcher.aclose()


class TestLinkWatcher(InterfaceContract):
    @pytest.fixture
    def stage(self, watcher, links) -> KernelStage:
        return KernelStage(watcher, links)


async def test_a_link_is_seen_within_milliseconds(watcher, links):
    took = []
    async with aclosing(watcher.appearances()) as appearances:
        for _ in range(10):
            mac = a_mac()
            start = time.perf_counter()
            await asyncio.to_thread(links.add, mac)
            await until_seen(appearances, mac)
            took.append((time.perf_counter() - start) * 1000)
    print(f"link seen: median {statistics.median(took):.2f} ms, worst {max(took):.2f} ms, creation included")
    assert statistics.median(took) < 50


async def test_a_link_that_changes_its_address_is_known_under_the_new_one_only(watcher, links):
    old, new = a_mac(), a_mac()
    name = links.add(old, "bridge")  # an ifb keeps its address
    async with aclosing(watcher.appearances()) as appearances:
        await until_seen(appearances, old)
        ip("link", "set", name, "address", new)
        await until_seen(appearances, new)
    assert not watcher.is_present(old)


async def test_a_link_that_leaves_a_bridge_stays_present(watcher, links):
    mac, bridge = a_mac(), f"bw{secrets.token_hex(5)}"
    name = links.add(mac)
    links.names[bridge] = bridge
    ip("link", "add", bridge, "type", "bridge")
    ip("link", "set", name, "master", bridge)
    ip("link", "set", name, "nomaster")
    marker = a_mac()
    links.add(marker)
    async with aclosing(watcher.appearances()) as appearances:
        await until_seen(appearances, marker)
    assert watcher.is_present(mac)


async def test_a_link_that_moves_into_another_namespace_is_gone(watcher, links):
    mac = a_mac()
    name = links.add(mac)
    async with aclosing(watcher.appearances()) as appearances:
        await until_seen(appearances, mac)
    sleeper = await asyncio.create_subprocess_exec("unshare", "--net", "sleep", "30")
    try:
        home = Path("/proc/self/ns/net").readlink()
        async with asyncio.timeout(5):
            while Path(f"/proc/{sleeper.pid}/ns/net").readlink() == home:
                await asyncio.sleep(0.002)
        await asyncio.to_thread(ip, "link", "set", name, "netns", str(sleeper.pid))
        await until_absent(watcher, mac)
    finally:
        sleeper.kill()
        await sleeper.wait()


async def test_lost_events_are_made_up_for_by_listing_again(links, monkeypatch):
    monkeypatch.setattr(interfaces, "_RECEIVE_BUFFER", 1)
    watcher = LinkWatcher()
    await watcher.start()
    try:
        gone, noisy, late = a_mac(), a_mac(), a_mac()
        links.add(gone)
        name = links.add(noisy)
        async with aclosing(watcher.appearances()) as appearances:
            await until_seen(appearances, gone, noisy)
            with capture_logs() as logs:
                # The loop is held up all the while.
                lines = "".join(f"link set {name} mtu {mtu}\n" for mtu in range(1000, 1100))
                subprocess.run(["ip", "-batch", "-"], input=lines.encode(), check=True)
                links.remove(gone)
                links.add(late)
                await until_seen(appearances, late)
                await until_absent(watcher, gone)
        assert "interface_events.lost" in [line["event"] for line in logs]
    finally:
        await watcher.aclose()


async def test_a_link_that_no_event_told_of_is_found_by_the_next_listing(links, monkeypatch):
    monkeypatch.setattr(interfaces, "_RTMGRP_LINK", 0)  # deaf
    watcher = LinkWatcher(relist_every=timedelta(milliseconds=50))
    await watcher.start()
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(watcher.run())
            mac = a_mac()
            links.add(mac)
            async with aclosing(watcher.appearances()) as appearances:
                await until_seen(appearances, mac)
            links.remove(mac)
            await until_absent(watcher, mac)
            running.cancel()
    finally:
        await watcher.aclose()


async def test_a_broken_socket_is_replaced(links, monkeypatch):
    monkeypatch.setattr(interfaces, "_REOPEN_PAUSE_S", 0.01)
    watcher = LinkWatcher()
    await watcher.start()
    try:
        gone = a_mac()
        links.add(gone)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(watcher.run())
            async with aclosing(watcher.appearances()) as appearances:
                await until_seen(appearances, gone)
                before = watcher._socket
                watcher._break(OSError(5, "Input/output error"))
                links.remove(gone)
                mac = a_mac()
                links.add(mac)
                await until_seen(appearances, mac)
                await until_absent(watcher, gone)
            assert watcher._socket is not before
            running.cancel()
    finally:
        await watcher.aclose()
