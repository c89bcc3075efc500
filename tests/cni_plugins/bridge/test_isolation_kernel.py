"""A neighbour on the bridge can neither speak as another task nor be spoken to in its place."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.cni_plugins.cnilab import Lab, Namespace, bridge_config

pytestmark = pytest.mark.integration

FORGER = Path(__file__).with_name("forger.py")
AGENT = "169.254.172.1"
SERVER = """
import socket,sys
tcp=socket.create_server(("169.254.172.1",8080)); tcp.settimeout(float(sys.argv[1]))
udp=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); udp.bind(("169.254.172.1",8080)); udp.settimeout(0.05)
print("ready",flush=True)
try:
    c,a=tcp.accept(); print("accepted",a[0],flush=True)
except TimeoutError: print("nobody",flush=True)
try:
    while True:
        d,a=udp.recvfrom(99); udp.sendto(b"secret",a); print("udp",a[0],flush=True)
except TimeoutError: pass
"""


@pytest.fixture
def tasks(lab: Lab) -> tuple[Namespace, Namespace]:
    """The victim (.2) and the forger (.3)."""
    found = []
    for number in (1, 2):
        sandbox = lab.sandbox()
        lab.run(
            "ecs-bridge", "ADD", bridge_config(f"0e:00:00:00:00:0{number}"), sandbox, "ecs-eth0", f"c{number}"
        ).ok()
        found.append(sandbox)
    return found[0], found[1]


def forge(task: Namespace, kind: str, source_mac: str, victim: str = "169.254.172.2") -> list[str]:
    gateway_mac = "0a:58:a9:fe:ac:01"
    arguments = f"ecs-eth0 {kind} {source_mac} {victim} {AGENT} {gateway_mac} 8080"
    return json.loads(task.sh(f"/usr/bin/python3 {FORGER} {arguments}"))


def serve(lab: Lab, seconds: float) -> "subprocess.Popen[str]":
    server = subprocess.Popen(
        ["nsenter", f"--net={lab.host.path}", "/usr/bin/python3", "-c", SERVER, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    return server


def test_an_honest_task_reaches_the_agent_and_is_seen_with_its_own_address(lab: Lab, tasks) -> None:
    server = serve(lab, 5)
    tasks[0].sh(f"/usr/bin/python3 -c \"import socket; socket.create_connection(('{AGENT}',8080),2)\"")
    assert server.communicate(timeout=10)[0].split()[:2] == ["accepted", "169.254.172.2"]


@pytest.mark.parametrize(
    "mac", ["0a:58:a9:fe:ac:03", "0a:58:a9:fe:ac:02"], ids=["own MAC", "the victim's MAC"]
)
def test_a_forged_connection_is_never_accepted_and_never_answered(lab: Lab, tasks, mac: str) -> None:
    server = serve(lab, 1)
    answers = forge(tasks[1], "syn", mac)
    assert answers == []
    assert server.communicate(timeout=10)[0].split()[0] == "nobody"


def test_a_forged_datagram_is_answered_to_the_victim_only(lab: Lab, tasks) -> None:
    server = serve(lab, 1)
    assert forge(tasks[1], "udp", "0a:58:a9:fe:ac:03") == []
    server.communicate(timeout=10)


def test_frames_from_a_foreign_mac_do_not_pass_a_locked_port(lab: Lab, tasks) -> None:
    port = next(link for link in lab.host.links().values() if link.get("ifalias", "").startswith("ecs:c2:"))
    if not port["linkinfo"]["info_slave_data"].get("locked"):
        pytest.skip("this kernel has no locked bridge ports")
    server = serve(lab, 1)
    assert forge(tasks[1], "udp", "0a:58:a9:fe:ac:02") == []
    assert "udp" not in server.communicate(timeout=10)[0]


def test_gratuitous_arp_changes_no_neighbour_entry_of_the_host(lab: Lab, tasks) -> None:
    before = lab.host.ip("neigh show dev ecs-bridge")
    forge(tasks[1], "arp", "0a:58:a9:fe:ac:03")
    forge(tasks[1], "arp", "0a:58:a9:fe:ac:03", victim="169.254.172.77")
    after = lab.host.ip("neigh show dev ecs-bridge")
    assert after == before
    assert {(entry["dst"], entry["lladdr"], *entry["state"]) for entry in after} == {
        ("169.254.172.2", "0a:58:a9:fe:ac:02", "PERMANENT"),
        ("169.254.172.3", "0a:58:a9:fe:ac:03", "PERMANENT"),
    }


def test_gratuitous_arp_changes_no_neighbour_entry_of_another_task(lab: Lab, tasks) -> None:
    forge(tasks[1], "arp", "0a:58:a9:fe:ac:03", victim=AGENT)
    (entry,) = tasks[0].ip("neigh show dev ecs-eth0")
    assert (entry["dst"], entry["lladdr"], entry["state"]) == (AGENT, "0a:58:a9:fe:ac:01", ["PERMANENT"])


def test_b15_one_task_cannot_reach_another_but_the_host_reaches_both(lab: Lab, tasks) -> None:
    listen = (
        "import socket\ns=socket.create_server(('',9000)); s.settimeout(4); print('ready',flush=True)\n"
        "while True:\n  c,a=s.accept(); print(a[0],flush=True)\n"
    )
    command = ["nsenter", f"--net={tasks[0].path}", "/usr/bin/python3", "-c", listen]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    connect = "import socket\ntry: socket.create_connection(('169.254.172.2',9000),0.7); print('yes')\nexcept OSError: print('no')"
    assert tasks[1].sh(f'ip route add 169.254.172.2 dev ecs-eth0; /usr/bin/python3 -c "{connect}"') == "no\n"
    assert lab.host.sh(f'/usr/bin/python3 -c "{connect}"') == "yes\n"
    server.kill()
    assert server.communicate()[0] == "169.254.172.1\n"
