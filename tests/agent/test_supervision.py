"""What a supervisor says to the process that it starts."""

from datetime import timedelta

import pytest

from agent.settings.supervision import Supervision

PID = 4242


def test_without_a_supervisor_nobody_is_told_anything() -> None:
    assert Supervision.of({}, PID) == Supervision(None, None, ())
    assert Supervision.of({"NOTIFY_SOCKET": "", "WATCHDOG_USEC": ""}, PID) == Supervision(None, None, ())


def test_systemd_says_where_and_how_often() -> None:
    environ = {"NOTIFY_SOCKET": "/run/systemd/notify", "WATCHDOG_USEC": "90000000", "WATCHDOG_PID": str(PID)}
    assert Supervision.of(environ, PID) == Supervision("/run/systemd/notify", timedelta(seconds=90), ())


def test_signs_of_life_are_sent_when_no_process_is_named() -> None:
    assert Supervision.of({"WATCHDOG_USEC": "1000000"}, PID).watchdog == timedelta(seconds=1)


def test_signs_of_life_that_another_process_owes_are_not_ours() -> None:
    environ = {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(PID + 1)}
    assert Supervision.of(environ, PID).watchdog is None


@pytest.mark.parametrize("period", ["0", "-1", "soon", "1.5", "²"])
def test_a_period_that_cannot_be_understood_is_a_warning_and_no_refusal(period: str) -> None:
    found = Supervision.of({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": period}, PID)
    assert found.notify_socket == "@x"
    assert found.watchdog is None
    (warning,) = found.warnings
    assert f"WATCHDOG_USEC={period!r}" in warning
    assert "microseconds" in warning


def test_what_is_meant_for_this_process_is_not_left_for_its_children() -> None:
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "5", "WATCHDOG_PID": str(PID), "PATH": "/bin"}
    assert Supervision.take(environ, PID).notify_socket == "@x"
    assert environ == {"PATH": "/bin"}
