import json

import pytest

from agent.cli import output, tasks
from agent.cli.main import main


@pytest.fixture
def terminal(monkeypatch) -> None:
    monkeypatch.setattr(output, "is_for_people", lambda: True)


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


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        (("env",), "aws ecs list-tasks"),
        (("stop", "0123"), "aws ecs stop-task --task TASK"),
        (("run", "web"), "aws ecs run-task --task-definition FAMILY"),
    ],
)
def test_a_machine_of_a_cluster_has_no_api_of_its_own_and_says_what_to_use_instead(
    agent, monkeypatch, capsys, words, instead
) -> None:
    monkeypatch.setenv("BERTH_BACKEND", "ecs")
    monkeypatch.setenv("ECS_CLUSTER", "shop")
    assert main(list(words)) == 2
    said = capsys.readouterr().err
    assert "belongs to the cluster shop" in said
    assert f"{instead} --cluster shop" in said
    assert "berth ps" in said
    assert agent.names_of_calls() == []


def test_explain_does_not_ask_an_api_that_is_not_there(agent, monkeypatch, capsys) -> None:
    monkeypatch.setenv("BERTH_BACKEND", "ecs")
    monkeypatch.setenv("ECS_CLUSTER", "shop")
    assert main(["explain", "0123"]) == 3
    assert "aws ecs" not in capsys.readouterr().err
    assert agent.names_of_calls() == ["/berth/v1/explain"]
