import json
import threading
import time
from pathlib import Path

import pytest

from agent.cli import agent_log, output
from agent.cli.main import main
from agent.logs import LogFile, RollingFile

TASK = "8f0c" + "0" * 28


@pytest.fixture
def two_containers(agent):
    agent.answers["/berth/v1/tasks"] = (
        200,
        {"tasks": [{"id": TASK, "arn": f"arn:{TASK}", "containers": [{"name": "web"}, {"name": "api"}]}]},
    )
    pieces = {
        None: (400, {"message": "container is missing; expected one of web, api"}),
        "web": (200, b"2026-01-01T12:00:00.1Z one\n2026-01-01T12:00:03Z three\n"),
        "api": (200, b"2026-01-01T12:00:02.5Z two\r\n2026-01-01T12:00:04Z f\xc3\xbcnf"),
    }
    answer = agent.introspect

    def introspect(path: str, query: dict[str, str]):
        return pieces[query.get("container")] if path == "/berth/v1/logs" else answer(path, query)

    agent.introspect = introspect
    agent.pieces = pieces
    return agent


def test_all_containers_of_a_task_are_shown_in_the_order_of_time(two_containers, capfdbinary) -> None:
    assert main(["logs", "8f0c"]) == 0
    shown = capfdbinary.readouterr().out.decode()
    assert shown == "web | one\napi | two\nweb | three\napi | fünf\n"
    assert main(["logs", "8f0c", "--tail", "2", "-t"]) == 0
    shown = capfdbinary.readouterr().out.decode()
    assert shown == "web | 2026-01-01T12:00:03Z three\napi | 2026-01-01T12:00:04Z fünf\n"


def test_all_containers_are_followed_until_the_last_has_ended(two_containers, capfdbinary) -> None:
    assert main(["logs", "8f0c", "-f"]) == 0
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert sorted(lines) == ["api | fünf", "api | two", "web | one", "web | three"]


def test_json_lines_have_time_and_container(two_containers, capfdbinary) -> None:
    assert main(["logs", "8f0c", "--json"]) == 0
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert lines[1] == {"time": "2026-01-01T12:00:02.5Z", "container": "api", "line": "two"}
    assert [line["line"] for line in lines] == ["one", "two", "three", "fünf"]
    assert main(["logs", "8f0c", "web", "--json"]) == 0
    assert len(capfdbinary.readouterr().out.splitlines()) == 2


def test_a_container_that_is_not_there_yet_does_not_hide_the_others(two_containers, capfd) -> None:
    two_containers.pieces["api"] = (409, {"message": "container api has not been created yet"})
    assert main(["logs", "8f0c"]) == 0
    told = capfd.readouterr()
    assert told.out == "web | one\nweb | three\n"
    assert told.err == "berth logs: container api has not been created yet\n"
    two_containers.pieces["api"] = (503, {"message": "Docker is away"})
    assert main(["logs", "8f0c"]) == 1
    assert main(["logs", "8f0c", "-f"]) == 1


def test_since_is_asked_for_in_seconds(agent, monkeypatch) -> None:
    agent.answers["/berth/v1/logs"] = (200, b"")
    monkeypatch.setattr(time, "time", lambda: 1_767_268_800.0)
    assert main(["logs", "8f0c", "--since", "15m"]) == 0
    assert agent.calls[-1][1]["since"] == "1767267900.000"
    assert main(["logs", "8f0c", "--since", "2026-01-01T12:00:00+00:00", "-t"]) == 0
    assert agent.calls[-1][1] == {"task": "8f0c", "since": "1767268800.000", "timestamps": "true"}


# -- the agent's own log


LINES = [
    'level=debug timestamp=2026-01-01T12:00:00.5Z event=step.started task_id=aaaa0000 step="pull image"',
    "level=info timestamp=2026-01-01T12:00:01Z event=task.accepted task_id=8f0c0000",
    '{"timestamp": "2026-01-01T12:00:02Z", "level": "warning", "event": "channel.lost", "why": "a \\"b\\""}',
    "level=error timestamp=2026-01-01T12:00:03Z event=step.failed task_arn=arn:aws:ecs:x:1:task/c/8f0c0000",
]


@pytest.fixture
def log(data_directory, tmp_path: Path, monkeypatch) -> Path:
    """The log of an agent that does not run."""
    path = tmp_path / "log" / "agent.log"
    path.parent.mkdir()
    path.with_name("agent.log.10").write_text(LINES[0] + "\n")
    path.with_name("agent.log.9").write_text(LINES[1] + "\n")
    path.with_name("agent.log.old").write_text("not ours\n")
    path.write_text("\n".join(LINES[2:]) + "\n")
    monkeypatch.setenv("ECS_LOGFILE", str(path))
    monkeypatch.setenv("BERTH_INTROSPECTION_ADDRESS", "127.0.0.1:1")
    return path


