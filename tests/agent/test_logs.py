import io
import json
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog

from agent import logs
from agent.logs import LogFile, Pace, RollingFile, Stream


@pytest.fixture(autouse=True)
def as_before():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    before = structlog.get_config()
    yield
    logs.close()
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_time_level_and_event_first() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.contextvars.bind_contextvars(task_id="abc")
    structlog.get_logger().info("task.accepted", family="web")
    (line,) = lines(stream)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert line["timestamp"].endswith("Z")
    assert (line["level"], line["event"], line["task_id"], line["family"]) == (
        "info",
        "task.accepted",
        "abc",
        "web",
    )


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("debug", ["debug", "info", "warning", "error", "critical"]),
        ("info", ["info", "warning", "error", "critical"]),
        ("warn", ["warning", "error", "critical"]),
        ("error", ["error", "critical"]),
        ("crit", ["critical"]),
        ("none", []),
    ],
)
def test_the_levels_are_those_of_the_ecs_agent(level: str, said: list[str]) -> None:
    stream = io.StringIO()
    logs.configure(level=level, stream=stream)
    log = structlog.get_logger()
    for method in ("debug", "info", "warning", "error", "critical"):
        getattr(log, method)("a.tested")
    assert [line["level"] for line in lines(stream)] == said


def test_the_file_has_a_level_and_a_format_of_its_own_and_nothing_is_said_twice(tmp_path: Path) -> None:
    stream = io.StringIO()
    path = tmp_path / "deep" / "agent.log"
    logs.configure(level="error", stream=stream, file=LogFile(path, level="debug"))
    structlog.get_logger().debug("step.started", step="pull_image", note="two words")
    structlog.get_logger().error("step.failed")
    assert [line["event"] for line in lines(stream)] == ["step.failed"]
    first, second = path.read_text().splitlines()
    assert first.startswith("level=debug timestamp=")
    assert first.endswith(' event=step.started step=pull_image note="two words"')
    assert " event=step.failed" in second


def test_configuring_again_replaces_what_was_there(tmp_path: Path) -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure(stream=first)
    logs.configure(stream=second)
    structlog.get_logger().info("a.tested")
    logging.getLogger("docker").warning("slow")
    assert first.getvalue() == ""
    assert [line["event"] for line in lines(second)] == ["a.tested", "library.logged"]


def test_what_libraries_log_becomes_a_line_of_ours_with_its_trace() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    logging.getLogger("aiohttp.server").info("chatter")
    try:
        raise OSError("it broke")
    except OSError:
        logging.getLogger("aiohttp.server").exception("Error handling %s", "request")
    (line,) = lines(stream)
    assert (line["library"], line["message"], line["level"]) == (
        "aiohttp.server",
        "Error handling request",
        "error",
    )
    assert "OSError: it broke" in line["exception"]


def test_an_exception_is_told_with_its_trace_in_every_format(tmp_path: Path) -> None:
    stream = io.StringIO()
    path = tmp_path / "a.log"
    logs.configure(console="console", stream=stream, file=LogFile(path))
    try:
        raise ValueError("wrong")
    except ValueError:
        structlog.get_logger().exception("step.crashed", step="x")
    assert "ValueError: wrong" in stream.getvalue()
    assert len(path.read_text().splitlines()) == 1
    assert "ValueError: wrong" in path.read_text()


@pytest.mark.parametrize(
    "key",
    ["token", "SessionToken", "secret", "secretAccessKey", "password", "credentials_id", "credentialsId",
     "Authorization", "access_key_id", "registry_password"],
)  # fmt: skip
def test_a_key_that_looks_secret_is_blotted_out_at_any_depth(key: str) -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.get_logger().info(
        "a.tested", **{key: "canary-1"}, nested={"list": [{key: "canary-2"}, ("x", {key: "canary-3"})]}
    )
    assert "canary" not in stream.getvalue()
    assert lines(stream)[0]["nested"]["list"][1][0] == "x"


def test_ordinary_keys_are_not_blotted_out() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.get_logger().info(
        "a.tested", task_id="t", reason="r", key="k", nested={"path": "/v2/credentials"}
    )
    assert "***" not in stream.getvalue()


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def passes(pace: Pace, event: str) -> bool:
    try:
        pace(None, "info", {"event": event})
    except structlog.DropEvent:
        return False
    return True


def test_a_storm_of_one_event_is_paced_and_leaves_other_events_alone() -> None:
    time = Time()
    pace = Pace(per_second=10, burst=100, now=time)
    assert sum(passes(pace, "a.repeated") for _ in range(1000)) == 100
    assert passes(pace, "b.seen")
    time.now += 2.0
    assert sum(passes(pace, "a.repeated") for _ in range(1000)) == 20


