"""A private machine for each test: namespaces of its own, so that the real machine's links and routes stay untouched."""

import ctypes
import os
import secrets
import socket
import struct
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from agent.adapters.local.vpc import addresses
from agent.adapters.local.vpc.plan import (
    InterfacePlan,
    SubnetPlan,
    VpcPlan,
    default_plan,
    gateway,
    gateway_ipv6,
)
from agent.adapters.local.vpc.vpc import SimulatedVpc

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)
_NEW_NETWORK = 0x40000000


@dataclass
class Place:
    """A network namespace without a name, alive as long as its descriptor."""

    descriptor: int

    @classmethod
    def create(cls) -> "Place":
        def unshared() -> int:
            assert _libc.unshare(_NEW_NETWORK) == 0
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

        place = cls(on_a_thread(unshared))
        place.sh("ip link set lo up")
        return place

    def call(self, work: Callable[[], T]) -> T:
        """The result of the work done inside; sockets made there stay there."""

        def entered() -> T:
            assert _libc.setns(self.descriptor, _NEW_NETWORK) == 0
            return work()

        return on_a_thread(entered)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        where = f"--net=/proc/{os.getpid()}/fd/{self.descriptor}"
        return subprocess.run(
            ["nsenter", where, "sh", "-c", command], capture_output=True, text=True, check=False, timeout=20
        )

    def sh(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def pings(self, address: str, *, source: str | None = None) -> bool:
        """Whether an echo request is answered within a second."""
        return self.call(lambda: _is_echoed(address, source))

    def close(self) -> None:
        os.close(self.descriptor)


@dataclass
class World:
    """A machine, a simulated VPC on it, and the tasks that a test starts there."""

    machine: Place
    namespace: str
    plan: VpcPlan
    vpc: SimulatedVpc
    tasks: list[Place] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)

    def eni(self, host: int, *, subnet: int = 0, ipv6: bool = False) -> InterfacePlan:
        """The interface with that host number, e.g. 5 for 10.211.0.5 in the first subnet."""
        where = self.plan.subnets[subnet]
        eni_id = addresses.eni_id(f"{self.namespace}/{subnet}/{host}")
        address_v6 = str(where.ipv6_network[host]) if ipv6 and where.ipv6_network is not None else None
        return InterfacePlan(
            eni_id,
            where.subnet_id,
            addresses.mac_address(eni_id),
            str(where.ipv4_network[host]),
            address_v6,
        )

    def subnet_of(self, eni: InterfacePlan) -> SubnetPlan:
        return self.plan.subnet(eni.subnet_id)

    async def task(self, eni: InterfacePlan) -> Place:
        """A task: its interface is found on the machine by MAC, moved and configured, as the ENI plugin does it."""
        await self.vpc.ensure_interface(eni)
        place = Place.create()
        self.tasks.append(place)
        subnet = self.subnet_of(eni)
        name = self.machine_links()[eni.mac_address]
        self.machine.sh(f"ip link set {name} netns /proc/{os.getpid()}/fd/{place.descriptor}")
        commands = [
            f"ip link set {name} name eth0",
            f"ip addr add {eni.ipv4_address}/{subnet.ipv4_network.prefixlen} dev eth0",
            *([f"ip addr add {eni.ipv6_address}/64 dev eth0 nodad"] if eni.ipv6_address else []),
            "ip link set eth0 up",
            f"ip route add default via {gateway(subnet)}",
            *([f"ip -6 route add default via {gateway_ipv6(subnet)}"] if eni.ipv6_address else []),
        ]
        place.sh(" && ".join(commands))
        # The router's end learns a moment later that its peer is up (the kernel's link watch).
        assert any(place.pings(str(gateway(subnet))) for _ in range(5))
        return place

    def machine_links(self) -> dict[str, str]:
        """MAC address to name of every link on the machine."""
        links = {}
        for line in self.machine.sh("ip -o link").splitlines():
            words = line.replace("\\", " ").split()
            name = words[1].rstrip(":").split("@")[0]
            links[words[words.index("link/ether") + 1] if "link/ether" in words else name] = name
        return links

    def listens(self, place: Place, port: int = 80, family: int = socket.AF_INET) -> socket.socket:
        def listener() -> socket.socket:
            made = socket.socket(family, socket.SOCK_STREAM)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("", port))
            made.listen()
            return made

        made = place.call(listener)
        self.sockets.append(made)
        return made

    def connects(self, place: Place, address: str, port: int = 80, timeout: float = 3) -> bool:
        """Whether a connection opens; only a time-out or a refusal is a no."""

        def attempt() -> bool:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM) as made:
                made.settimeout(timeout)
                return made.connect_ex((address, port)) == 0

        return place.call(attempt)

    def router(self) -> Place:
        """The router's namespace, seen from outside. To be closed by the caller."""
        return Place(os.open(f"/run/netns/{self.namespace}", os.O_RDONLY))

    def end(self, task: Place) -> None:
        """The task's namespace dies, and its interface with it."""
        self.tasks.remove(task)
        task.close()

    async def restart(self) -> SimulatedVpc:
        """A new agent on what the old one left."""
        await self.vpc.aclose()
        self.vpc = SimulatedVpc(
            self.plan, namespace=self.namespace, host_namespace_fd=self.machine.descriptor
        )
        await self.vpc.ensure()
        return self.vpc


