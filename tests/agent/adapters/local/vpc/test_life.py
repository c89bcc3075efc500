"""The VPC's life: interfaces come and go, and everything is removed without trace."""

import asyncio
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.local.vpc.errors import BadVpcPlan, InterfaceConflict, KernelRefused, NameTaken
from agent.adapters.local.vpc.plan import default_plan
from agent.adapters.local.vpc.vpc import SimulatedVpc

pytestmark = pytest.mark.integration


async def test_asking_twice_for_an_interface_is_asking_once(world):
    eni = world.eni(5)

    await world.vpc.ensure_interface(eni)
    first = world.machine.sh("ip -o link")
    await world.vpc.ensure_interface(eni)

    assert world.machine.sh("ip -o link") == first
    assert await world.vpc.interfaces() == {eni.eni_id}


async def test_an_interface_inside_a_task_is_left_alone_when_asked_for_again(world):
    eni, other = world.eni(5), world.eni(6)
    task, peer = await world.task(eni), await world.task(other)
    world.listens(task)

    await world.vpc.ensure_interface(eni)

    assert eni.mac_address not in world.machine_links()
    assert world.connects(peer, eni.ipv4_address)


async def test_removing_takes_the_interface_out_of_the_task_and_may_be_repeated(world):
    eni = world.eni(5)
    task = await world.task(eni)

    await world.vpc.remove_interface(eni.eni_id)
    await world.vpc.remove_interface(eni.eni_id)

    assert "eth0" not in task.sh("ip -o link")
    assert await world.vpc.interfaces() == frozenset()


async def test_an_interface_that_died_with_its_task_can_be_removed_and_made_again(world):
    eni = world.eni(5, ipv6=True)
    other = world.eni(6, ipv6=True)
    peer = await world.task(other)
    world.end(await world.task(eni))
    await _until(world.vpc.interfaces, {other.eni_id})

    await world.vpc.remove_interface(eni.eni_id)
    router = world.router()
    try:
        assert str(eni.ipv6_address) not in router.sh("ip -6 neigh show proxy")
    finally:
        router.close()

    task = await world.task(eni)
    assert peer.pings(eni.ipv4_address)
    assert task.pings(other.ipv6_address)


async def test_an_address_that_is_taken_is_refused_and_nothing_is_left(world):
    await world.vpc.ensure_interface(world.eni(5))
    before = world.machine.sh("ip -o link")
    thief = replace(world.eni(6), ipv4_address=world.eni(5).ipv4_address)

    with pytest.raises(InterfaceConflict, match=r"10\.211\.0\.5 belongs to another"):
        await world.vpc.ensure_interface(thief)
    with pytest.raises(InterfaceConflict, match="remove it first"):
        await world.vpc.ensure_interface(replace(world.eni(5), ipv4_address="10.211.0.9"))

    assert world.machine.sh("ip -o link") == before
    assert await world.vpc.verify() == ()


async def test_an_interface_of_another_vpc_is_refused_before_anything_is_made(world):
    with pytest.raises(BadVpcPlan) as refusal:
        await world.vpc.ensure_interface(
            replace(world.eni(5), ipv4_address="10.211.0.1", mac_address="nonsense", mtu=9)
        )
    assert len(refusal.value.problems) == 3
    assert await world.vpc.interfaces() == frozenset()


async def test_without_ensure_there_is_a_clear_error(machine, namespace):
    vpc = SimulatedVpc(
        default_plan("us-east-1", seed="x"), namespace=namespace, host_namespace_fd=machine.descriptor
    )
    try:
        plan = default_plan("us-east-1", seed="x")
        with pytest.raises(KernelRefused, match="ensure"):
            await vpc.ensure_interface(_first(plan))
        assert await vpc.verify() != ()
        await vpc.remove_interface("eni-" + "0" * 17)
        await vpc.destroy()
    finally:
        await vpc.aclose()


async def test_twenty_interfaces_at_once_are_twenty_interfaces(world):
    enis = [world.eni(10 + number, subnet=number % 2, ipv6=True) for number in range(20)]

    began = time.monotonic()
    await asyncio.gather(*(world.vpc.ensure_interface(eni) for eni in enis))
    each_ms = (time.monotonic() - began) * 1000 / len(enis)

    assert await world.vpc.interfaces() == {eni.eni_id for eni in enis}
    links = world.machine_links()
    assert all(eni.mac_address in links for eni in enis)
    assert await world.vpc.verify() == ()
    assert each_ms < 100, "two busy cores; a few ms when idle"

    await asyncio.gather(*(world.vpc.remove_interface(eni.eni_id) for eni in enis))
    assert await world.vpc.interfaces() == frozenset()


async def test_the_event_loop_is_never_blocked(world):
    worst = 0.0

    async def watch():
        nonlocal worst
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.001)
            worst = max(worst, time.monotonic() - began)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        enis = [world.eni(10 + number) for number in range(10)]
        await asyncio.gather(*(world.vpc.ensure_interface(eni) for eni in enis))
        began = time.monotonic()
        await asyncio.gather(*(world.vpc.remove_interface(eni.eni_id) for eni in enis))
        took = time.monotonic() - began
        watching.cancel()

    assert worst < max(0.1, took / 2)  # ten removals in the loop would block it for all of their time


