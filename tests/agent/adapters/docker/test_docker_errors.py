"""The SDK's errors become ours, with Docker's words and without its noise."""

import json
from datetime import timedelta

import pytest
import requests
from docker.errors import APIError, DockerException

from agent.adapters.docker.errors import is_timeout, said, translated
from agent.model.errors import CannotStartContainer, CannotStopContainer, RuntimeUnavailable, StepTimedOut
from agent.model.timeouts import go_duration, timed_out

HOST = "unix:///var/run/docker.sock"


def refusal(explanation: object) -> APIError:
    response = requests.Response()
    response.status_code = 500
    return APIError("500 Server Error", response=response, explanation=explanation)


def test_a_refusal_becomes_the_steps_error_with_dockers_words():
    with pytest.raises(CannotStartContainer) as raised, translated(CannotStartContainer, HOST):
        raise refusal("Error response from daemon: OCI runtime create failed: no such file")
    assert str(raised.value) == "OCI runtime create failed: no such file"
    assert isinstance(raised.value.__cause__, APIError)


def test_a_line_that_is_no_json_means_that_the_runtime_is_of_no_use():
    with pytest.raises(RuntimeUnavailable, match="sent what is no JSON"), translated(None, HOST):
        json.loads("<html>")


def test_a_refusal_outside_of_any_step_means_that_the_runtime_is_of_no_use():
    with pytest.raises(RuntimeUnavailable, match="refused: boom"), translated(None, HOST):
        raise refusal("boom")


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.ConnectionError("x"),
        requests.exceptions.ReadTimeout("x"),
        requests.exceptions.ChunkedEncodingError("x"),
        DockerException("x"),
        ConnectionRefusedError(111, "Connection refused"),
    ],
)
def test_silence_is_never_a_refusal(error):
    with (
        pytest.raises(RuntimeUnavailable, match="does not answer") as raised,
        translated(CannotStopContainer, HOST),
    ):
        raise error
    assert raised.value.__cause__ is error


def test_the_operating_systems_own_words_are_shown():
    wrapped = requests.exceptions.ConnectionError("('Connection aborted.', ...)")
    wrapped.__cause__ = ConnectionRefusedError(111, "Connection refused")
    with (
        pytest.raises(RuntimeUnavailable, match="does not answer: Connection refused"),
        translated(None, HOST),
    ):
        raise wrapped


def test_our_own_errors_and_bugs_pass_unchanged():
    with pytest.raises(StepTimedOut), translated(CannotStartContainer, HOST):
        raise StepTimedOut("x")
    with pytest.raises(KeyError), translated(CannotStartContainer, HOST):
        raise KeyError("x")


def test_a_refusal_without_an_explanation_still_says_something():
    assert "500" in said(refusal(None))


def test_timeouts_are_told_from_absence():
    assert is_timeout(requests.exceptions.ReadTimeout("x"))
    assert is_timeout(requests.exceptions.ConnectTimeout("x"))
    assert not is_timeout(requests.exceptions.ConnectionError("x"))


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(minutes=4), "4m0s"),
        (timedelta(hours=2), "2h0m0s"),
        (timedelta(seconds=30), "30s"),
        (timedelta(seconds=1.5), "1.5s"),
        (timedelta(hours=1, seconds=90.25), "1h1m30.25s"),
        (timedelta(0), "0s"),
    ],
)
def test_durations_are_written_as_go_writes_them(duration, text):
    assert go_duration(duration) == text


def test_the_sentence_of_a_step_that_took_too_long_is_ecs_own():
    assert timed_out("created", timedelta(minutes=4)) == (
        "Could not transition to created; timed out after waiting 4m0s"
    )
