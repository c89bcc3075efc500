"""An agent that cannot start says why, all of it at once, and what to do; one that can despite trouble does."""

import json
import os
import socket
from pathlib import Path

import pytest

from tests.e2e.agent_process import BIN
from tests.e2e.conftest import MakeAgent

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_all_settings_of_a_wrong_type_are_named_at_once(make_agent: MakeAgent) -> None:
    wrong = {
        "ECS_RESERVED_MEMORY": "lots",
        "ECS_CONTAINER_STOP_TIMEOUT": "soon",
        "BERTH_PLUGIN_HOST": "perhaps",
        "BERTH_MAX_INTERFACES": "-1",
    }
    agent = make_agent(**wrong)

    assert agent.ends() == 1
    said = agent.log_file.read_text()
    for name, value in wrong.items():
        assert name in said, said
        assert value in said, said
    assert "Traceback" not in said


@pytest.mark.parametrize("kind", ["missing", "a directory", "no text"])
def test_a_settings_file_that_cannot_be_read_is_named(make_agent: MakeAgent, kind: str) -> None:
    agent = make_agent()
    file = agent.place / "other.env"
    if kind == "a directory":
        file.mkdir()
    elif kind == "no text":
        file.write_bytes(b"ECS_CLUSTER=\xff\xfe\n")
    done = agent.command(str(BIN / "berth"), "agent", "--env-file", str(file))

    assert done.returncode == 1
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_named_with_the_setting_that_chooses_another(make_agent: MakeAgent) -> None:
    agent = make_agent()
    with socket.create_server(("127.0.0.1", 51678)):
        assert agent.ends() == 1
    (line,) = agent.said("agent.failed")
    assert "127.0.0.1:51678" in line["reason"]
    assert "BERTH_INTROSPECTION_ADDRESS" in line["reason"]

    with socket.create_server(("127.0.0.1", 51670)):
        assert agent.ends() == 1
    assert "BERTH_API_ADDRESS" in agent.said("agent.failed")[-1]["reason"]


def test_a_taken_port_80_is_named_with_the_program_that_has_it(make_agent: MakeAgent) -> None:
    agent = make_agent()
    with socket.create_server(("0.0.0.0", 80)):
        assert agent.ends() == 1
    reason = agent.said("agent.failed")[-1]["reason"]
    assert "169.254.170.2:80" in reason
    assert str(os.getpid()) in reason
    agent.start()
    assert agent.impaired() == {}


def test_a_second_agent_on_the_same_data_does_not_start(make_agent: MakeAgent) -> None:
    agent = make_agent()
    agent.start()

    done = agent.command(str(BIN / "berth"), "agent", "--env-file", str(agent.env_file))
    assert done.returncode == 1
    assert f"another agent (process {agent.pid}) already uses {agent.data}" in done.stderr
    assert agent.get("/health")[0] == 200


def test_an_agent_without_its_pause_image_says_how_to_get_it(make_agent: MakeAgent, tmp_path: Path) -> None:
    agent = make_agent(BERTH_PAUSE_PATH=str(tmp_path / "nowhere"))

    assert agent.ends() == 5
    (line,) = agent.said("agent.failed")
    assert "make build" in line["reason"]
    assert line["is_final"] is True
    assert "BERTH_PAUSE_PATH" in json.dumps(line)
