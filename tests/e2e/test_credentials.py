"""Credentials go to the task whose they are, and nothing else of the machine can be reached from a task."""

import json
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.agent_process import Agent, Task
from tests.e2e.inside import Containers, command, credentials_url, parsed
from tests.e2e.task_definitions import a_definition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ROLE = "arn:aws:iam::111122223333:role/reader"


@pytest.fixture
def four(agent: Agent) -> list[Task]:
    return agent.started_copies(a_definition("reader", {"name": "app"}, taskRoleArn=ROLE), 4)


def test_a_task_gets_its_credentials_and_none_of_its_neighbours_does(
    four: list[Task], containers: Containers
) -> None:
    urls = [credentials_url(containers, task) for task in four]
    networks = [containers.network(task) for task in four]

    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(
                lambda pair: networks[pair[0]].fetch(urls[pair[1]]),
                [(asker, owner) for asker in range(4) for owner in range(4)],
            )
        )
    own = [answers[5 * number] for number in range(4)]
    others = [answer for position, answer in enumerate(answers) if position % 5]
    for answer in own:
        assert set(parsed(answer)) == {"RoleArn", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
        assert parsed(answer)["RoleArn"] == ROLE
    assert [answer.code for answer in others] == [403] * 12
    assert not any("SecretAccessKey" in answer.text for answer in others)


def test_a_program_in_a_container_finds_its_credentials_by_its_environment(
    agent: Agent, containers: Containers
) -> None:
    task = agent.started(a_definition("reader", {"name": "app"}, taskRoleArn=ROLE))

    script = 'wget -q -O - "http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"'
    assert parsed(containers.run(task.runtime_id(), script))["RoleArn"] == ROLE
    forwarded = containers.network(task).fetch(
        credentials_url(containers, task), headers={"X-Forwarded-For": "10.0.0.1"}
    )
    assert forwarded.code == 403
    unknown = containers.network(task).fetch("http://169.254.170.2/v2/credentials/no-such-id")
    assert (unknown.code, json.loads(unknown.text)["code"]) == (400, "InvalidIdInRequest")


def test_the_credentials_of_the_machine_itself_are_out_of_reach(agent: Agent, containers: Containers) -> None:
    task = agent.started(a_definition("curious", {"name": "app"}))

    network = containers.network(task)
    with ThreadPoolExecutor(2) as pool:
        answers = list(
            pool.map(
                lambda host: network.fetch(f"http://{host}/latest/meta-data/", seconds=2),
                ["169.254.169.254", "[fd00:ec2::254]"],
            )
        )
    assert [answer.code for answer in answers] == [0, 0], answers


@pytest.fixture
def open_port() -> Iterator[int]:
    """A careless server of this machine, on all of its addresses."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield server.getsockname()[1]


def test_from_a_task_only_the_endpoint_of_the_machine_answers(
    agent: Agent, containers: Containers, open_port: int
) -> None:
    task = agent.started(a_definition("scanner", {"name": "app"}))
    network = containers.network(task)

    ports = sorted({*range(1, 1024), *_listening(), open_port, 2375, 51670, 51678, 51679})
    hosts = ["169.254.170.2", "169.254.172.1", *_own_addresses()]
    assert len(hosts) >= 3, "the machine's own address in the VPC is among them"
    done = network.run(sys.executable, "-I", "-c", _SCAN, json.dumps([hosts, ports]))
    assert parsed(done) == [["169.254.170.2", 80]]


def test_packets_to_the_localhost_of_the_machine_are_not_delivered(
    agent: Agent, containers: Containers, open_port: int
) -> None:
    task = agent.started(a_definition("forger", {"name": "app"}))

    done = containers.network(task).run(sys.executable, "-I", "-c", _LOCALHOST_PROBE, str(open_port))
    assert done.text.strip() == "no answer", done
    for switch in Path("/proc/sys/net/ipv4/conf").glob("*/route_localnet"):
        assert switch.read_text().strip() == "0", switch


def _listening() -> set[int]:
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                found.add(int(words[1].rsplit(":", 1)[1], 16))
    return found


def _own_addresses() -> list[str]:
    """The machine's addresses that a task could try: on Docker's bridge, and in the VPC."""
    found = []
    for name in ("docker0", "berth0"):
        listed = command("busybox", "ip", "-4", "-o", "addr", "show", "dev", name).text
        found += [word.partition("/")[0] for word in listed.split() if word.count(".") == 3 and "/" in word]
    return found


_SCAN = """
import asyncio, json, sys
hosts, ports = json.loads(sys.argv[1])

async def scan():
    slots = asyncio.Semaphore(700)
    answering = []

    async def knock(host, port):
        async with slots:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 1.0)
            except (OSError, TimeoutError, asyncio.TimeoutError):
                return
            answering.append([host, port])
            writer.close()

    await asyncio.gather(*(knock(host, port) for host in hosts for port in ports))
    print(json.dumps(sorted(answering)))

asyncio.run(scan())
"""

# A SYN to 127.0.0.1 on the task's leg, to the MAC of the machine's side: what neighbours did in CVE-2020-8558.
_LOCALHOST_PROBE = """
import fcntl, socket, struct, sys, time
port, leg = int(sys.argv[1]), "ecs-eth0"

def of_link(request):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        return fcntl.ioctl(asker, request, struct.pack("256s", leg.encode()))

def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)

own, mac = of_link(0x8915)[20:24], of_link(0x8927)[18:24]
try:
    socket.create_connection(("169.254.170.2", 80), timeout=2).close()  # so that the machine's MAC is known
    entries = [line.split() for line in open("/proc/net/arp") if line.split()[-1] == leg]
    doors = [bytes.fromhex(entry[3].replace(":", "")) for entry in entries]
except OSError:
    doors = []
assert doors, "the machine's side is not known"

there = socket.inet_aton("127.0.0.1")
tcp = struct.pack("!HHIIBBHHH", 40000, port, 1, 0, 5 << 4, 2, 64240, 0, 0)
tcp = tcp[:16] + checksum(own + there + struct.pack("!BBH", 0, 6, len(tcp)) + tcp) + tcp[18:]
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0, own, there)
ip = ip[:10] + checksum(ip) + ip[12:]

def is_answered():
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
        wire.bind((leg, 0))
        wire.settimeout(0.5)
        for door in (*doors, b"\\xff" * 6):
            wire.send(door + mac + b"\\x08\\x00" + ip + tcp)
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            try:
                frame = wire.recv(2048)
            except TimeoutError:
                continue
            if frame[23] == 6 and frame[26:30] == there:
                return True
    return False

print("answered" if is_answered() else "no answer")
"""
