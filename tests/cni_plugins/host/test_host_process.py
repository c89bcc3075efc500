"""ecs-plugin-host without root: its protocol, deadlines, and what it leaves behind."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cni_plugins.cnilab import ipam_config

pytestmark = pytest.mark.integration  # needs no root, but many processes


class Host:
    """A running host and the agent's end of its socket."""

    def __init__(self, executable: Path, scratch: Path) -> None:
        self.socket, theirs = socket.socketpair()
        self.process = subprocess.Popen([str(executable)], stdin=theirs)
        theirs.close()
        self.socket.settimeout(20)
        self.lines = self.socket.makefile("rb")
        self.scratch = scratch

    def call(self, command: str, identifier: str = "a", **environment: str) -> dict[str, Any]:
        return {
            "type": "ecs-ipam",
            "env": {
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": "c1",
                "CNI_NETNS": "/x",
                "CNI_IFNAME": "eth0",
                "CNI_PATH": "/nowhere",
                "IPAM_DB_PATH": str(self.scratch / "leases"),
                "ECS_CNI_LOG_FILE": "",
                **environment,
            },
            "config": ipam_config(id=identifier),
        }

    def send(self, request: dict[str, Any]) -> None:
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        return json.loads(self.lines.readline())

    def ask(self, *calls: dict[str, Any], **more: Any) -> dict[str, Any]:
        self.send({"id": 7, "calls": list(calls), **more})
        return self.hear()

    def hang_up(self) -> None:
        self.lines.close()
        self.socket.close()

    def children(self) -> list[str]:
        return Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@pytest.fixture
def host(plugins: Path, tmp_path: Path) -> Iterator[Host]:
    made = Host(plugins / "ecs-plugin-host", tmp_path)
    yield made
    made.hang_up()
    if made.process.poll() is None:
        made.process.kill()
    made.process.wait()


def wait_until(condition: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.01)


def test_a_chain_answers_with_one_reply_per_call(host: Host) -> None:
    response = host.ask(host.call("ADD", "a"), host.call("DEL", "a"))
    assert (response["id"], response["timed_out"]) == (7, False)
    first, second = response["replies"]
    assert (first["exit"], json.loads(first["stdout"])["ips"][0]["address"]) == (0, "169.254.172.2/22")
    assert second == {"exit": 0, "stdout": "", "stderr": ""}


def test_a_chain_stops_at_the_first_error_if_it_shall(host: Host) -> None:
    calls = [host.call("ADD", "a"), host.call("ADD", "a"), host.call("ADD", "b")]
    assert [reply["exit"] for reply in host.ask(*calls, stop_on_error=True)["replies"]] == [0, 1]
    calls = [host.call("FOO"), host.call("DEL", "a"), host.call("ADD", "a")]
    assert [reply["exit"] for reply in host.ask(*calls, stop_on_error=False)["replies"]] == [1, 0, 0]


def test_an_unknown_type_is_a_reply_with_code_4(host: Host) -> None:
    (reply,) = host.ask({"type": "nope", "env": {}, "config": {}})["replies"]
    assert (reply["exit"], json.loads(reply["stdout"])["code"]) == (1, 4)


def test_the_environment_is_exactly_the_given_one(host: Host) -> None:
    (reply,) = host.ask({"type": "ecs-ipam", "env": {"ECS_CNI_LOG_FILE": ""}, "config": {}})["replies"]
    assert "CNI_COMMAND" in json.loads(reply["stdout"])["msg"]


@pytest.mark.parametrize(
    ("line", "fragment"),
    [
        (b"nonsense", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"calls": []}', "id is None"),
        (b'{"id": 1, "calls": 3}', "calls is 3"),
        (b'{"id": 1, "calls": [3]}', "a call is 3"),
        (b'{"id": 1, "deadline_ms": 0, "calls": []}', "deadline_ms is 0"),
        (b'{"id": 1, "stop_on_error": 2, "calls": []}', "stop_on_error is 2"),
        (b'{"id": 1, "calls": [{"type": "ecs-eni", "env": {"A": 1}, "config": {}}]}', "env of the call"),
    ],
)
def test_a_line_that_is_no_request_is_answered_and_survived(host: Host, line: bytes, fragment: str) -> None:
    host.socket.sendall(line + b"\n")
    response = host.hear()
    assert (response["replies"], fragment in response["error"]) == ([], True)
    assert host.ask(host.call("ADD"))["replies"][0]["exit"] == 0


def test_many_requests_run_at_the_same_time_and_answers_carry_their_ids(host: Host) -> None:
    for number in range(24):
        host.send({"id": number, "calls": [host.call("ADD", f"e{number}")]})
    responses = [host.hear() for _ in range(24)]
    assert {response["id"] for response in responses} == set(range(24))
    addresses = {json.loads(response["replies"][0]["stdout"])["ips"][0]["address"] for response in responses}
    assert len(addresses) == 24


