"""The netlink vocabulary against the real kernel, read back by iproute2."""

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cni_plugins.kernel import addresses, links, operations
from cni_plugins.kernel import rtnetlink as rt
from cni_plugins.kernel.errors import KernelRefused
from cni_plugins.kernel.operations import Operation, OperationFailed
from cni_plugins.skeleton.prefix import parse_address, parse_prefix
from tests.cni_plugins.cnilab import Lab


def test_attributes_are_padded_and_read_back() -> None:
    packed = rt.attribute(3, b"abc") + rt.number(4, 7) + rt.nested(5, rt.text(1, "x"))
    assert len(packed) % 4 == 0
    found = rt.attributes(b"head" + packed, 4)
    assert (found[3], found[4], rt.attributes(found[5])) == (b"abc", b"\7\0\0\0", {1: b"x\0"})
    assert rt.attributes(b"\1\0\0\0") == {}


def inside(lab: Lab, work: Callable[[rt.Netlink], Any]) -> Any:
    """Run with a netlink socket of the lab's host namespace, from a thread that ends with it."""
    outcome: list[Any] = []

    def visit() -> None:
        descriptor = os.open(lab.host.path, os.O_RDONLY)
        try:
            assert ctypes.CDLL(None).setns(descriptor, 0x40000000) == 0
            netlink = rt.Netlink()
        finally:
            os.close(descriptor)
        try:
            outcome.append(work(netlink))
        except (KernelRefused, OperationFailed) as error:
            outcome.append(error)
        finally:
            netlink.close()

    thread = threading.Thread(target=visit)
    thread.start()
    thread.join()
    return outcome[0]


@pytest.mark.integration
def test_links_are_seen_as_they_are(lab: Lab) -> None:
    lab.host.sh(
        "ip link add br1 type bridge; ip link add v1 type veth peer name v2; ip link set v1 master br1 mtu 1400"
    )
    lab.host.sh("ip link set v2 alias hello up; bridge link set dev v1 isolated on learning off")
    found = {link.name: link for link in inside(lab, links.list_links)}
    stated = lab.host.links()
    for name, link in found.items():
        assert (link.index, link.mac.hex(":"), link.mtu) == (
            stated[name]["ifindex"],
            stated[name]["address"],
            stated[name]["mtu"],
        )
    assert (found["v1"].kind, found["v1"].master, found["v1"].is_guarded) == (
        "veth",
        found["br1"].index,
        True,
    )
    assert (found["v2"].alias, found["v2"].up, found["v2"].lower) == ("hello", True, found["v1"].index)
    assert inside(lab, lambda netlink: links.find_link(netlink, "absent")) is None
    assert inside(lab, lambda netlink: links.find_link_at(netlink, found["v2"].index)) == found["v2"]


@pytest.mark.integration
def test_every_acknowledgement_of_a_datagram_is_checked(lab: Lab) -> None:
    destination, gateway, prefix = (
        parse_prefix("10.0.0.0/8"),
        parse_address("192.0.2.1"),
        parse_prefix("192.0.2.9/24"),
    )
    assert destination is not None
    assert gateway is not None
    assert prefix is not None
    steps = [
        Operation("add the address", addresses.add_address(1, prefix)),
        Operation("add it again", addresses.add_address(1, prefix), tolerated=(17,)),
        Operation("add a route", addresses.add_route(destination, gateway, 1), subject="the subject"),
        Operation("add a route over nothing", addresses.add_route(destination, gateway, 999)),
    ]
    tolerated = inside(lab, lambda netlink: operations.apply(netlink, steps[:3]))
    assert [step.purpose for step in tolerated] == ["add it again"]
    failed = inside(lab, lambda netlink: operations.apply(netlink, steps[2:]))
    assert isinstance(failed, OperationFailed)
    assert str(failed).startswith("unable to add a route: file exists")
    assert str(failed).endswith("[the subject]")
    troubles = inside(lab, lambda netlink: operations.undo(netlink, steps))
    assert len(troubles) == 3


@pytest.mark.integration
def test_a_refusal_carries_the_kernels_own_words(lab: Lab) -> None:
    refusal = inside(lab, lambda netlink: netlink.send([links.delete_link(1)])[0])
    assert isinstance(refusal, KernelRefused)
    assert refusal.errno == 95
    missing = inside(
        lab, lambda netlink: netlink.ask(rt.Message(rt.GETLINK, 0, bytes(4) + b"\xff\xff\0\0" + bytes(8)))
    )
    assert (missing.errno, str(missing)) == (19, "no such device")


@pytest.mark.integration
def test_a_table_longer_than_one_buffer_is_read_to_its_end(lab: Lab) -> None:
    batch = lab.scratch / "batch"
    batch.write_text("".join(f"route add blackhole 10.{n // 256}.{n % 256}.0/24\n" for n in range(3000)))
    lab.host.sh(f"ip -batch {batch}")
    assert len(inside(lab, addresses.list_routes)) == 3000
