"""What nobody needs any more is named and goes; what a running task needs stays, whatever is swept around it."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.agent_process import BIN, ENDPOINT, Agent, eventually
from tests.e2e.inside import Containers, Network, parsed
from tests.e2e.task_definitions import a_definition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

PORT = f"vethlost{os.getpid() % 100000}"
MARK = f"ecs:{'dead' * 16}:ecs-bridge:ecs-eth0"


def ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True, timeout=10)


@pytest.fixture
def port() -> Iterator[str]:
    """The name of a port for the test to make."""
    yield PORT
    ip("link", "del", PORT, check=False)


def test_a_port_of_no_task_goes_and_a_running_task_keeps_its_own(
    agent: Agent, containers: Containers, port: str
) -> None:
    task = agent.started(a_definition("web", {"name": "web"}))
    ip("link", "add", port, "type", "veth", "peer", "name", f"x{port[4:]}")
    ip("link", "set", port, "master", "ecs-bridge", "alias", MARK)

    told = agent.command(str(BIN / "berth"), "leaks", "--json")
    assert told.returncode == 1
    found = json.loads(told.stdout)["leaks"]
    assert (found.pop("links"), any(found.values())) == ([port], False)

    removed = eventually("something is removed", lambda: agent.said("leftover.removed"), seconds=60)
    assert [line["leftover"] for line in removed] == [port]
    assert not Path(f"/sys/class/net/{port}").exists()
    assert "nothing is left" in agent.berth("leaks")
    assert not agent.said("sweep.failed")
    # its link to the agent and its lease are still there
    inside = containers.network(task)
    assert inside.fetch(f"{ENDPOINT}/v2/credentials/unknown").code >= 400
    second = agent.started(a_definition("web", {"name": "web"}))
    assert _local_address(inside) != _local_address(containers.network(second))


def _local_address(inside: Network) -> str:
    """A task's address on its link to the agent."""
    (link,) = parsed(inside.run("ip", "-json", "-4", "addr", "show", "dev", "ecs-eth0"))
    return str(link["addr_info"][0]["local"])
