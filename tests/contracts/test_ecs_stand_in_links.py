"""The stand-in's network interfaces on the real kernel: they appear, move, connect, and leave nothing."""

import json
import os
import secrets
import subprocess
from collections.abc import Iterator

import pytest

from tests.fakes.ecs.links import EniLinks

pytestmark = pytest.mark.integration


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def macs() -> dict[str, str]:
    return {each["address"]: each["ifname"] for each in json.loads(ip("-j", "link"))}


@pytest.fixture
def links() -> Iterator[EniLinks]:
    with EniLinks(gateway_ipv6="fd00:77::1/64") as links:
        yield links


@pytest.fixture
def task() -> Iterator[str]:
    """A task's namespace."""
    name = f"fkt-{secrets.token_hex(3)}"
    ip("netns", "add", name)
    yield name
    subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def move(links: EniLinks, task: str, device: str, address: str) -> None:
    ip("link", "set", device, "netns", task)
    ip("-n", task, "addr", "add", f"{address}/16", "dev", device)
    ip("-n", task, "link", "set", device, "up")


def test_a_device_with_its_mac_appears_and_goes(links: EniLinks) -> None:
    eni = links.plan()
    assert links.where(eni.mac) == "gone"
    device = links.appear(eni)
    assert macs()[eni.mac] == device
    assert links.where(eni.mac) == "host"
    assert links.detach(eni.mac)
    assert not links.detach(eni.mac)
    assert eni.mac not in macs()


def test_a_moved_device_reaches_the_gateway_and_is_reached(links: EniLinks, task: str) -> None:
    eni = links.plan()
    move(links, task, links.appear(eni), eni.ipv4)
    assert links.where(eni.mac) == "moved"
    assert links.ping(eni.ipv4)
    assert not links.ping("10.77.9.9", seconds=0.3)
    with links.listen(8080) as listener:
        program = "import socket; socket.create_connection(('10.77.0.1', 8080), 2).sendall(b'hello')"
        caller = subprocess.Popen(["nsenter", f"--net=/run/netns/{task}", "python3", "-c", program])
        listener.settimeout(5)
        connection, sender = listener.accept()
        with connection:
            assert (connection.recv(9), sender[0]) == (b"hello", eni.ipv4)
        assert caller.wait(5) == 0
    with pytest.raises(OSError, match="refused"):
        links.connect(eni.ipv4, 81)


def test_a_device_comes_back_or_ends_with_the_task(links: EniLinks, task: str) -> None:
    eni = links.plan()
    device = links.appear(eni)
    move(links, task, device, eni.ipv4)
    ip("-n", task, "link", "set", device, "netns", str(os.getpid()))
    assert links.where(eni.mac) == "host"
    move(links, task, device, eni.ipv4)
    assert links.detach(eni.mac)
    assert device not in ip("-n", task, "link")


def test_interfaces_of_a_subnet_are_told_apart(links: EniLinks) -> None:
    first, second = links.plan(), links.plan()
    assert len({first.mac, second.mac, first.ipv4, second.ipv4, first.ipv6, second.ipv6}) == 6
    assert first.document()["subnetGatewayIpv6Address"] == "fd00:77::1/64"
    assert first.document()["subnetGatewayIpv4Address"] == "10.77.0.1/16"


def test_nothing_is_left(task: str) -> None:
    before = set(macs())
    links = EniLinks().start()
    for _ in range(2):
        eni = links.plan()
        device = links.appear(eni)
    move(links, task, device, eni.ipv4)
    links.close()
    links.close()
    assert set(macs()) == before
    assert links.namespace not in ip("netns")
    assert json.loads(ip("-n", task, "-j", "link", "show", "type", "veth") or "[]") in ([], [{}])