def shown(capsys, *options: str) -> list[str]:
    assert main(["logs", "--agent", *options]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_agents_log_is_read_with_what_was_put_aside_the_oldest_first(log, capsys) -> None:
    assert shown(capsys) == LINES
    assert shown(capsys, "--tail", "3") == LINES[1:]
    assert shown(capsys, "--tail", "0") == []
    assert shown(capsys, "--tail", "9999") == LINES


def test_the_agents_log_is_filtered_by_level_task_and_time(log, capsys) -> None:
    assert shown(capsys, "--level", "warn") == LINES[2:]
    assert shown(capsys, "--level", "error") == LINES[3:]
    assert shown(capsys, "--task", "8f0c") == [LINES[1], LINES[3]]
    assert shown(capsys, "--since", "2026-01-01T12:00:02Z") == LINES[2:]
    assert shown(capsys, "--task", "8F0C", "--level", "warn", "--tail", "1") == LINES[3:]


def test_the_agents_log_as_json_is_json_whatever_its_format(log, capsys) -> None:
    entries = [json.loads(line) for line in shown(capsys, "--json")]
    assert [entry["event"] for entry in entries] == [
        "step.started", "task.accepted", "channel.lost", "step.failed",
    ]  # fmt: skip
    assert entries[0]["step"] == "pull image"
    assert entries[2]["why"] == 'a "b"'


def test_the_agents_log_is_pretty_for_people_and_steers_no_terminal(log, capsys, monkeypatch) -> None:
    log.write_text(
        'level=info timestamp=2026-01-01T12:00:00Z event=x.made why="a \x1b[2J b"\nnot ours at all\n'
    )
    monkeypatch.setattr(output, "is_for_people", lambda: True)
    monkeypatch.setattr(agent_log, "is_for_people", lambda: True)
    last = shown(capsys, "--tail", "2")
    assert "info     x.made  why='a \\\\x1b[2J b'" in last[0]
    assert last[1].endswith("not ours at all")


def test_following_goes_on_in_the_file_that_takes_the_place_of_a_full_one(log, request, monkeypatch) -> None:
    rolling = RollingFile(LogFile(log, max_bytes=200, keep=3))
    request.addfinalizer(rolling.close)
    seen: list[str] = []
    monkeypatch.setattr(agent_log, "_PAUSE", 0.01)
    got = threading.Event()

    def look(line: str) -> str:
        seen.append(line)
        if len(seen) == 20:
            got.set()
            raise KeyboardInterrupt
        return line

    def write() -> None:
        for number in range(20):
            rolling.write(f"level=info event=line.written number={number}\n")
            time.sleep(0.02)
            if got.is_set():
                break

    monkeypatch.setattr(agent_log, "_look", lambda _: look)
    writer = threading.Thread(target=write)
    # nothing of the past: only what is written from now on
    threading.Timer(0.2, writer.start).start()
    main(["logs", "--agent", "-f", "--tail", "0"])
    writer.join()
    assert [line.rpartition("=")[2] for line in seen] == [str(number) for number in range(20)]


def test_the_running_agent_says_where_its_log_is(agent, log, capsys, monkeypatch) -> None:
    monkeypatch.delenv("ECS_LOGFILE")
    monkeypatch.setenv("BERTH_INTROSPECTION_ADDRESS", agent.address)
    agent.answers["/berth/v1/config"] = (200, {"settings": [{"name": "ECS_LOGFILE", "value": str(log)}]})
    assert shown(capsys) == LINES


@pytest.mark.parametrize(
    ("in_container", "under_systemd", "said"),
    [
        ("true", True, "docker logs ecs-agent"),
        ("false", True, "journalctl -u berth"),
        ("false", False, "whoever started it has"),
    ],
)
def test_without_a_file_it_is_said_where_to_look(
    agent, monkeypatch, capsys, *, in_container, under_systemd, said
) -> None:
    settings = [
        {"name": "ECS_LOGFILE", "value": ""}, {"name": "BERTH_IN_CONTAINER", "value": in_container},
    ]  # fmt: skip
    agent.answers["/berth/v1/config"] = (200, {"settings": settings})
    monkeypatch.setattr(Path, "is_dir", lambda _: under_systemd)
    assert main(["logs", "--agent"]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert "ECS_LOGFILE=" in told


def test_a_log_that_is_not_there_or_may_not_be_read_is_said(log, capsys, monkeypatch) -> None:
    monkeypatch.setenv("ECS_LOGFILE", str(log) + "x")
    assert main(["logs", "--agent"]) == 1
    assert f"there is no {log}x, which ECS_LOGFILE names" in capsys.readouterr().err
    monkeypatch.setenv("ECS_LOGFILE", str(log.parent))
    assert main(["logs", "--agent"]) == 1
    assert "Is a directory" in capsys.readouterr().err