async def test_destroy_leaves_no_trace(machine, namespace):
    plan = default_plan("us-east-1", seed=namespace, ipv6_cidr="fd00:211::/56")
    before = _snapshot(machine, namespace)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    vpc = SimulatedVpc(plan, namespace=namespace, host_namespace_fd=machine.descriptor)
    try:
        await vpc.ensure()
        for host in range(4, 8):
            await vpc.ensure_interface(_first(plan, host))
        await vpc.ensure_instance_interface(_first(plan, 10))
        await vpc.ensure_host("other", _first(plan, 11))
        assert _snapshot(machine, namespace) != before
    finally:
        await vpc.destroy()
        await vpc.destroy()
        await vpc.aclose()

    assert _snapshot(machine, namespace) == before
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


async def test_a_foreign_namespace_is_neither_used_nor_destroyed(machine, namespace):
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True)
    vpc = SimulatedVpc(
        default_plan("us-east-1", seed="x"), namespace=namespace, host_namespace_fd=machine.descriptor
    )
    try:
        with pytest.raises(NameTaken, match=namespace):
            await vpc.ensure()
        with pytest.raises(NameTaken, match=namespace):
            await vpc.destroy()
        assert Path("/run/netns", namespace).exists()
    finally:
        await vpc.aclose()
        subprocess.run(["ip", "netns", "del", namespace], check=True)


async def test_two_vpcs_whose_names_begin_alike_do_not_touch_each_other(machine, namespace):
    plan = default_plan("us-east-1", seed="x")
    one = SimulatedVpc(plan, namespace=namespace, host_namespace_fd=machine.descriptor)
    two = SimulatedVpc(plan, namespace=f"{namespace}-two", host_namespace_fd=machine.descriptor)
    try:
        await one.ensure()
        await two.ensure()
        await two.ensure_host("web", _first(plan))

        await one.destroy()

        assert await two.verify() == ()
        assert Path("/run/netns", f"{namespace}-two-web").exists()
    finally:
        for vpc in (one, two):
            await vpc.destroy()
            await vpc.aclose()


def test_the_directory_of_names_is_given_back_if_it_was_made_here():
    # In a mount namespace of its own, where /run/netns can be made and unmade without disturbing anyone.
    script = """
import asyncio, os
from agent.adapters.local.vpc import namespaces
thread = namespaces.NamespaceThread()
async def main():
    os.close(await thread.run(thread.create, "one"))
    os.close(await thread.run(thread.create, "two"))
    assert namespaces.names("") == ("one", "two")
    def mounts():
        with open("/proc/self/mountinfo") as lines:
            everything = [line.split() for line in lines]
        new = everything[[line[4] for line in everything].index("/run") :]  # the file system made for this test
        return [" ".join(line) for line in new if line[4] == "/run/netns"]
    assert ["shared:" in line for line in mounts()] == [True]
    namespaces.remove("one")
    assert namespaces.names("") == ("two",)
    namespaces.remove("two")
    namespaces.remove("two")
    await thread.close()
    assert not os.path.exists("/run/netns")
    assert mounts() == []
    os.mkdir("/run/netns")
    os.close(await (again := namespaces.NamespaceThread()).run(again.create, "three"))
    namespaces.remove("three")
    await again.close()
    assert os.listdir("/run/netns") == [] and os.listxattr("/run/netns") == []
asyncio.run(main())
"""
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "--propagation",
            "private",
            "sh",
            "-c",
            'mount -t tmpfs none /run && exec "$@"',
            "sh",
            sys.executable,
            "-c",
            script,
        ],
        cwd=Path(__file__).parents[5],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr


def _first(plan, host=5):
    from agent.adapters.local.vpc import addresses
    from agent.adapters.local.vpc.plan import InterfacePlan

    subnet = plan.subnets[0]
    eni_id = addresses.eni_id(f"{plan.vpc_id}/{host}")
    ipv6 = str(subnet.ipv6_network[host]) if subnet.ipv6_network else None
    return InterfacePlan(
        eni_id, subnet.subnet_id, addresses.mac_address(eni_id), str(subnet.ipv4_network[host]), ipv6
    )


def _snapshot(machine, namespace):
    commands = (
        "ip -o link",
        "ip -o addr",
        "ip route show table all",
        "ip -6 route show table all",
        "ip rule",
        "ip -6 rule",
        "nft list ruleset",
        "ip neigh",
    )
    shown = tuple(machine.sh(command) for command in commands)
    files = tuple(sorted(path.name for path in Path("/run/netns").glob(f"{namespace}*")))
    mounts = tuple(
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if namespace in line
    )
    return shown, files, mounts


async def _until(ask, expected):
    deadline = time.monotonic() + 5
    while (found := await ask()) != expected:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)
