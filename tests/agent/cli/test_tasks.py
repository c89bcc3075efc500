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


def seen(number: int, **more) -> dict:
    """A task as the introspection API tells it."""
    arn = f"arn:aws:ecs:us-east-1:111122223333:task/shop/{number:032x}"
    return {
        "arn": arn, "id": arn[-32:], "cluster": "shop", "family": "web", "revision": "3", "group": None,
        "status": "RUNNING", "goal": "RUN", "reason": None, "accepted_at": f"2026-01-01T12:00:{number:02}Z",
        "started_at": f"2026-01-01T12:01:{number:02}Z", "stop_requested_at": None, "stopped_at": None,
        "execution_stopped_at": None,
        "network": {"ipv4_addresses": [f"10.0.0.{number}/24"], "eni_id": "eni-1"},
        "sandbox": {"interface_seen_at": "2026-01-01T12:00:30Z"},
        "containers": [
            {
                "name": "app", "essential": True, "image": "web:1", "status": "RUNNING", "health": "HEALTHY",
                "health_since": "2026-01-01T12:02:00Z", "pull_started_at": "2026-01-01T12:00:40Z",
                "pull_stopped_at": "2026-01-01T12:00:41Z", "created_at": "2026-01-01T12:00:42Z",
                "started_at": "2026-01-01T12:00:43Z", "finished_at": None, "exit_code": None, "reason": None,
            }
        ],
    } | more  # fmt: skip


@pytest.fixture
def machine(agent, monkeypatch):
    """The agent of a machine of a cluster."""
    monkeypatch.setenv("BERTH_BACKEND", "ecs")
    monkeypatch.setenv("ECS_CLUSTER", "shop")
    stopped = seen(3, status="STOPPED", goal="STOP", stopped_at="2026-01-01T12:05:00Z", family="job")
    agent.answers["/berth/v1/tasks"] = (200, {"tasks": [seen(1), seen(2), stopped]})
    return agent


def test_a_machine_of_a_cluster_lists_what_it_knows_without_the_control_plane(machine, capsys) -> None:
    assert main(["ps"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0][-1] for row in rows] == ["2", "1"]
    assert rows[0][1:5] == ["web:3", "RUNNING", "HEALTHY", "10.0.0.2"]
    assert main(["ps", "-a", "--json"]) == 0
    tasks = json.loads(capsys.readouterr().out)["tasks"]
    assert [task["lastStatus"] for task in tasks] == ["STOPPED", "RUNNING", "RUNNING"]
    assert tasks[1]["taskDefinitionArn"].endswith(":task-definition/web:3")
    assert tasks[1]["clusterArn"] == "arn:aws:ecs:us-east-1:111122223333:cluster/shop"
    assert machine.names_of_calls() == ["/berth/v1/tasks"] * 2


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (["--status", "stopped"], "3"),
        (["--status", "RUNNING", "--status", "STOPPED"], "321"),
        (["-a", "--family", "job"], "3"),
        (["--family", "job"], ""),
        (["--family", "web", "--family", "job"], "21"),
        (["--cluster", "other"], ""),
    ],
)
def test_a_list_may_be_narrowed(machine, capsys, options, numbers) -> None:
    assert main(["ps", "-q", *options]) == 0
    assert "".join(line[-1] for line in capsys.readouterr().out.split()) == numbers


def test_a_task_of_a_cluster_is_described_from_the_machine_with_its_story(machine, capsys) -> None:
    for named in (f"{1:032x}", seen(1)["arn"]):
        assert main(["describe", named, "--json"]) == 0
        task = json.loads(capsys.readouterr().out)
        assert task["taskArn"] == seen(1)["arn"]
    assert [(each["subject"], each["event"]) for each in task["timeline"]] == [
        ("task", "was created"),
        ("task", "was accepted by the agent"),
        ("task", "had its network interface on this machine"),
        ("app", "began to be pulled"),
        ("app", "was pulled"),
        ("app", "was created"),
        ("app", "was started"),
        ("task", "was RUNNING"),
        ("app", "found HEALTHY"),
    ]
    assert main(["describe", f"{1:032x}"]) == 0
    assert "\t+42.0s\tapp was started" in capsys.readouterr().out
    assert main(["describe", "ffff"]) == 3
    assert "no task of this machine begins with ffff" in capsys.readouterr().err


def test_the_story_of_a_task_of_the_own_control_plane_has_both_sides(agent, capsys) -> None:
    task = agent.add_task(1, startedAt=1_767_225_605.0)
    agent.answers["/berth/v1/tasks"] = (200, {"tasks": [seen(1, arn=task["taskArn"])]})
    assert main(["describe", f"{1:032x}", "--json"]) == 0
    events = [each["event"] for each in json.loads(capsys.readouterr().out)["timeline"]]
    assert "was created" in events
    assert "had its network interface on this machine" in events


def test_stop_goes_on_after_a_task_that_is_not_there(agent, capsys) -> None:
    tasks = [agent.add_task(number << 112) for number in (0xAAAA, 0xBBBB)]
    assert main(["stop", "aaaa", "cccc", "bbbb", "aaaa"]) == 3
    assert [task["desiredStatus"] for task in tasks] == ["STOPPED", "STOPPED"]
    told = capsys.readouterr()
    assert told.out.count("is stopping") == 2
    assert "begins with cccc" in told.err
    assert agent.names_of_calls().count("StopTask") == 2


def test_stop_as_json_has_tasks_and_failures(agent, capsys) -> None:
    agent.add_task(0xAAAA << 112)
    assert main(["stop", "aaaa", "cccc", "--json"]) == 3
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert len(document["tasks"]) == 1
    assert document["failures"][0]["exit_code"] == 3
    assert told.err == ""


def test_stop_may_wait_until_all_have_stopped(agent, capsys, monkeypatch) -> None:
    task = agent.add_task(0xAAAA << 112)
    looks = []

    def end(_: float) -> None:
        looks.append(task["lastStatus"])
        task["lastStatus"] = "STOPPED" if len(looks) > 1 else "STOPPING"

    monkeypatch.setattr(tasks.time, "sleep", end)
    assert main(["stop", "aaaa", "--wait"]) == 0
    assert looks == ["RUNNING", "STOPPING"]
    assert "has stopped" in capsys.readouterr().out
    task["lastStatus"] = "RUNNING"
    clock = iter(range(1000))
    monkeypatch.setattr(tasks.time, "sleep", lambda _: None)
    monkeypatch.setattr(tasks.time, "monotonic", lambda: next(clock))
    assert main(["stop", "aaaa", "--wait", "--timeout", "5"]) == 1
    assert "not STOPPED after 5s" in capsys.readouterr().err
