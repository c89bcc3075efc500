"""What a task definition may not say is refused by name when it is registered, whoever asks."""

import copy
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.e2e.agent_process import BIN, Agent
from tests.e2e.task_definitions import DEFINITIONS, a_definition, definition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

GOOD = a_definition("good", {"name": "app"})


def _with(**more: Any) -> dict[str, Any]:
    changed = copy.deepcopy(GOOD)
    changed["containerDefinitions"][0] |= more
    return changed


REFUSED = {
    "an unsupported network mode": (GOOD | {"networkMode": "bridge"}, "networkMode 'bridge'"),
    "no network mode": ({key: value for key, value in GOOD.items() if key != "networkMode"}, "networkMode"),
    "links": (_with(links=["db"]), "containerDefinitions[0].links"),
    "secrets": (_with(secrets=[{"name": "A", "valueFrom": "b"}]), "containerDefinitions[0].secrets"),
    "a log driver of the cloud": (
        _with(logConfiguration={"logDriver": "awslogs", "options": {}}),
        "containerDefinitions[0].logConfiguration.logDriver 'awslogs'",
    ),
    "a volume of the cloud": (
        GOOD | {"volumes": [{"name": "v", "efsVolumeConfiguration": {"fileSystemId": "fs-1"}}]},
        "volumes[0].efsVolumeConfiguration",
    ),
    "an unknown volume": (_with(mountPoints=[{"sourceVolume": "v", "containerPath": "/v"}]), "v"),
    "an unknown dependency": (
        _with(dependsOn=[{"containerName": "nobody", "condition": "START"}]),
        "nobody",
    ),
    "a dependency on itself": (_with(dependsOn=[{"containerName": "app", "condition": "START"}]), "app"),
    "health without a check": (
        a_definition(
            "good",
            {"name": "app", "dependsOn": [{"containerName": "db", "condition": "HEALTHY"}]},
            {"name": "db"},
        ),
        "db",
    ),
    "no memory": (_with(memory=1), "memory"),
    "a bad family": (GOOD | {"family": "what a name"}, "family"),
    "another host port": (
        _with(portMappings=[{"containerPort": 80, "hostPort": 8080}]),
        "portMappings[0]",
    ),
    "fargate alone": (GOOD | {"requiresCompatibilities": ["FARGATE"]}, "requiresCompatibilities"),
    "nothing essential": (_with(essential=False), "essential"),
    "two of one name": (a_definition("good", {"name": "app"}, {"name": "app"}), "app"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_when_it_is_registered(agent: Agent, what: str) -> None:
    document, named = REFUSED[what]

    with pytest.raises(ClientError) as refusal:
        agent.ecs.register_task_definition(**document)
    assert refusal.value.response["Error"]["Code"] in ("ClientException", "InvalidParameterException")
    assert named in refusal.value.response["Error"]["Message"]


def test_the_command_line_shows_every_reason_and_runs_nothing(agent: Agent) -> None:
    refused = {
        "bridge-dynamic-port": ("networkMode 'bridge'", "links"),
        "task-limits": ("awslogs",),
    }
    for name, words in refused.items():
        done = agent.command(str(BIN / "berth"), "run", str(DEFINITIONS / f"{name}.json"))
        assert done.returncode == 1, done
        for word in words:
            assert word in done.stderr, done.stderr
    assert agent.live_arns() == []


def test_numbers_that_are_written_as_text_are_understood(agent: Agent) -> None:
    limited = definition("task-limits")
    limited["containerDefinitions"][0].pop("logConfiguration")
    file = agent.place / "limits.json"
    file.write_text(json.dumps(limited))

    ran = json.loads(agent.berth("run", str(file), "--json"))
    (task,) = ran["tasks"]
    assert (task["cpu"], task["memory"]) == ("256", "1024")
    agent.all_running([task["taskArn"]])


def test_a_file_that_is_no_definition_is_refused_before_anything_is_asked(agent: Agent) -> None:
    for content in ("", "{", "[]", '"text"', '{"family": 3}'):
        file = agent.place / "rubbish.json"
        file.write_text(content)
        done = agent.command(str(BIN / "berth"), "run", str(file))
        assert done.returncode in (1, 2), (content, done)
        assert done.stderr
        assert "Traceback" not in done.stderr
    assert agent.live_arns() == []
