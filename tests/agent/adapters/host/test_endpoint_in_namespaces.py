import sys

import pytest

from tests.agent.adapters.host.netlab import wait_for_line

pytestmark = pytest.mark.integration

A, B = "169.254.172.2", "169.254.172.3"
LISTEN_V6 = """
import socket, sys, time
kept = []
for port in sys.argv[1:]:
    s = socket.socket(socket.AF_INET6)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind(("::", int(port)))
    s.listen()
    kept.append(s)
print("listening", flush=True)
time.sleep(600)
"""
LISTEN = """
import socket, sys, time
kept = [socket.create_server((address, int(port))) for address, port in (a.split(":") for a in sys.argv[1:])]
print("listening", flush=True)
time.sleep(600)
"""


def say(process, command, answer):
    process.stdin.write(f"{command}\n")
    process.stdin.flush()
    return wait_for_line(process, answer)


@pytest.fixture
def tasks(lab):
    lab.agent = lab.serve(A, B)
    return lab.task("a", A), lab.task("b", B)


def test_each_task_gets_its_own_credentials_and_never_anothers(lab, tasks):
    a, b = tasks
    status, body = lab.ask(a, "/v2/credentials/task-id-1")
    assert status == 200
    assert '"RoleArn":"arn:aws:iam::123456789012:role/task-1"' in body
    assert lab.ask(b, "/v2/credentials/task-id-2")[0] == 200
    for thief, stolen in ((b, "task-id-1"), (a, "task-id-2"), (lab.host, "task-id-1")):
        status, body = lab.ask(thief, f"/v2/credentials/{stolen}")
        assert status == 403
        assert "fake" not in body


def test_the_execution_role_is_for_the_host_and_no_task(lab, tasks):
    a, b = tasks
    assert lab.ask(lab.host, "/v2/credentials/execution-id-1")[0] == 200
    assert lab.ask(a, "/v2/credentials/execution-id-1")[0] == 403
    assert lab.ask(b, "/v2/credentials/execution-id-1")[0] == 403


def test_a_task_sees_port_80_of_the_endpoint_and_nothing_else_of_the_host(lab, tasks):
    a, _ = tasks
    lab.neighbour()
    other = lab.start(
        lab.host,
        sys.executable,
        "-I",
        "-S",
        "-c",
        LISTEN,
        "0.0.0.0:8080",
        "0.0.0.0:51678",
        "127.0.0.1:9000",
        "10.77.0.1:443",
    )
    wait_for_line(other, "listening")
    assert lab.open_ports(lab.host, "10.77.0.1", 1, 9100) == [443, 8080]  # the probe itself works
    assert lab.open_ports(a, "169.254.170.2", 1, 65535) == [80]
    for address in ("169.254.172.1", "10.77.0.1", "127.0.0.1"):
        assert lab.open_ports(a, address, 80, 80) == []
        assert lab.open_ports(a, address, 8000, 9100) == []
        assert lab.open_ports(a, address, 51600, 51700) == []


def test_a_task_sees_nothing_of_the_host_by_ipv6(lab, tasks):
    a, b = tasks
    everything = lab.start(lab.host, sys.executable, "-I", "-S", "-c", LISTEN_V6, "8080", "80")
    wait_for_line(everything, "listening")
    for space in (lab.host, a, b):
        lab.settled(space)
    for space, link in ((lab.host, "ecs-bridge"), (b, "eth0")):
        lines = lab.inside(space, "ip", "-6", "-br", "addr", "show", link).stdout.split()
        address = next(word for word in lines if word.startswith("fe80")).partition("/")[0]
        assert lab.open_ports(lab.host, f"{address}%ecs-bridge", 8080, 8080) == (
            [8080] if space == lab.host else []
        )
        assert lab.open_ports(a, f"{address}%eth0", 8080, 8080) == []
        assert lab.open_ports(a, f"{address}%eth0", 80, 80) == []


def test_a_bridge_that_somebody_deleted_is_made_again_with_its_socket(lab, tasks):
    lab.inside(lab.host, "ip", "link", "del", "ecs-bridge")
    report = say(lab.agent, "look", "health {")
    assert "running tasks are no longer joined" in report
    late = lab.task("late", A)
    for _ in range(50):
        if (status := lab.ask(late, "/v2/credentials/task-id-1", timeout=3)[0]) != 0:
            break
    assert status == 200


