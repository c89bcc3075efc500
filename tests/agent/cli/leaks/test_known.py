import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from agent.cli.connection import Connection
from agent.cli.failures import FAILED, NOT_RUNNING, USAGE, Failure
from agent.cli.leaks import known as module
from agent.cli.leaks.known import knowing, recorded
from agent.settings import Settings, environment

GOLDEN = Path(__file__).resolve().parents[3] / "golden" / "checkpoints" / "v1.json"
TASK = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def settings(data_directory) -> Settings:
    data_directory.mkdir(parents=True, exist_ok=True)
    return Settings.load(environment())


def database(path: Path, *, tasks=(), attachments=()) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE tasks (id TEXT, last_status TEXT)")
        connection.execute("CREATE TABLE attachments (record TEXT, released_at REAL)")
        connection.executemany("INSERT INTO tasks VALUES (?, ?)", tasks)
        connection.executemany("INSERT INTO attachments VALUES (?, ?)", attachments)


def test_checkpoints_name_tasks_and_their_sandboxes(settings, data_directory) -> None:
    (data_directory / "tasks").mkdir()
    shutil.copy(GOLDEN, data_directory / "tasks" / f"{TASK}.json")
    found = recorded(settings)
    assert found.tasks == {TASK}
    assert found.sandboxes == {"a" * 64}
    assert not found.has_agent


def test_a_damaged_record_still_names_its_task(settings, data_directory) -> None:
    (data_directory / "tasks" / "broken").mkdir(parents=True)
    (data_directory / "tasks" / "damaged.json").write_text("{")
    (data_directory / "tasks" / "broken" / "aside.json.1").write_text("")
    assert recorded(settings).tasks == {"damaged", "aside"}


def test_a_record_of_a_newer_agent_is_not_guessed_at(settings, data_directory) -> None:
    (data_directory / "tasks").mkdir()
    (data_directory / "tasks" / "new.json").write_text('{"version": 999}')
    with pytest.raises(Failure, match="newer agent"):
        recorded(settings)


def test_live_tasks_of_both_backends_are_known_and_ended_ones_are_not(settings, data_directory) -> None:
    database(
        data_directory / "berth.db",
        tasks=[("live", "RUNNING"), ("over", "STOPPED")],
        attachments=[(json.dumps({"eni_id": "eni-1"}), None), (json.dumps({"eni_id": "eni-2"}), 5.0)],
    )
    (data_directory / "ecs").mkdir()
    (data_directory / "ecs" / "task-given.json").write_text('{"ended_at": null}')
    (data_directory / "ecs" / "task-ended.json").write_text('{"ended_at": "2026-01-01T00:00:00+00:00"}')
    found = recorded(settings)
    assert found.tasks == {"live", "given"}
    assert found.interfaces == {"eni-1"}


def test_a_database_that_cannot_be_read_counts_as_no_answer(settings, data_directory) -> None:
    (data_directory / "berth.db").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(Failure, match="nobody can say"):
        recorded(settings)


def test_without_an_agent_and_without_records_nothing_is_called_left(settings, data_directory) -> None:
    data_directory.rmdir()
    with pytest.raises(Failure, match="--env-file") as failure:
        recorded(settings)
    assert failure.value.code == USAGE


def test_the_running_agent_is_believed(agent, settings) -> None:
    arn = f"arn:aws:ecs:us-east-1:111122223333:task/default/{TASK}"
    agent.answers["/berth/v1/known"] = (
        200,
        {"is_complete": True, "tasks": [arn], "sandboxes": ["b" * 64]},
    )
    agent.answers["/v1/metadata"] = (200, {"Cluster": "blue"})
    found = knowing(Connection.find(None), settings)()
    assert (found.tasks, found.sandboxes, found.has_agent, found.cluster) == (
        {TASK},
        {"b" * 64},
        True,
        "blue",
    )


def test_an_agent_whose_backend_has_not_spoken_yet_lets_nothing_be_called_left(agent, settings) -> None:
    agent.answers["/berth/v1/known"] = (200, {"is_complete": False, "tasks": [], "sandboxes": []})
    with pytest.raises(Failure, match="not named all") as failure:
        knowing(Connection.find(None), settings)()
    assert failure.value.code == FAILED


def test_an_older_agent_is_named_as_such(agent, settings) -> None:
    with pytest.raises(Failure, match="older than this command"):
        knowing(Connection.find(None), settings)()


def test_an_agent_that_is_there_and_does_not_answer_is_not_taken_for_absent(settings, monkeypatch) -> None:
    def refuse(*_args, **_more):
        raise Failure("nothing listens", NOT_RUNNING)

    connection = Connection.find(None)
    monkeypatch.setattr(connection, "get", refuse)
    monkeypatch.setattr(module, "claim_holder", lambda _: 4711)
    with pytest.raises(Failure, match="process 4711"):
        knowing(connection, settings)()
    monkeypatch.setattr(module, "claim_holder", lambda _: None)
    assert knowing(connection, settings)().has_agent is False
