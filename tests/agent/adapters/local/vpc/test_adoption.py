"""A restarted agent: it adopts the VPC that is there, reports damage and repairs it."""

import asyncio
import os
import socket
import subprocess
import time
from functools import partial

import pytest

from agent.adapters.local.vpc import layout
from agent.adapters.local.vpc.plan import gateway
from agent.adapters.local.vpc.vpc import SimulatedVpc

pytestmark = pytest.mark.integration


async def test_a_new_agent_adopts_what_is_there(world):
    first, second, later = world.eni(5, ipv6=True), world.eni(6, ipv6=True), world.eni(7, ipv6=True)
    a, b = await world.task(first), await world.task(second)
    world.listens(b)
    kept = world.connects(a, second.ipv4_address)

    vpc = await world.restart()

    assert kept
    assert await vpc.interfaces() == {first.eni_id, second.eni_id}
    await vpc.ensure_interface(first)
    assert world.connects(a, second.ipv4_address)
    c = await world.task(later)
    assert c.pings(first.ipv6_address)
    assert a.pings(later.ipv6_address)
    assert await vpc.verify() == ()


async def test_an_open_connection_survives_the_agents_restart(world):
    first, second = world.eni(5), world.eni(6)
    a, b = await world.task(first), await world.task(second)
    listener = world.listens(b)

    def connected():
        made = socket.socket()
        made.settimeout(3)
        made.connect((second.ipv4_address, 80))
        return made

    client = a.call(connected)
    server, _ = listener.accept()
    world.sockets += [client, server]
    await world.restart()

    server.sendall(b"still here")
    assert client.recv(100) == b"still here"


async def test_damage_is_reported_and_repaired(world):
    eni = world.eni(5, ipv6=True)
    await world.vpc.ensure_interface(eni)
    await world.vpc.ensure_interface(world.eni(6, ipv6=True))
    assert await world.vpc.verify() == ()
    router = world.router()
    link = layout.router_link(eni.eni_id)
    try:
        for command in (
            "sysctl -qw net.ipv4.conf.all.rp_filter=0",
            f"ip addr del {gateway(world.plan.subnets[1])}/32 dev lo",
            "nft delete table inet berth",
            "ip route del unreachable default",
            "ip -6 route del unreachable default",
            f"ip route del {eni.ipv4_address}",
            f"ip neigh del {eni.ipv4_address} dev {link}",
            f"ip -6 neigh del proxy {world.eni(6, ipv6=True).ipv6_address} dev {link}",
        ):
            router.sh(command)
    finally:
        router.close()

    problems = await world.vpc.verify()
    for word in (
        "rp_filter is 0",
        "10.211.16.1",
        "table inet berth",
        "unreachable route to 0.0.0.0/0",
        "unreachable route to ::/0",
        "route to 10.211.0.5",
        "neighbour entry of 10.211.0.5",
        "does not answer for fd00:211::6",
    ):
        assert any(word in problem for problem in problems), (word, problems)

    await world.vpc.ensure()
    await world.vpc.ensure_interface(eni)
    assert await world.vpc.verify() == ()


async def test_a_router_that_lost_its_name_gets_it_back_and_tasks_notice_nothing(world):
    first, second = world.eni(5), world.eni(6)
    a, _ = await world.task(first), await world.task(second)
    subprocess.run(["ip", "netns", "del", world.namespace], check=True)

    assert any("lost its name" in problem for problem in await world.vpc.verify())
    assert await world.vpc.interfaces() == {first.eni_id, second.eni_id}
    assert a.pings(second.ipv4_address)

    await world.vpc.ensure()
    assert await world.vpc.verify() == ()
    await world.restart()
    assert await world.vpc.interfaces() == {first.eni_id, second.eni_id}
    assert a.pings(second.ipv4_address)


async def test_a_router_that_vanished_while_no_agent_ran_is_missed_and_made_again(world):
    await world.vpc.ensure_interface(world.eni(5))
    await world.vpc.aclose()
    subprocess.run(["ip", "netns", "del", world.namespace], check=True)
    world.vpc = SimulatedVpc(
        world.plan, namespace=world.namespace, host_namespace_fd=world.machine.descriptor
    )

    assert await world.vpc.verify() == (f"namespace {world.namespace}: the VPC's router is missing",)
    assert await world.vpc.interfaces() == frozenset()
    await _until(partial(_on_machine, world), frozenset())  # the kernel cleans up in its own time

    await world.vpc.ensure()
    await world.task(world.eni(5))
    assert await world.vpc.verify() == ()


async def test_a_namespace_that_took_our_name_is_looked_at_not_the_lost_one(world):
    await world.vpc.ensure_interface(world.eni(5))
    subprocess.run(["ip", "netns", "del", world.namespace], check=True)
    subprocess.run(["ip", "netns", "add", world.namespace], check=True)

    assert await world.vpc.interfaces() == frozenset()
    await world.vpc.ensure()
    assert await world.vpc.verify() == ()


async def test_an_interface_that_was_left_half_made_is_made_again(world):
    eni = world.eni(5)
    router = world.router()
    name = layout.router_link(eni.eni_id)
    try:
        router.sh(
            f"ip link add {name} type veth peer name {layout.machine_link(eni.eni_id)} netns /proc/{os.getpid()}/fd/{world.machine.descriptor}"
        )
    finally:
        router.close()

    task = await world.task(eni)

    assert task.pings("10.211.0.1")


async def _on_machine(world):
    return frozenset(name for name in world.machine_links().values() if name.startswith("berth-"))


async def _until(ask, expected):
    deadline = time.monotonic() + 5
    while (found := await ask()) != expected:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)
