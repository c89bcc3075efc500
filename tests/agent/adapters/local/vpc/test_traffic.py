"""What tasks can reach in the VPC, and what they cannot."""

import errno
import socket
import time

import pytest

from agent.adapters.local.vpc.plan import dns, gateway

pytestmark = pytest.mark.integration


async def test_an_interface_appears_on_the_machine_down_and_without_addresses(world):
    eni = world.eni(5)

    await world.vpc.ensure_interface(eni)

    name = world.machine_links()[eni.mac_address]
    shown = world.machine.sh(f"ip addr show {name}")
    assert "state DOWN" in shown
    assert "mtu 9001" in shown
    assert "inet" not in shown
    assert len(name) <= 15


async def test_two_tasks_serve_the_same_port_on_their_own_addresses(world):
    first, second = world.eni(5), world.eni(6, subnet=1)
    a, b = await world.task(first), await world.task(second)
    world.listens(a)
    world.listens(b)

    assert world.connects(a, second.ipv4_address)
    assert world.connects(b, first.ipv4_address)


async def test_neighbours_of_one_subnet_reach_each_other_through_the_router(world):
    first, second = world.eni(5), world.eni(6)
    a, b = await world.task(first), await world.task(second)
    world.listens(b)

    began = time.monotonic()
    assert world.connects(a, second.ipv4_address)
    assert time.monotonic() - began < 0.5  # an ARP answer that waits would take up to 0.8 s
    assert "0e:00:00:00:00:01" in a.sh(f"ip neigh show {second.ipv4_address}")


async def test_the_gateway_answers_and_the_resolver_address_refuses_at_once(world):
    for eni in (world.eni(5), world.eni(5, subnet=1)):
        task = await world.task(eni)
        resolver = str(dns(world.plan))

        assert task.pings(str(gateway(world.subnet_of(eni))))
        assert task.pings(resolver)

        def refused(resolver: str = resolver) -> int:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
                query.settimeout(3)
                query.connect((resolver, 53))
                query.send(b"?")
                with pytest.raises(ConnectionRefusedError):
                    query.recv(1)
            return 0

        task.call(refused)


@pytest.mark.parametrize("address", ["10.211.20.9", "198.51.100.1", "10.212.0.1"])
async def test_packets_to_nowhere_are_answered_at_once(world, address):
    task = await world.task(world.eni(5))

    def failure() -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
            made.settimeout(5)
            return made.connect_ex((address, 80))

    began = time.monotonic()
    # More often than the kernel would answer one sender by default (six times, then once a second).
    assert [task.call(failure) for _ in range(12)] == [errno.EHOSTUNREACH] * 12
    assert time.monotonic() - began < 0.9


async def test_ipv6_packets_to_nowhere_are_answered_one_by_one(world):
    eni = world.eni(5, ipv6=True)
    task = await world.task(eni)
    assert task.pings("fd00:211::1")  # the router is known, so no packet waits for that

    def answers() -> int:
        counters = dict(line.split() for line in task.sh("cat /proc/net/snmp6").splitlines())
        return int(counters["Icmp6InDestUnreachs"])

    # Counted and not timed: a TCP socket on the same CPU is still locked when the answer comes, and asks again.
    before = answers()
    for address in ["fd00:211:0:1::99", "2001:db8::1"] * 6:
        task.call(lambda address=address: _say(eni.ipv6_address, address))
    assert answers() - before == 12


async def test_a_spoofed_source_never_arrives(world):
    victim, liar, target = world.eni(5), world.eni(6), world.eni(7, subnet=1)
    await world.task(victim)
    a, b = await world.task(liar), await world.task(target)
    heard = b.call(_udp_listener)
    world.sockets.append(heard)

    for source in (victim.ipv4_address, "198.51.100.9", "10.211.0.1", liar.ipv4_address):
        a.call(lambda source=source: _say(source, target.ipv4_address))

    message, sender = heard.recvfrom(100)
    assert (message.decode(), sender[0]) == (liar.ipv4_address, liar.ipv4_address)
    with pytest.raises(TimeoutError):
        heard.recvfrom(100)


async def test_forged_arp_moves_no_address(world):
    victim, liar, asker = world.eni(5), world.eni(6), world.eni(7)
    a, b, c = [await world.task(eni) for eni in (victim, liar, asker)]
    world.listens(a)
    assert world.connects(c, victim.ipv4_address)

    # The liar claims the victim's address: as its own, by unasked-for answers, towards router and broadcast.
    b.sh(f"ip addr add {victim.ipv4_address}/32 dev eth0")
    b.call(lambda: _announce("eth0", liar.mac_address, victim.ipv4_address))
    world.listens(b, 8081)

    assert world.connects(c, victim.ipv4_address)
    assert not world.connects(c, victim.ipv4_address, 8081, timeout=0.5)
    router = world.router()
    try:
        shown = router.sh("ip neigh show")
    finally:
        router.close()
    assert shown.count(f"{victim.ipv4_address} ") == 1
    assert f"lladdr {victim.mac_address} PERMANENT" in shown


