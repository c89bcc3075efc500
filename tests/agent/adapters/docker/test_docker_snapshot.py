"""Docker's answers become snapshots."""

from datetime import UTC, datetime, timedelta

import pytest

from agent.adapters.docker.snapshot import end_told_by, moment, snapshot_of
from agent.model.status import Health

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
NEVER = "0001-01-01T00:00:00Z"


def inspected(**state: object):
    return {
        "Id": "c0ffee",
        "Name": "/ecs-shop-3-web-00",
        "Created": "2026-01-01T11:59:00.123456789Z",
        "Image": "sha256:feed",
        "Config": {
            "Labels": {
                "com.amazonaws.ecs.task-arn": "arn:task",
                "com.amazonaws.ecs.container-name": "web",
            }
        },
        "State": {
            "Running": False,
            "Dead": False,
            "OOMKilled": False,
            "Pid": 0,
            "ExitCode": 0,
            "Error": "",
            "StartedAt": NEVER,
            "FinishedAt": NEVER,
            **state,
        },
    }


def test_a_created_container_was_never_started():
    seen = snapshot_of(inspected(), NOON)
    assert (seen.is_running, seen.was_started, seen.pid, seen.exit_code, seen.finished_at) == (
        False,
        False,
        None,
        None,
        None,
    )
    assert (seen.container_id, seen.docker_name, seen.image_id) == (
        "c0ffee",
        "ecs-shop-3-web-00",
        "sha256:feed",
    )
    assert (seen.task_arn, seen.container_name) == ("arn:task", "web")
    assert seen.created_at == datetime(2026, 1, 1, 11, 59, 0, 123456, tzinfo=UTC)
    assert seen.observed_at == NOON


def test_a_running_container_has_a_process_and_no_end():
    # After a restart Docker still shows the end of the run before.
    seen = snapshot_of(
        inspected(Running=True, Pid=42, StartedAt="2026-01-01T12:00:00Z", FinishedAt="2026-01-01T11:00:00Z"),
        NOON,
    )
    assert (seen.is_running, seen.pid, seen.exit_code, seen.finished_at) == (True, 42, None, None)
    assert seen.started_at == NOON


def test_a_container_that_is_held_still_runs():
    seen = snapshot_of(inspected(Running=True, Paused=True, Pid=42, StartedAt="2026-01-01T12:00:00Z"), NOON)
    assert seen.is_running


def test_an_ended_container_shows_how_it_ended():
    seen = snapshot_of(
        inspected(
            ExitCode=137,
            OOMKilled=True,
            StartedAt="2026-01-01T12:00:00Z",
            FinishedAt="2026-01-01T12:00:05.5Z",
        ),
        NOON,
    )
    assert (seen.is_running, seen.was_started, seen.exit_code, seen.was_oom_killed) == (
        False,
        True,
        137,
        True,
    )
    assert seen.finished_at == NOON + timedelta(seconds=5.5)


@pytest.mark.parametrize(
    ("said", "code"), [({"exitCode": "137"}, 137), ({}, None), ({"exitCode": "odd"}, None)]
)
def test_an_event_tells_of_an_end_that_nobody_can_look_at(said, code):
    labels = {"com.amazonaws.ecs.task-arn": "arn:task", "com.amazonaws.ecs.container-name": "web"}
    seen = end_told_by(
        {
            "Action": "die",
            "Actor": {"ID": "c0ffee", "Attributes": {"name": "ecs-shop-3-web-00", **labels, **said}},
            "timeNano": int(NOON.timestamp()) * 10**9 + 5_500_000_000,
        }
    )
    assert (seen.container_id, seen.docker_name) == ("c0ffee", "ecs-shop-3-web-00")
    assert (seen.task_arn, seen.container_name) == ("arn:task", "web")
    assert (seen.is_running, seen.was_started, seen.exit_code) == (False, True, code)
    assert seen.observed_at == seen.finished_at == NOON + timedelta(seconds=5.5)


def test_a_start_that_failed_keeps_dockers_error_and_no_exit_code():
    seen = snapshot_of(inspected(ExitCode=127, Error="exec: not found"), NOON)
    assert (seen.was_started, seen.exit_code, seen.error) == (False, None, "exec: not found")


def test_a_dead_container_does_not_run():
    assert not snapshot_of(
        inspected(Running=True, Dead=True, StartedAt="2026-01-01T12:00:00Z"), NOON
    ).is_running


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("healthy", Health.HEALTHY),
        ("unhealthy", Health.UNHEALTHY),
        ("starting", Health.UNKNOWN),
        ("none", Health.UNKNOWN),
    ],
)
def test_health_is_what_the_last_probe_said(status, expected):
    log = [{"End": "2026-01-01T12:00:01+01:00", "Output": "x" * 2000}]
    seen = snapshot_of(inspected(Running=True, Health={"Status": status, "Log": log}), NOON)
    assert seen.health is expected
    if expected is not Health.UNKNOWN:
        assert seen.health_since == datetime(2026, 1, 1, 11, 0, 1, tzinfo=UTC)
        assert seen.health_output == "x" * 1024


def test_somebody_elses_container_has_no_task():
    answer = inspected()
    answer["Config"]["Labels"] = None
    assert snapshot_of(answer, NOON).task_arn == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (NEVER, None),
        ("", None),
        (None, None),
        ("2026-01-01T12:00:00Z", NOON),
        ("2026-01-01T12:00:00.5Z", NOON + timedelta(milliseconds=500)),
        ("2026-01-01T12:00:00.123456789Z", NOON + timedelta(microseconds=123456)),
        ("2026-01-01T13:00:00.123456789+01:00", NOON + timedelta(microseconds=123456)),
    ],
)
def test_times_are_read_with_nanoseconds_and_offsets(text, expected):
    assert moment(text) == expected
