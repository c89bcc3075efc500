import json
from pathlib import Path

import pytest

from agent.cli.main import main

WEB = {
    "family": "web",
    "networkMode": "awsvpc",
    "containerDefinitions": [{"name": "web", "image": "web:1", "memory": "512"}],
}


@pytest.fixture
def definition(tmp_path: Path) -> str:
    path = tmp_path / "web.json"
    path.write_text(json.dumps(WEB))
    return str(path)


def test_run_registers_the_file_as_it_is_and_runs_it_in_the_machines_own_subnet(
    agent, definition, capsys
) -> None:
    assert main(["run", definition, "--count", "2"]) == 0
    assert agent.names_of_calls()[:4] == [
        "RegisterTaskDefinition", "ListContainerInstances", "DescribeContainerInstances", "RunTask",
    ]  # fmt: skip
    assert agent.calls[0][1] == WEB
    request = agent.calls[3][1]
    assert request["count"] == 2
    assert request["networkConfiguration"] == {"awsvpcConfiguration": {"subnets": ["subnet-own"]}}
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[1:3] for row in rows] == [["web:1", "RUNNING"]] * 2
    assert rows[0][0] != rows[1][0]


def test_more_than_ten_copies_are_asked_for_in_tens(agent, definition) -> None:
    assert main(["run", definition, "--count", "23", "--subnet", "subnet-a"]) == 0
    runs = [request for name, request in agent.calls if name == "RunTask"]
    assert [request["count"] for request in runs] == [10, 10, 3]
    assert runs[0]["networkConfiguration"]["awsvpcConfiguration"]["subnets"] == ["subnet-a"]


def test_run_takes_a_registered_family_instead_of_a_file(agent, definition, tmp_path, monkeypatch) -> None:
    main(["run", definition])
    agent.calls.clear()
    monkeypatch.chdir(tmp_path)
    assert main(["run", "web:1"]) == 0
    assert agent.calls[0] == ("DescribeTaskDefinition", {"taskDefinition": "web:1"})


def test_run_takes_what_describe_task_definition_prints(agent, tmp_path) -> None:
    path = tmp_path / "described.json"
    extra = {"taskDefinitionArn": "arn:x", "revision": 3, "status": "ACTIVE", "registeredAt": 1.0}
    path.write_text(json.dumps({"taskDefinition": WEB | extra, "tags": []}))
    assert main(["run", str(path)]) == 0
    assert agent.calls[0][1] == WEB


def test_copies_without_room_are_told_and_fail_the_command(agent, definition, capsys) -> None:
    agent.room = 1
    assert main(["run", definition, "--count", "2"]) == 1
    assert "a copy was not placed: RESOURCE:MEMORY (64 MiB are wanted)" in capsys.readouterr().err


def test_many_copies_without_room_are_told_in_one_line_in_plain_words(agent, definition, capsys) -> None:
    failures = [{"arn": "arn:x", "reason": "RESOURCE:CPU"}] * 10
    agent.answers["RunTask"] = (200, {"tasks": [], "failures": failures})
    assert main(["run", definition, "--count", "20"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "berth run: 20 copies were not placed: RESOURCE:CPU (the tasks of this machine have"
    )


def test_waiting_for_a_task_that_dies_fails_with_its_reason(agent, definition, capsys) -> None:
    agent.become = "STOPPED"
    agent.answers["RunTask"] = (
        200,
        {
            "tasks": [
                agent.add_task(1, stopCode="TaskFailedToStart", stoppedReason="CannotPullContainerError: no")
            ]
        },
    )
    assert main(["run", definition, "--wait"]) == 1
    assert "has stopped: CannotPullContainerError: no" in capsys.readouterr().err


def test_a_job_that_ended_well_is_no_failure(agent, definition) -> None:
    agent.become = "STOPPED"
    done = agent.add_task(1, stopCode="EssentialContainerExited", containers=[{"name": "job", "exitCode": 0}])
    agent.answers["RunTask"] = (200, {"tasks": [done]})
    assert main(["run", definition, "--wait"]) == 0


def test_waiting_has_a_limit_and_then_says_how_to_learn_more(agent, definition, capsys) -> None:
    agent.become = "PENDING"
    assert main(["run", definition, "--wait", "--timeout", "1"]) == 1
    assert "1 of 1 tasks are not RUNNING after 1s; berth explain 0000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "expected a task definition as JSON: "),
        ("[]", "expected a task definition as a JSON object"),
        ('{"taskDefinition": 7}', "taskDefinition: expected a JSON object"),
    ],
)
def test_a_file_that_is_no_definition_is_told_before_the_agent_is_asked(
    agent, tmp_path, capsys, content, message
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    assert main(["run", str(path)]) == 2
    assert f"berth run: {path}: {message}" in capsys.readouterr().err
    assert agent.calls == []


def test_a_file_that_is_missing_is_told(agent, capsys) -> None:
    assert main(["run", "./no-such.json"]) == 2
    assert "./no-such.json: No such file or directory" in capsys.readouterr().err


def test_an_error_of_the_api_is_told_with_its_name(agent, definition, capsys) -> None:
    agent.answers["RegisterTaskDefinition"] = (
        400,
        {"__type": "ClientException", "message": "networkMode: bridge comes later"},
    )
    assert main(["run", definition]) == 1
    assert capsys.readouterr().err == "berth run: ClientException: networkMode: bridge comes later\n"
