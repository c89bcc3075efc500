import json
import time
from types import SimpleNamespace

import pytest

from agent.cli.main import main


def test_logs_are_copied_byte_for_byte(agent, capfdbinary) -> None:
    agent.answers["/berth/v1/logs"] = (200, b"one\n\xff\x00two")
    assert main(["logs", "abcd", "-f", "--tail", "5"]) == 0
    assert capfdbinary.readouterr().out == b"one\n\xff\x00two"
    assert agent.calls[-1] == (
        "/berth/v1/logs",
        {"task": "abcd", "follow": "true", "tail": "5"},
    )


@pytest.mark.parametrize(("status", "code"), [(400, 2), (404, 3), (409, 1), (503, 1)])
def test_why_there_are_no_logs_is_told(agent, capsys, status, code) -> None:
    agent.answers["/berth/v1/logs"] = (status, {"message": "container is missing; expected one of web, api"})
    assert main(["logs", "abcd"]) == code
    assert capsys.readouterr().err == "berth logs: container is missing; expected one of web, api\n"


WAIT = {
    "subject": "web", "status": "CREATED", "goal": "RUN", "waits_for": "dependencies_met",
    "cause": "start container waits: api is not HEALTHY", "since": "2026-01-01T12:00:00Z",
    "until": "2026-01-02T12:00:00Z", "then": "the task is stopped with this as its reason", "age": 75.2,
}  # fmt: skip


