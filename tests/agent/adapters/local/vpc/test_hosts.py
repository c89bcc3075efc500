"""The machine and other hosts of the VPC: what they can reach, and what can reach them."""

import errno
import os
import socket
from pathlib import Path

import pytest

from agent.adapters.local.vpc.errors import BadVpcPlan, CidrInUse, NameTaken
from tests.agent.adapters.local.vpc.conftest import Place

pytestmark = pytest.mark.integration


async def test_the_machine_reaches_tasks_in_every_subnet(world):
    first, second = world.eni(5, ipv6=True), world.eni(6, subnet=1, ipv6=True)
    for eni in (first, second):
        task = await world.task(eni)
        world.listens(task)
        world.listens(task, family=socket.AF_INET6, port=81)
    await world.vpc.ensure_instance_interface(world.eni(10, ipv6=True))
    await world.vpc.ensure_instance_interface(world.eni(10, ipv6=True))

    for eni in (first, second):
        assert world.connects(world.machine, eni.ipv4_address)
        assert world.connects(world.machine, eni.ipv6_address, 81)
    assert "berth0" in world.machine.sh("ip route show 10.211.0.0/16")
    assert await world.vpc.verify() == ()


async def test_tasks_cannot_reach_the_machines_sockets_but_may_ping_it(world):
    instance = world.eni(10, ipv6=True)
    await world.vpc.ensure_instance_interface(instance)
    task = await world.task(world.eni(5, ipv6=True))
    world.machine.sh(
        "ip link add other type veth peer name other2 && ip addr add 192.0.2.77/24 dev other && ip link set other up"
    )
    world.listens(world.machine, 9000)
    world.listens(world.machine, 9001, socket.AF_INET6)

    assert world.connects(world.machine, instance.ipv4_address, 9000), "it does listen"
    assert not world.connects(task, instance.ipv4_address, 9000)
    assert not world.connects(task, instance.ipv6_address, 9001)
    assert not world.connects(task, "192.0.2.77", 9000)
    assert task.pings(instance.ipv4_address)
    assert task.pings(instance.ipv6_address)


async def test_a_refused_connection_to_the_machine_fails_at_once(world):
    instance = world.eni(10)
    await world.vpc.ensure_instance_interface(instance)
    task = await world.task(world.eni(5))

    def failure():
        with socket.socket() as made:
            made.settimeout(5)
            return made.connect_ex((instance.ipv4_address, 9000))

    assert task.call(failure) == errno.EHOSTUNREACH


async def test_what_is_routed_through_the_machine_does_not_enter_the_vpc(world):
    """A neighbour on the machine's own network uses it as a router: its source address is none of the VPC's."""
    eni = world.eni(5)
    world.listens(await world.task(eni))
    await world.vpc.ensure_instance_interface(world.eni(10))
    outside = Place.create()
    try:
        world.machine.sh(
            "sysctl -qw net.ipv4.ip_forward=1 && "
            f"ip link add lan type veth peer name eth0 netns /proc/{os.getpid()}/fd/{outside.descriptor} && "
            "ip addr add 192.0.2.1/24 dev lan && ip link set lan up"
        )
        outside.sh(
            "ip addr add 192.0.2.2/24 dev eth0 && ip link set eth0 up && ip route add default via 192.0.2.1"
        )

        assert outside.pings("192.0.2.1")
        assert not world.connects(outside, eni.ipv4_address, timeout=1)
    finally:
        outside.close()


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (
            "ip route add 10.0.0.0/8 via 192.0.2.254 dev other",
            r"route 10\.0\.0\.0/8 via 192\.0\.2\.254 dev other",
        ),
        ("ip route add 10.211.64.0/24 dev other", r"route 10\.211\.64\.0/24 dev other"),
        ("ip route add blackhole 10.211.5.0/24", r"route 10\.211\.5\.0/24"),
        ("ip addr add 10.211.7.7/32 dev other", r"address 10\.211\.7\.7/32 dev other"),
    ],
)
async def test_a_range_that_the_machine_uses_is_refused_with_the_setting_to_change(world, command, named):
    world.machine.sh(
        "ip link add other type veth peer name other2 && ip link set other up && ip link set other2 up"
    )
    world.machine.sh(
        f"ip addr add 192.0.2.1/24 dev other && ip route add default via 192.0.2.254 && {command}"
    )
    before = world.machine.sh("ip -o link")

    with pytest.raises(CidrInUse, match=rf"10\.211\.0\.0/16 overlaps {named} .*BERTH_VPC_CIDR"):
        await world.vpc.ensure_instance_interface(world.eni(10))

    assert world.machine.sh("ip -o link") == before


async def test_a_foreign_link_of_that_name_is_not_taken(world):
    world.machine.sh("ip link add berth0 type veth peer name other")

    with pytest.raises(NameTaken, match="berth0"):
        await world.vpc.ensure_instance_interface(world.eni(10))


async def test_the_machine_may_change_its_address_and_keeps_it_over_a_restart(world):
    await world.vpc.ensure_instance_interface(world.eni(10))
    await world.restart()
    await world.vpc.ensure_instance_interface(world.eni(11))

    shown = world.machine.sh("ip -o -4 addr show berth0")
    assert "10.211.0.11" in shown
    assert "10.211.0.10" not in shown
    assert await world.vpc.interfaces() == frozenset()


async def test_another_host_of_the_vpc_reaches_tasks_and_goes_without_trace(world):
    eni, own = world.eni(5, ipv6=True), world.eni(20, subnet=1, ipv6=True)
    task = await world.task(eni)
    world.listens(task)
    name = await world.vpc.ensure_host("web", own)
    assert await world.vpc.ensure_host("web", own) == name == f"{world.namespace}-web"

    host = Place(os.open(f"/run/netns/{name}", os.O_RDONLY))
    try:
        assert world.connects(host, eni.ipv4_address)
        assert host.pings(eni.ipv6_address)
        assert task.pings(own.ipv4_address)
        assert own.mac_address not in world.machine_links()
    finally:
        host.close()

    moved = await world.vpc.ensure_host("web", world.eni(21, subnet=1))
    assert "10.211.16.21" in _inside(moved, "ip -o addr")

    await world.vpc.remove_host("web")
    await world.vpc.remove_host("web")
    assert not Path("/run/netns", name).exists()
    assert await world.vpc.verify() == ()


async def test_a_host_survives_a_restart_and_is_removed_by_its_name(world):
    await world.vpc.ensure_host("web", world.eni(20))
    await world.restart()

    await world.vpc.ensure_host("web", world.eni(20))
    await world.vpc.remove_host("web")

    assert not Path("/run/netns", f"{world.namespace}-web").exists()


async def test_a_name_that_cannot_be_a_hosts_is_refused(world):
    with pytest.raises(BadVpcPlan, match=r"name '\.\./evil'"):
        await world.vpc.ensure_host("../evil", world.eni(20))


def _inside(name: str, command: str) -> str:
    place = Place(os.open(f"/run/netns/{name}", os.O_RDONLY))
    try:
        return place.sh(command)
    finally:
        place.close()