def test_what_was_left_out_is_counted_once() -> None:
    time = Time()
    pace = Pace(per_second=10, burst=10, now=time)
    for _ in range(15):
        passes(pace, "a.repeated")
    assert list(pace.overdue()) == []
    time.now += 1.0
    (summary,) = pace.overdue()
    assert (summary["event"], summary["name"], summary["count"]) == ("lines.suppressed", "a.repeated", 5)
    time.now += 5.0
    assert list(pace.overdue()) == []


def test_the_summary_is_written_before_the_next_line_of_any_event(monkeypatch) -> None:
    time = Time()
    monkeypatch.setattr(logs.Pace.__init__, "__kwdefaults__", {"burst": None, "now": time})
    stream = io.StringIO()
    logs.configure(stream=stream, lines_per_second=1)
    log = structlog.get_logger()
    for _ in range(60):
        log.info("a.repeated")
    time.now += 1.5
    log.info("b.seen")
    events = [line["event"] for line in lines(stream)]
    assert events[-2:] == ["lines.suppressed", "b.seen"]
    assert events.count("a.repeated") == 50
    assert lines(stream)[-2]["count"] == 10


def test_a_burst_of_fifty_tasks_is_told_in_full() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    log = structlog.get_logger()
    for _ in range(50 * 12):
        log.info("status.raised")
    assert len(lines(stream)) == 600


def test_a_full_file_is_put_aside_and_only_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    file = RollingFile(LogFile(path, max_bytes=100, keep=2))
    for number in range(12):
        file.write(f"{number:029}\n")
    file.close()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["agent.log", "agent.log.1", "agent.log.2"]
    whole = "".join((tmp_path / name).read_text() for name in ("agent.log.2", "agent.log.1", "agent.log"))
    assert [int(line) for line in whole.splitlines()] == list(range(3, 12))
    assert max(entry.stat().st_size for entry in tmp_path.iterdir()) <= 100


def test_a_file_goes_on_where_it_was_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    for text in ("first\n", "second\n"):
        file = RollingFile(LogFile(path))
        file.write(text)
        file.close()
    assert path.read_text() == "first\nsecond\n"


def test_an_hourly_file_is_put_aside_by_the_hour(tmp_path: Path) -> None:
    time = Time()
    path = tmp_path / "agent.log"
    file = RollingFile(LogFile(path, rollover="hourly", max_bytes=1), now=time)
    file.write("one\n")
    file.write("two\n")
    time.now += 3600
    file.write("three\n")
    file.close()
    assert (tmp_path / "agent.log.1").read_text() == "one\ntwo\n"
    assert path.read_text() == "three\n"


def test_without_rollover_a_file_only_grows(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    file = RollingFile(LogFile(path, rollover="none", max_bytes=1))
    file.write("one\n")
    file.write("two\n")
    file.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["agent.log"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is missing here")
def test_a_full_disk_costs_lines_and_not_the_agent() -> None:
    file = RollingFile(LogFile(Path("/dev/full"), rollover="none"))
    file.write("lost\n")
    file.write("lost\n")
    file.close()
    assert file.lost >= 2


def test_a_closed_pipe_costs_lines_and_not_the_agent() -> None:
    stream = io.StringIO()
    outlet = Stream(stream)
    outlet.write("said\n")
    stream.close()
    outlet.write("lost\n")
    assert outlet.lost == 1


def test_a_file_that_cannot_be_opened_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        logs.configure(file=LogFile(tmp_path), stream=io.StringIO())


def test_colour_is_for_terminals_only(capsys) -> None:
    logs.configure(console="auto", stream=sys.stderr)
    structlog.get_logger().info("a.tested")
    assert json.loads(capsys.readouterr().err)["event"] == "a.tested"
    stream = io.StringIO()
    logs.configure(console="console", stream=stream)
    structlog.get_logger().info("a.tested", x=1)
    assert "\033" not in stream.getvalue()
    assert "a.tested" in stream.getvalue()


@pytest.mark.parametrize("console", ["console", "json"])
def test_a_trace_does_not_show_the_values_of_local_variables(console: str) -> None:
    def fail(handed: str) -> None:
        raise ValueError("the door is shut")

    stream = io.StringIO()
    logs.configure(console=console, stream=stream)
    try:
        fail("canary".upper())
    except ValueError:
        structlog.get_logger().exception("door.found_shut")
    assert "the door is shut" in stream.getvalue()
    assert "CANARY" not in stream.getvalue()


def test_threads_may_log_while_the_file_is_turned_over(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    chosen = LogFile(path, format="json", max_bytes=2_000, keep=1_000)
    logs.configure(stream=io.StringIO(), file=chosen, lines_per_second=1_000_000)

    def say(thread: int) -> None:
        for number in range(300):
            structlog.get_logger().info(f"thread{thread}.said{number}", filler="x" * 50)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(say, range(4)))  # raises what one of them raised
    finally:
        sys.setswitchinterval(before)
    told = [json.loads(line) for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert len(told) == 4 * 300