@pytest.fixture
def machine() -> Iterator[Place]:
    place = Place.create()
    yield place
    place.close()


@pytest.fixture
def namespace() -> str:
    return f"bvt{os.getpid() % 10000}-{secrets.token_hex(3)}"


@pytest.fixture
async def world(machine: Place, namespace: str) -> AsyncIterator[World]:
    plan = default_plan("us-east-1", seed=namespace, ipv6_cidr="fd00:211::/56")
    vpc = SimulatedVpc(plan, namespace=namespace, host_namespace_fd=machine.descriptor)
    made = World(machine, namespace, plan, vpc)
    try:
        await vpc.ensure()
        yield made
    finally:
        for opened in made.sockets:
            opened.close()
        for task in made.tasks:
            task.close()
        try:
            await made.vpc.destroy()
        finally:
            await made.vpc.aclose()
        assert list(Path("/run/netns").glob(f"{namespace}*")) == []


def on_a_thread(work: Callable[[], T]) -> T:
    """On a thread of its own, which may end in another namespace and is then never used again."""
    results: list[T] = []
    failures: list[BaseException] = []

    def noted() -> None:
        try:
            results.append(work())
        except BaseException as failure:  # noqa: BLE001 - handed to the caller below
            failures.append(failure)

    thread = threading.Thread(target=noted)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _is_echoed(address: str, source: str | None) -> bool:
    is_v6 = ":" in address
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if is_v6 else socket.IPPROTO_ICMP
    request, reply = (128, 129) if is_v6 else (8, 0)
    token = secrets.token_bytes(8)
    words = struct.unpack(">8H", struct.pack(">BBHHH", request, 0, 0, 0, 0) + token)
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    checksum = 0 if is_v6 else ~(total + (total >> 16)) & 0xFFFF  # for IPv6 the kernel computes it
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        if source is not None:
            raw.bind((source, 0))
        target = socket.getaddrinfo(address, None, family)[0][4]
        try:
            raw.sendto(struct.pack(">BBHHH", request, 0, checksum, 0, 0) + token, target)
        except OSError:
            return False
        deadline = time.monotonic() + 1
        while (left := deadline - time.monotonic()) > 0:
            raw.settimeout(left)
            try:
                packet = raw.recv(1500)
            except OSError:
                return False
            start = 0 if is_v6 else (packet[0] & 15) * 4
            if packet[start] == reply and packet[start + 8 :] == token:
                return True
    return False