def test_the_host_does_not_route_for_a_task(lab, tasks):
    a, b = tasks
    next_door = lab.neighbour()
    listening = lab.start(next_door, sys.executable, "-I", "-S", "-c", LISTEN, "0.0.0.0:80")
    wait_for_line(listening, "listening")
    lab.inside(next_door, "ip", "addr", "add", "169.254.169.254/32", "dev", "lo")
    lab.inside(lab.host, "ip", "route", "add", "169.254.169.254", "via", "10.77.0.2")
    assert lab.open_ports(lab.host, "10.77.0.2", 80, 80) == [80]
    assert lab.open_ports(lab.host, "169.254.169.254", 80, 80) == [80]
    assert lab.open_ports(a, "10.77.0.2", 80, 80) == []
    assert lab.open_ports(a, "169.254.169.254", 80, 80) == []
    # nor to the other task, nor from the network to a task
    serving = lab.start(b, sys.executable, "-I", "-S", "-c", LISTEN, "0.0.0.0:80")
    wait_for_line(serving, "listening")
    assert lab.open_ports(a, B, 80, 80) == []
    assert lab.open_ports(next_door, B, 80, 80) == []


def test_the_endpoint_is_closed_to_the_network(lab, tasks):
    next_door = lab.neighbour()
    assert lab.ask(next_door, "/v2/credentials/task-id-1")[0] == 0
    assert lab.open_ports(next_door, "169.254.170.2", 1, 1024) == []
    # a source address of a task does not help
    lab.inside(next_door, "ip", "addr", "add", f"{A}/32", "dev", "lo")
    assert lab.ask(next_door, "/v2/credentials/task-id-1", source=A)[0] == 0


def test_a_task_cannot_use_a_source_outside_of_the_tasks_subnet(lab, tasks):
    a, _ = tasks
    lab.inside(a, "ip", "addr", "add", "10.5.5.5/32", "dev", "lo")
    lab.inside(lab.host, "ip", "route", "add", "10.5.5.5", "via", A, "dev", "ecs-bridge", "onlink")
    assert lab.ask(a, "/v2/credentials/task-id-1", source="10.5.5.5")[0] == 0
    assert lab.ask(a, "/v2/credentials/task-id-1")[0] == 200


