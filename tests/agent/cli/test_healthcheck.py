import json
import socket
import time

import pytest

from agent.cli.main import main


def well(agent) -> None:
    agent.answers["/v1/metadata"] = (200, {"Version": "berth - v1"})
    agent.answers["/health"] = (200, {"status": "OK", "reasons": []})


def impaired(component: str, reason: str) -> tuple[int, dict]:
    problem = {"component": component, "status": "IMPAIRED", "reason": reason}
    return 503, {"status": "IMPAIRED", "reasons": [problem]}


def test_an_agent_that_answers_is_healthy_and_nothing_is_said(agent, capfd) -> None:
    well(agent)
    assert main(["healthcheck"]) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("component", ["runtime", "backend", "control", "firewall"])
def test_what_a_new_start_does_not_mend_does_not_make_it_unhealthy(agent, component) -> None:
    well(agent)
    agent.answers["/health"] = impaired(component, "does not answer")
    assert main(["healthcheck"]) == 0


def test_an_agent_that_says_that_it_is_stuck_is_unhealthy(agent, capsys) -> None:
    well(agent)
    agent.answers["/health"] = impaired("progress", "the store has not ended\na round for 2 minutes")
    assert main(["healthcheck"]) == 1
    told = capsys.readouterr().err
    assert told == "berth healthcheck: the agent is stuck: the store has not ended a round for 2 minutes\n"
    assert main(["healthcheck", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["healthy"] is False


@pytest.mark.parametrize("status", [404, 500])
def test_an_agent_without_a_health_page_that_answers_is_healthy(agent, status) -> None:
    well(agent)
    agent.answers["/health"] = (status, {"message": "there is no /health"})
    assert main(["healthcheck"]) == 0


def test_no_agent_is_unhealthy_in_one_line_and_the_code_is_one(data_directory, monkeypatch, capsys) -> None:
    monkeypatch.setenv("BERTH_INTROSPECTION_ADDRESS", "127.0.0.1:1")
    assert main(["healthcheck"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("berth healthcheck: nothing listens on http://127.0.0.1:1")
    assert told.count("\n") == 1


def test_settings_that_cannot_be_read_are_unhealthy_too(data_directory, monkeypatch, capsys) -> None:
    monkeypatch.setenv("BERTH_ENV_FILE", "/does/not/exist")
    assert main(["healthcheck"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_another_answer_than_200_is_unhealthy(agent, capsys) -> None:
    agent.answers["/v1/metadata"] = (500, {})
    assert main(["healthcheck"]) == 1
    assert "answered 500" in capsys.readouterr().err


def test_an_agent_that_hangs_is_given_up_in_the_time_that_was_given(
    data_directory, monkeypatch, capsys
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("BERTH_INTROSPECTION_ADDRESS", f"127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        assert main(["healthcheck", "--timeout", "1"]) == 1
    assert time.monotonic() - begun < 3
    assert "did not answer within 1 s" in capsys.readouterr().err


def test_an_agent_that_answers_letter_by_letter_is_given_up_as_well(agent, monkeypatch, capsys) -> None:
    well(agent)
    dripping = agent.introspect

    def slowly(path: str, query: dict[str, str]):
        if path == "/health":
            time.sleep(4)
        return dripping(path, query)

    monkeypatch.setattr(agent, "introspect", slowly)
    begun = time.monotonic()
    assert main(["healthcheck", "--timeout", "1"]) == 1
    assert time.monotonic() - begun < 3.5


@pytest.mark.parametrize("seconds", ["0", "26", "-1", "soon"])
def test_a_check_never_takes_longer_than_25_seconds(seconds, capsys) -> None:
    assert main(["healthcheck", "--timeout", seconds]) == 2
    assert "--timeout" in capsys.readouterr().err