def test_explain_tells_each_wait_with_cause_age_deadline_and_what_happens_then(agent, capsys) -> None:
    document = {"task": "arn:x/abcd", "status": "PENDING", "goal": "RUN", "reason": None, "waits": [WAIT]}
    agent.answers["/berth/v1/explain"] = (200, document)
    assert main(["explain", "abcd"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "abcd is PENDING",
        "dependencies_met",
        WAIT["cause"],
        "1m 15s ago",
        WAIT["then"],
        "until:     2026-01-02 ",
    ):
        assert part in shown
    assert agent.calls == [("/berth/v1/explain", {"task": "abcd"})]
    assert main(["explain", "abcd", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == document


def test_status_is_zero_when_well_and_one_with_the_reasons_when_not(agent, capsys) -> None:
    agent.answers["/v1/metadata"] = (
        200,
        {"Cluster": "default", "Version": "berth - v1", "ContainerInstanceArn": "arn:i"},
    )
    agent.answers["/v1/tasks"] = (200, {"Tasks": [{"KnownStatus": "RUNNING"}, {"KnownStatus": "PENDING"}]})
    agent.answers["/health"] = (200, {"status": "OK", "reasons": []})
    assert main(["status"]) == 0
    assert "2: 1 RUNNING, 1 PENDING\n" in capsys.readouterr().out
    problem = {"component": "runtime", "status": "IMPAIRED", "reason": "Docker does not answer"}
    agent.answers["/health"] = (503, {"status": "IMPAIRED", "reasons": [problem]})
    assert main(["status"]) == 1
    assert "runtime: Docker does not answer" in capsys.readouterr().out
    assert main(["status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["health"]["status"] == "IMPAIRED"


CHANNELS = [
    {"name": "control", "state": "connected", "since": "2026-01-01T12:00:00Z",
     "last_message_at": "2026-01-01T12:02:48Z", "age_seconds": 12.2, "problem": None},
    {"name": "telemetry", "state": "disconnected", "since": "2026-01-01T12:02:15Z",
     "last_message_at": None, "age_seconds": None, "problem": "no route"},
]  # fmt: skip


def test_status_has_a_line_for_each_channel(agent, capsys, monkeypatch) -> None:
    noon = 1_767_268_800.0
    monkeypatch.setattr(time, "time", lambda: noon + 180)
    agent.answers["/v1/metadata"] = (200, {"Version": "berth - v1"})
    agent.answers["/v1/tasks"] = (200, {"Tasks": []})
    agent.answers["/health"] = (200, {"status": "OK", "reasons": [], "channels": CHANNELS})
    assert main(["status"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "control channel: connected for 3m, last message 12s ago" in shown
    assert "telemetry channel: disconnected for 45s, no message yet (no route)" in shown
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["health"]["channels"] == CHANNELS


def test_an_agent_that_does_not_answer_is_given_up(agent, monkeypatch, capsys) -> None:
    monkeypatch.setattr("agent.cli.connection.TIMEOUT", 0.2)
    monkeypatch.setattr(agent, "list_tasks", lambda _: time.sleep(0.5) or {"taskArns": []})
    assert main(["ps"]) == 1
    assert "did not answer within" in capsys.readouterr().err


def test_explain_of_a_task_that_waits_for_nothing_says_so(agent, capsys) -> None:
    agent.answers["/berth/v1/explain"] = (
        200,
        {"task": "arn:x/abcd", "status": "RUNNING", "goal": "RUN", "waits": []},
    )
    assert main(["explain", "abcd"]) == 0
    assert capsys.readouterr().out == "abcd is RUNNING, its goal is RUN\nIt waits for nothing.\n"


def test_explain_of_a_task_that_is_gone_tells_what_is_remembered(agent, capsys) -> None:
    gone = [{"name": "job", "exitCode": 1, "reason": "OutOfMemoryError: killed"}]
    agent.add_task(
        1,
        lastStatus="STOPPED",
        desiredStatus="STOPPED",
        stoppedReason="Essential container in task exited",
        containers=gone,
    )
    assert main(["explain", f"{1:032x}"]) == 0
    shown = capsys.readouterr().out
    assert "reason: Essential container in task exited" in shown
    assert "job: exit code 1 OutOfMemoryError: killed" in shown
    assert "It is over" in shown


def test_without_a_task_everything_that_waits_is_explained(agent, capsys) -> None:
    agent.answers["/berth/v1/explain"] = (200, {"tasks": []})
    assert main(["explain"]) == 0
    assert capsys.readouterr().out == "No task waits for anything.\n"
    task = {"task": "arn:x/abcd", "status": "PENDING", "goal": "RUN", "reason": None, "waits": [WAIT]}
    agent.answers["/berth/v1/explain"] = (200, {"tasks": [task, task | {"task": "arn:x/ef01"}]})
    assert main(["explain"]) == 0
    shown = capsys.readouterr().out
    assert "abcd is PENDING" in shown
    assert "ef01 is PENDING" in shown


def test_status_says_what_is_wrong_since_when_and_what_to_do(agent, capsys, monkeypatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_767_268_980.0)
    since = "2026-01-01T12:02:15Z"
    reasons = [
        {"component": "runtime", "status": "IMPAIRED", "since": since, "reason": "Docker does not\nanswer"},
        {"component": "odd", "status": "IMPAIRED", "since": since, "reason": "why"},
    ]
    agent.answers["/v1/metadata"] = (200, {"Version": "berth - v1", "Cluster": "default"})
    agent.answers["/health"] = (503, {"status": "IMPAIRED", "reasons": reasons})
    tasks = [{"id": "8f0c" + "0" * 28, "status": "PENDING", "arn": "a"}, {"id": "b", "status": "RUNNING"}]
    agent.answers["/berth/v1/tasks"] = (200, {"tasks": tasks})
    assert main(["status"]) == 1
    shown = capsys.readouterr().out
    assert "instance: not registered yet" in shown
    assert "tasks:    2: 1 RUNNING, 1 PENDING" in shown
    assert "IMPAIRED runtime: Docker does not answer (for 45s)" in shown
    assert "next: Docker does not answer: systemctl status docker" in shown
    assert "berth logs --agent --level warn says more" in shown
    assert "1 task waits: berth explain 8f0c00000000 says for what" in shown
    assert main(["status", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["tasks_by_status"] == {"RUNNING": 1, "PENDING": 1}
    assert len(document["next"]) == 3


def test_status_warns_of_a_disk_that_is_nearly_full(agent, capsys, monkeypatch) -> None:
    from agent.cli import status

    monkeypatch.setattr(status.shutil, "disk_usage", lambda _: SimpleNamespace(total=100 << 30, free=5 << 30))
    agent.answers["/v1/metadata"] = (200, {"Version": "berth - v1"})
    agent.answers["/health"] = (200, {"status": "OK", "reasons": []})
    agent.answers["/berth/v1/tasks"] = (200, {"tasks": []})
    assert main(["status"]) == 0
    shown = capsys.readouterr().out
    assert "95% used, 5.0 GiB free" in shown
    assert "nearly full" in shown
    assert "tasks:    none" in shown
