"""The image on a real Docker, started without one of the things that it needs: each is named, and nothing is done."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.host.capabilities import docker_options

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

IMAGE = os.environ.get("BERTH_TEST_IMAGE", "berth/agent")
TERMINAL = 5
SOCKET, STATE, LOGS, NAMES, GROUPS = (
    "/var/run/docker.sock:/var/run/docker.sock",
    "/var/lib/ecs:/var/lib/ecs",
    "/var/log/ecs:/var/log/ecs",
    "/run/netns:/run/netns:shared",
    "/sys/fs/cgroup:/sys/fs/cgroup",
)
# An agent that lacks nothing would really start. This setting ends it before it touches anything.
REFUSED = "BERTH_PAUSE_PATH=/nowhere"


def docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ("docker", *words), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50, check=False
    )


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    if docker("image", "inspect", IMAGE).returncode != 0:
        pytest.skip(f"there is no image {IMAGE}: make image")


class Start:
    """``docker run`` with everything that the strict alternative has; a test takes something away."""

    def __init__(self, place: Path) -> None:
        self.mounts = [SOCKET, STATE, LOGS, NAMES, GROUPS]
        self.rights = [*docker_options()]
        self.namespaces = ["--net=host", "--pid=host"]
        self.settings = [REFUSED, "BERTH_LOG_CONSOLE=json", "ECS_LOGFILE="]
        # state and logs of a real agent of this machine are none of our business
        self._places = {"/var/lib/ecs": place / "lib", "/var/log/ecs": place / "log"}
        for each in self._places.values():
            each.mkdir()

    def without(self, *what: str) -> "Start":
        for words in (self.mounts, self.rights, self.namespaces):
            words[:] = [word for word in words if word not in what]
        return self

    def ended(self) -> tuple[int, str]:
        """The exit code, and the reason that its log gives."""
        mounts = []
        for mount in self.mounts:
            source, _, inside = mount.partition(":")
            mounts += ["-v", f"{self._places.get(source, source)}:{inside}"]
        settings = [word for each in self.settings for word in ("-e", each)]
        done = docker("run", "--rm", *self.rights, *self.namespaces, *mounts, *settings, IMAGE)
        lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        reasons = [line["reason"] for line in lines if line["event"] == "agent.failed"]
        return done.returncode, reasons[-1] if reasons else done.stderr


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    made = Start(tmp_path)
    yield made
    assert list((tmp_path / "lib").rglob("tasks")) == [], "it has begun to work"


def test_with_everything_it_gets_beyond_the_first_look(start: Start) -> None:
    code, reason = start.ended()
    assert (code, "pause image" in reason) == (TERMINAL, True), reason


@pytest.mark.parametrize("taken", ["--pid=host", "--net=host", SOCKET])
def test_what_is_missing_is_named_with_the_option_that_gives_it(start: Start, taken: str) -> None:
    code, reason = start.without(taken).ended()
    assert code == TERMINAL
    assert reason.startswith("the agent was started without ")
    assert reason.endswith(f"add {taken}" if taken != SOCKET else "or set DOCKER_HOST to where it is")
    assert "; without " not in reason, "one thing only"


def test_several_things_are_named_together_and_nothing_else(start: Start) -> None:
    """Rights, names of namespaces that do not reach the machine, control groups of the container's own."""
    start.without("--cap-add=SYS_PTRACE", "--cap-add=KILL", "--security-opt=systempaths=unconfined", GROUPS)
    start.rights.append("--cgroupns=private")
    start.mounts = [mount.removesuffix(":shared") for mount in start.mounts]
    code, reason = start.ended()
    assert code == TERMINAL
    told = [each.partition(": ")[2] for each in reason.split("without ")[1:]]
    assert [each.rstrip("; ") for each in told] == [
        "add --privileged or --cap-add=SYS_PTRACE",
        "add --privileged or --cap-add=KILL",
        "add --privileged or --security-opt=systempaths=unconfined",
        f"add -v {NAMES}",
        f"add -v {GROUPS}",
    ]


def test_a_cluster_is_not_joined_when_the_state_would_end_with_the_container(start: Start) -> None:
    start.settings += [
        "ECS_CLUSTER=somewhere",
        "AWS_DEFAULT_REGION=us-east-1",
        "AWS_EC2_METADATA_DISABLED=true",
    ]
    code, reason = start.without(STATE).ended()
    assert (code, f"-v {STATE}" in reason) == (TERMINAL, True), reason


def test_a_bare_docker_run_is_told_everything_at_once(start: Start) -> None:
    start.rights, start.namespaces, start.mounts = [], [], []
    code, reason = start.ended()
    assert code == TERMINAL
    for option in ("--cap-add=NET_ADMIN", "--cap-add=SYS_ADMIN", "--cap-add=SYS_PTRACE", "systempaths", "--pid=host",
                   "--net=host", f"-v {SOCKET}", f"-v {NAMES}", f"-v {GROUPS}"):  # fmt: skip
        assert option in reason