def locked(host: Host, identifier: int | str, **more: Any) -> dict[str, Any]:
    """A request that waits for a lock for a minute."""
    slow = host.call("ADD", "slow", IPAM_DB_CONNECTION_TIMEOUT="60s")
    return {"id": identifier, "calls": [slow], **more}


@pytest.fixture
def lock(host: Host) -> Iterator[None]:
    import fcntl

    (host.scratch / "leases").mkdir()
    with (host.scratch / "leases" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_request_past_its_deadline_is_ended_and_says_so(host: Host, lock: None) -> None:
    begun = time.monotonic()
    host.send(locked(host, 1, deadline_ms=300))
    response = host.hear()
    assert (response["id"], response["timed_out"]) == (1, True)
    assert 0.3 <= time.monotonic() - begun < 5
    wait_until(lambda: host.children() == [])


def test_a_slow_request_holds_up_no_other(host: Host, lock: None) -> None:
    host.send(locked(host, "slow", deadline_ms=3000))
    begun = time.monotonic()
    assert host.ask({"type": "nope", "env": {}, "config": {}})["id"] == 7
    assert time.monotonic() - begun < 2


def test_a_killed_child_is_an_answer_and_not_the_end(host: Host, lock: None) -> None:
    host.send(locked(host, 1))
    wait_until(lambda: len(host.children()) == 1)
    os.kill(int(host.children()[0]), signal.SIGKILL)
    response = host.hear()
    (reply,) = response["replies"]
    assert (response["timed_out"], reply["exit"]) == (False, -9)
    assert "died" in json.loads(reply["stdout"])["msg"]
    assert host.ask({"type": "nope", "env": {}, "config": {}})["id"] == 7


def test_a_child_that_ignores_sigterm_is_killed(host: Host, lock: None) -> None:
    host.send(locked(host, 1, deadline_ms=400))
    wait_until(lambda: len(host.children()) == 1)
    os.kill(int(host.children()[0]), signal.SIGSTOP)
    assert host.hear()["timed_out"] is True
    wait_until(lambda: host.children() == [])


def test_the_end_of_the_socket_lets_running_children_finish(host: Host, lock: None) -> None:
    host.send(locked(host, 1, deadline_ms=700))
    wait_until(lambda: len(host.children()) == 1)
    host.socket.shutdown(socket.SHUT_WR)
    time.sleep(0.2)
    assert host.process.poll() is None
    assert host.hear()["timed_out"] is True
    assert host.process.wait(10) == 0


def test_sigterm_ends_the_host_and_its_children(host: Host, lock: None) -> None:
    host.send(locked(host, 1))
    wait_until(lambda: len(host.children()) == 1)
    child = int(host.children()[0])
    host.process.send_signal(signal.SIGTERM)
    assert host.process.wait(10) == 0
    assert not Path(f"/proc/{child}").exists()


def test_an_agent_that_vanishes_is_no_reason_to_linger(host: Host) -> None:
    host.hang_up()
    assert host.process.wait(10) == 0


def test_nothing_grows_over_many_requests(host: Host) -> None:
    def resident_kb() -> int:
        status = Path(f"/proc/{host.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    for _ in range(20):
        host.ask(host.call("ADD"), host.call("DEL"))
    wait_until(lambda: host.children() == [])
    before = (host.descriptors(), resident_kb())
    for _ in range(150):
        host.ask(host.call("ADD"), host.call("DEL"))
    wait_until(lambda: host.children() == [])
    assert host.descriptors() == before[0]
    assert resident_kb() - before[1] < 512
    assert resident_kb() < 20_000


def test_what_a_delegated_plugin_says_on_stderr_is_in_the_reply(host: Host, tmp_path: Path) -> None:
    (tmp_path / "talker").write_text('#!/bin/sh\necho "something odd" >&2\nexit 3\n')
    (tmp_path / "talker").chmod(0o755)
    call = host.call("STATUS", CNI_PATH=str(tmp_path))
    config = {"cniVersion": "1.1.0", "name": "n", "bridge": "absent0", "ipam": {"type": "talker"}}
    (reply,) = host.ask({**call, "type": "ecs-bridge", "config": config})["replies"]
    assert (reply["exit"], reply["stderr"]) == (1, "something odd\n")
    assert "plugin talker failed with no error message" in json.loads(reply["stdout"])["msg"]


def test_the_host_tells_its_version(plugins: Path) -> None:
    said = subprocess.run([str(plugins / "ecs-plugin-host"), "--version"], capture_output=True, check=True)
    assert set(json.loads(said.stdout)) == {"version", "dirty", "gitShortHash"}