async def test_the_router_answers_arp_only_for_the_gateway_and_living_neighbours(world):
    own, neighbour, elsewhere = world.eni(5), world.eni(6), world.eni(5, subnet=1)
    a = await world.task(own)
    await world.task(neighbour)
    await world.task(elsewhere)
    here, there = world.subnet_of(own), world.subnet_of(elsewhere)

    def answered(*asked: str) -> set[str]:
        return a.call(lambda: _arp_answers("eth0", own.mac_address, own.ipv4_address, asked))

    right = {str(gateway(here)), str(dns(world.plan)), neighbour.ipv4_address}
    wrong = {
        own.ipv4_address,
        str(here.ipv4_network[99]),
        elsewhere.ipv4_address,
        str(gateway(there)),
        "198.51.100.1",
    }
    assert answered(*right, *wrong) == right


async def test_ipv6_works_between_neighbours_and_subnets(world):
    first, second, third = (
        world.eni(5, ipv6=True), world.eni(6, ipv6=True), world.eni(7, subnet=1, ipv6=True)
    )  # fmt: skip
    a, b, c = [await world.task(eni) for eni in (first, second, third)]
    for task in (a, b, c):
        world.listens(task, family=socket.AF_INET6)

    began = time.monotonic()
    assert world.connects(a, second.ipv6_address)
    assert world.connects(b, first.ipv6_address)
    assert world.connects(a, third.ipv6_address)
    assert world.connects(c, first.ipv6_address)
    assert time.monotonic() - began < 1.5
    assert a.pings("fe80::1%eth0")
    assert await world.vpc.verify() == ()


async def test_a_spoofed_ipv6_source_never_arrives(world):
    victim, liar, target = (
        world.eni(5, ipv6=True), world.eni(6, ipv6=True), world.eni(7, subnet=1, ipv6=True)
    )  # fmt: skip
    await world.task(victim)
    a, b = await world.task(liar), await world.task(target)
    heard = b.call(lambda: _udp_listener(socket.AF_INET6))
    world.sockets.append(heard)
    # The task knows its gateway's MAC before it lies, or the lies would wait for that.
    assert a.pings(target.ipv6_address)

    for source in (victim.ipv6_address, "2001:db8::9", "fd00:211::1", liar.ipv6_address):
        a.call(lambda source=source: _say(source, target.ipv6_address))

    message, sender = heard.recvfrom(100)
    assert (message.decode(), sender[0]) == (liar.ipv6_address, liar.ipv6_address)
    with pytest.raises(TimeoutError):
        heard.recvfrom(100)


async def test_a_task_that_checks_its_ipv6_address_for_duplicates_keeps_it(world):
    first, second = world.eni(5, ipv6=True), world.eni(6, ipv6=True)
    a, _ = await world.task(first), await world.task(second)
    a.sh(f"ip addr del {first.ipv6_address}/64 dev eth0 && ip addr add {first.ipv6_address}/64 dev eth0")

    deadline = time.monotonic() + 5
    while "tentative" in a.sh("ip -6 addr show dev eth0") and time.monotonic() < deadline:
        time.sleep(0.1)

    assert "dadfailed" not in a.sh("ip -6 addr show dev eth0")
    assert a.pings(second.ipv6_address, source=first.ipv6_address)


def _udp_listener(family: int = socket.AF_INET) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.bind(("", 7000))
    made.settimeout(0.7)
    return made


def _say(source: str, destination: str) -> None:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        # Lets a socket use any source address, as a task with raw sockets could.
        made.setsockopt(*((socket.IPPROTO_IPV6, 75) if family == socket.AF_INET6 else (socket.SOL_IP, 19)), 1)
        made.bind((source, 0))
        made.sendto(source.encode(), (destination, 7000))


def _announce(link: str, mac: str, address: str) -> None:
    own, claimed = bytes.fromhex(mac.replace(":", "")), socket.inet_aton(address)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((link, 0))
        for destination in (b"\xff" * 6, bytes.fromhex("0e0000000001")):
            for operation in (1, 2):
                raw.send(
                    destination + own + b"\x08\x06" + b"\0\1\x08\0\x06\x04" + bytes([0, operation])
                    + own + claimed + b"\xff" * 6 + claimed
                )  # fmt: skip


def _arp_answers(link: str, mac: str, address: str, asked: tuple[str, ...]) -> set[str]:
    own = bytes.fromhex(mac.replace(":", ""))
    answers = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as raw:
        raw.bind((link, 0x0806))
        raw.settimeout(0.5)
        for target in asked:
            raw.send(
                b"\xff" * 6 + own + b"\x08\x06" + b"\0\1\x08\0\x06\x04\0\1"
                + own + socket.inet_aton(address) + b"\0" * 6 + socket.inet_aton(target)
            )  # fmt: skip
        while True:
            try:
                frame = raw.recv(100)
            except TimeoutError:
                return answers
            if frame[20:22] == b"\0\2":
                answers.add(socket.inet_ntoa(frame[28:32]))
