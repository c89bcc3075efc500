import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent import __version__
from agent.cli import output, tasks
from agent.cli.main import main

WEB = {
    "family": "web",
    "networkMode": "awsvpc",
    "containerDefinitions": [{"name": "web", "image": "web:1", "memory": "512"}],
}
ROOT = Path(__file__).parents[3]


@pytest.fixture
def definition(tmp_path: Path) -> str:
    path = tmp_path / "web.json"
    path.write_text(json.dumps(WEB))
    return str(path)


@pytest.fixture
def terminal(monkeypatch) -> None:
    monkeypatch.setattr(output, "is_for_people", lambda: True)


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


def test_a_missing_cluster_is_not_found(agent, capsys) -> None:
    agent.answers["ListTasks"] = (
        400,
        {"__type": "com.amazonaws.ecs#ClusterNotFoundException", "message": "Cluster not found."},
    )
    assert main(["ps", "--cluster", "nowhere"]) == 3
    assert "ClusterNotFoundException: Cluster not found." in capsys.readouterr().err


def test_ps_lists_every_page_newest_first_and_stopped_ones_on_request(agent, capsys) -> None:
    for number in range(3):
        agent.add_task(number)
    agent.add_task(9, desiredStatus="STOPPED", lastStatus="STOPPED")
    assert main(["ps"]) == 0
    assert [line[:32] for line in capsys.readouterr().out.splitlines()] == [
        f"{number:032x}" for number in (2, 1, 0)
    ]
    assert main(["ps", "-a", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["tasks"]) == 4


def test_a_table_has_a_header_and_colour_on_a_terminal_only(agent, capsys, terminal) -> None:
    agent.add_task(1)
    main(["ps"])
    header, row = capsys.readouterr().out.splitlines()
    assert "TASK" in header
    assert "ADDRESS" in header
    assert "\033[32mRUNNING\033[0m" in row
    plain = row.replace("\033[32m", "").replace("\033[0m", "")
    assert plain.index("RUNNING") == header.replace("\033[1m", "").index("STATUS")


def test_describe_shows_interface_and_containers(agent, capsys) -> None:
    agent.add_task(1, stoppedReason="why", stoppedAt=1_767_225_700.0)
    assert main(["describe", f"{1:032x}"]) == 0
    shown = capsys.readouterr().out
    assert "10.211.0.11" in shown
    assert "web\tRUNNING\t-\t-\tweb:1\t-" in shown
    assert "reason:" in shown
    assert "2026-01-0" in shown


@pytest.mark.parametrize("form", ["arn", "id", "prefix", "upper"])
def test_a_task_may_be_named_by_arn_id_or_beginning(agent, form, capsys) -> None:
    task = agent.add_task(0xABCDEF << 104)
    task_id = task["taskArn"][-32:]
    text = {"arn": task["taskArn"], "id": task_id, "prefix": task_id[:4], "upper": task_id[:6].upper()}[form]
    assert main(["describe", text, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["taskArn"] == task["taskArn"]


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("abc", 2, "too short"),
        ("dead", 3, "no task in cluster default begins with dead; berth ps -a lists them"),
        ("d" * 32, 3, "there is no task"),
        ("0000", 2, "may mean several tasks"),
    ],
)
def test_a_task_that_cannot_be_told_apart_or_found_says_what_to_do(
    agent, capsys, text, code, message
) -> None:
    agent.add_task(1)
    agent.add_task(2)
    assert main(["stop", text]) == code
    assert message in capsys.readouterr().err
    assert "StopTask" not in agent.names_of_calls()


def test_stop_hands_the_reason_on(agent, capsys) -> None:
    task = agent.add_task(0xFEED << 112)
    assert main(["stop", "feed", "--reason", "deploying"]) == 0
    assert task["stoppedReason"] == "deploying"
    assert "is stopping" in capsys.readouterr().out


def test_logs_are_copied_byte_for_byte(agent, capfdbinary) -> None:
    agent.add_task(1)
    agent.answers["/berth/v1/logs"] = (200, b"one\n\xff\x00two")
    assert main(["logs", f"{1:032x}", "-f", "--tail", "5"]) == 0
    assert capfdbinary.readouterr().out == b"one\n\xff\x00two"
    assert agent.calls[-1] == (
        "/berth/v1/logs",
        {"task": agent.tasks[0]["taskArn"], "container": "web", "follow": "true", "tail": "5"},
    )


def test_logs_of_several_containers_need_a_name(agent, capsys) -> None:
    agent.add_task(1, containers=[{"name": "web"}, {"name": "api"}])
    assert main(["logs", f"{1:032x}"]) == 2
    assert "name one of them: web, api" in capsys.readouterr().err
    agent.answers["/berth/v1/logs"] = (404, {"message": "the task has no container db"})
    assert main(["logs", f"{1:032x}", "db"]) == 3
    assert "the task has no container db" in capsys.readouterr().err


def test_config_shows_what_the_agent_uses_or_what_it_would_use(agent, capsys, monkeypatch) -> None:
    agent.answers["/berth/v1/config"] = (
        200,
        {"settings": [{"name": "ECS_CLUSTER", "value": "x", "source": "default"}]},
    )
    assert main(["config"]) == 0
    assert capsys.readouterr().out == "ECS_CLUSTER\tx\tdefault\n"
    monkeypatch.setenv("ECS_CHECKPOINT", "false")
    assert main(["config", "--offline"]) == 0
    told = capsys.readouterr()
    assert "AWS_DEFAULT_REGION\tus-east-1\tthe environment\n" in told.out
    assert "ECS_CHECKPOINT\tfalse\tthe environment (no effect)\n" in told.out
    assert "ECS_CHECKPOINT (the environment) has no effect" in told.err


def test_config_tells_every_mistake(data_directory, capsys, monkeypatch) -> None:
    monkeypatch.setenv("ECS_LOGLEVEL", "loud")
    monkeypatch.setenv("BERTH_PULL_SLOTS", "0")
    assert main(["config", "--offline"]) == 2
    told = capsys.readouterr().err
    assert "ECS_LOGLEVEL='loud'" in told
    assert "BERTH_PULL_SLOTS='0'" in told


def test_env_prints_what_a_shell_and_the_aws_cli_understand(agent, data_directory, capsys) -> None:
    assert main(["env"]) == 0
    lines = capsys.readouterr().out.splitlines()
    exported = dict(shlex.split(line)[1].split("=", 1) for line in lines if line.startswith("export "))
    keys = json.loads((data_directory / "credentials.json").read_text())
    assert set(exported.values()) >= set(keys.values())
    assert exported["AWS_ENDPOINT_URL_ECS"] == f"http://{agent.address}"
    assert exported["AWS_REGION"] == exported["AWS_DEFAULT_REGION"] == "us-east-1"


def test_env_quotes_what_a_shell_would_eat(data_directory, capsys) -> None:
    data_directory.mkdir()
    document = {
        "access_key_id": "FAKE",
        "secret_access_key": "a'b $(c)",
        "endpoint": "http://127.0.0.1:1",
        "region": "eu-west-1",
    }
    (data_directory / "credentials.json").write_text(json.dumps(document))
    assert main(["env"]) == 0
    shown = capsys.readouterr().out
    seen = subprocess.run(
        ["sh", "-c", f'{shown}\nprintf %s "$AWS_SECRET_ACCESS_KEY|$AWS_REGION"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout == "a'b $(c)|eu-west-1"


def test_without_an_agent_every_command_says_so_and_ends_with_four(
    data_directory, capsys, monkeypatch
) -> None:
    for words in (["ps"], ["env"], ["run", "web"], ["stop", "abcd"], ["status"], ["leaks"]):
        monkeypatch.setenv("BERTH_INTROSPECTION_ADDRESS", "127.0.0.1:1")
        assert main(words) == 4, words
        assert "berth agent" in capsys.readouterr().err


def test_an_agent_that_went_away_is_not_running(agent, data_directory, capsys, monkeypatch) -> None:
    monkeypatch.setenv("BERTH_API_ADDRESS", "127.0.0.1:1")
    assert main(["ps"]) == 4
    assert "nothing listens on http://127.0.0.1:1" in capsys.readouterr().err


def test_a_key_file_that_may_not_be_read_falls_back_to_the_environment_of_berth_env(
    agent, data_directory, monkeypatch, capsys
) -> None:
    keys = json.loads((data_directory / "credentials.json").read_text())
    read_text = Path.read_text

    def refused(path: Path, *arguments, **options) -> str:
        if path.name == "credentials.json":
            raise PermissionError(13, "Permission denied")
        return read_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refused)
    assert main(["ps"]) == 1
    assert "use sudo" in capsys.readouterr().err
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys["accessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys["secretAccessKey"])
    assert main(["ps"]) == 1, "keys without our endpoint are the keys of a real account"
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", "https://ecs.us-east-1.amazonaws.com")
    assert main(["ps"]) == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", f"http://{agent.address}")
    assert main(["ps"]) == 0


def test_a_broken_key_file_says_what_to_do(data_directory, capsys) -> None:
    data_directory.mkdir()
    (data_directory / "credentials.json").write_text("{}")
    assert main(["ps"]) == 1
    assert "is no key pair" in capsys.readouterr().err


def test_an_agent_that_does_not_answer_is_given_up(agent, monkeypatch, capsys) -> None:
    monkeypatch.setattr("agent.cli.connection.TIMEOUT", 0.2)
    monkeypatch.setattr(agent, "list_tasks", lambda _: time.sleep(0.5) or {"taskArns": []})
    assert main(["ps"]) == 1
    assert "did not answer within" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["fly"],
        ["run"],
        ["ps", "--nonsense"],
        ["run", "x", "--count", "0"],
        ["logs", "abcd", "--tail", "-1"],
        ["run", "x", "--count", "1e3"],
    ],
)
def test_wrong_use_ends_with_two(words, capsys) -> None:
    assert main(words) == 2
    assert "usage:" in capsys.readouterr().err


def test_help_ends_with_zero_and_names_every_word(capsys) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for word in (
        "agent",
        "env",
        "config",
        "status",
        "leaks",
        "version",
        "run",
        "ps",
        "describe",
        "logs",
        "stop",
        "explain",
    ):
        assert f"    {word} " in shown


def test_version_is_quick_and_imports_nothing_heavy() -> None:
    program = "import sys; from agent.cli.main import main; main(['version']); print(sorted(sys.modules))"
    seen = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout.startswith(f"berth {__version__}\n")
    for heavy in ("structlog", "asyncio", "aiohttp", "botocore", "json", "dataclasses", "http.client"):
        assert f"'{heavy}'" not in seen.stdout, heavy


def test_version_as_json(capsys) -> None:
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": __version__}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (200, "3m 20s"),
        (7500, "2h 5m"),
        (349_200, "4d 1h"),
        (86_401, "1d 1s"),
    ],
)
def test_a_span_has_two_units_at_most(seconds: float, text: str) -> None:
    assert output.span(seconds) == text


def test_more_tasks_than_one_call_takes_are_described_in_hundreds(agent) -> None:
    connection = tasks.Connection.find()
    arns = [agent.add_task(number)["taskArn"] for number in range(150)]
    assert len(tasks.described_tasks(connection, "default", arns)) == 150
    assert [len(request["tasks"]) for _, request in agent.calls] == [100, 50]