def test_localhost_of_the_host_is_not_routed_to(lab, tasks):
    a, _ = tasks
    private = lab.start(lab.host, sys.executable, "-I", "-S", "-c", LISTEN, "127.0.0.1:9000")
    wait_for_line(private, "listening")
    # the probe of CVE-2020-8558: route the host's loopback network to the host
    lab.inside(a, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    lab.inside(a, "ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
    lab.inside(a, "ip", "route", "del", "table", "local", "127.0.0.0/8", check=False)
    lab.inside(a, "ip", "route", "add", "127.0.0.1", "via", "169.254.172.1")
    assert lab.open_ports(a, "127.0.0.1", 9000, 9000) == []
    localnet = lab.inside(
        lab.host,
        "sysctl",
        "-n",
        "net.ipv4.conf.all.route_localnet",
        "net.ipv4.conf.ecs-bridge.route_localnet",
    )
    assert localnet.stdout.split() == ["0", "0"]


def test_containers_on_docker0_reach_the_endpoint_but_neither_roles_nor_instance_metadata(lab):
    lab.docker_bridge()
    process = lab.serve(A)
    d = lab.container("d")
    wait_for_line(process, "docker0")
    assert lab.ask(d, "/v2/credentials/task-id-1")[0] == 403
    assert lab.ask(d, "/v2/credentials/execution-id-1")[0] == 403
    assert lab.ask(d, "/v2/credentials/nobody")[0] == 400
    next_door = lab.neighbour()
    listening = lab.start(next_door, sys.executable, "-I", "-S", "-c", LISTEN, "0.0.0.0:80")
    wait_for_line(listening, "listening")
    lab.inside(next_door, "ip", "addr", "add", "169.254.169.254/32", "dev", "lo")
    lab.inside(lab.host, "ip", "route", "add", "169.254.169.254", "via", "10.77.0.2")
    assert lab.open_ports(d, "10.77.0.2", 80, 80) == [80]  # other traffic of Docker passes
    assert lab.open_ports(d, "169.254.169.254", 80, 80) == []


def test_a_bridge_of_docker_that_appears_later_or_again_gets_its_socket(lab):
    process = lab.serve(A)
    for name in ("first", "second"):
        lab.docker_bridge()
        wait_for_line(process, "docker0")
        container = lab.container(name)
        assert lab.ask(container, "/v2/credentials/nobody", timeout=3)[0] == 400
        lab.inside(lab.host, "ip", "link", "del", "docker0")


def test_a_restart_takes_over_what_is_there(lab):
    def bridge():
        return lab.inside(lab.host, "ip", "-br", "link", "show", "ecs-bridge").stdout

    first = lab.serve(A)
    a = lab.task("a", A)
    before = bridge()
    first.kill()
    first.wait()
    lab.serve(A)
    assert lab.ask(a, "/v2/credentials/task-id-1")[0] == 200
    assert bridge() == before


def test_rules_that_somebody_flushed_are_put_back_and_reported(lab, tasks):
    lab.inside(lab.host, "nft", "flush", "ruleset")
    report = say(lab.agent, "look", "health {")
    assert "had been changed or removed" in report
    a, _ = tasks
    assert lab.open_ports(a, "169.254.172.1", 80, 80) == []
    assert "had been changed" not in say(lab.agent, "look", "health {")


def test_an_address_that_somebody_removed_is_put_back_and_reported(lab, tasks):
    lab.inside(lab.host, "ip", "addr", "del", "169.254.170.2/32", "dev", "lo")
    assert "169.254.170.2" in say(lab.agent, "look", "health {")
    assert lab.ask(tasks[0], "/v2/credentials/task-id-1")[0] == 200


def test_a_set_route_localnet_is_reported(lab, tasks):
    lab.inside(lab.host, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    assert "sysctl -w net.ipv4.conf.all.route_localnet=0" in say(lab.agent, "look", "health {")


def test_everything_is_removed_without_a_trace(lab):
    process = lab.serve(A)
    before = lab.inside(lab.host, "nft", "list", "tables").stdout
    assert "berth" in before
    removed = say(process, "remove", "removed")
    assert "169.254.170.2" in removed
    assert "ecs-bridge" in removed
    assert lab.inside(lab.host, "nft", "list", "tables").stdout == ""
    assert "169.254" not in lab.inside(lab.host, "ip", "addr").stdout
    assert "ecs-bridge" not in lab.inside(lab.host, "ip", "link").stdout
    assert "()" in say(process, "remove", "removed")


def test_a_bridge_that_tasks_still_use_stays(lab, tasks):
    say(lab.agent, "remove", "removed")
    assert "ecs-bridge" in lab.inside(lab.host, "ip", "link").stdout


def test_a_taken_port_is_named_with_its_holder(lab):
    holder = lab.start(lab.host, sys.executable, "-I", "-S", "-c", LISTEN, "0.0.0.0:80")
    wait_for_line(holder, "listening")
    process = lab.start(
        lab.host, sys.executable, "-u", "-m", "tests.agent.adapters.host.endpoint_process", "80", A
    )
    line = wait_for_line(process, "cannot start:")
    assert "port 80 is taken by" in line
    assert f"(pid {holder.pid})" in line
    assert process.wait(10) == 1


def test_an_interface_that_is_no_bridge_is_named(lab):
    lab.inside(lab.host, "ip", "link", "add", "ecs-bridge", "type", "veth", "peer", "name", "other")
    process = lab.start(
        lab.host, sys.executable, "-u", "-m", "tests.agent.adapters.host.endpoint_process", "80", A
    )
    assert "interface named ecs-bridge already exists, but is not a bridge" in wait_for_line(
        process, "cannot start:"
    )


def test_a_bridge_with_another_address_is_named(lab):
    lab.docker_bridge("ecs-bridge", "10.0.0.1/24")
    process = lab.start(
        lab.host, sys.executable, "-u", "-m", "tests.agent.adapters.host.endpoint_process", "80", A
    )
    assert "has the address 10.0.0.1/24; expected 169.254.172.1/22" in wait_for_line(process, "cannot start:")


def test_with_a_port_of_its_own_the_agent_leaves_port_80_to_others(lab):
    holder = lab.start(lab.host, sys.executable, "-I", "-S", "-c", LISTEN, "0.0.0.0:80")
    wait_for_line(holder, "listening")
    lab.docker_bridge()
    process = lab.serve(A, B, port=51679)
    wait_for_line(process, "docker0")
    a, b, container = lab.task("a", A), lab.task("b", B), lab.container("c")
    assert lab.ask(a, "/v2/credentials/task-id-1")[0] == 200
    assert lab.ask(b, "/v2/credentials/task-id-1")[0] == 403
    assert lab.ask(lab.host, "/v2/credentials/execution-id-1")[0] == 200
    assert lab.ask(container, "/v2/credentials/nobody")[0] == 400
    assert lab.open_ports(a, "169.254.170.2", 1, 65535) == [80]
    next_door = lab.neighbour()
    assert lab.open_ports(next_door, "10.77.0.1", 80, 80) == [80]  # the other program
    assert lab.ask(next_door, "/v2/credentials/task-id-1")[0] == 0
    assert lab.inside(lab.host, "sysctl", "-n", "net.ipv4.conf.all.route_localnet").stdout.strip() == "0"
