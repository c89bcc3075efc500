import json
from pathlib import Path

import pytest

from agent.cli.doctor import command
from agent.cli.doctor.facts import Facts
from agent.cli.doctor.findings import CannotFix, Check, Fix, bad, warn, well
from agent.cli.doctor.listing import CHECKS
from agent.cli.main import main


@pytest.fixture
def switch(monkeypatch, data_directory, tmp_path) -> Path:
    """A world of four checks; one is a problem while this file says 1."""
    path = tmp_path / "switch"
    path.write_text("1")

    def turned(_: Facts):
        if path.read_text() == "0":
            return well("off")
        return bad(
            "on",
            "tasks suffer",
            "turn it",
            Fix("set it to 0", "set it to 1", lambda: path.write_text("0") and None),
        )

    def refused() -> None:
        raise CannotFix("not allowed")

    checks = (
        Check("good", "is it good", lambda _: well("fine")),
        Check("switch", "is it off", turned),
        Check("warm", "is it cool", lambda _: warn("warm", "slower")),
        Check("stuck", "does it move", lambda _: warn("stuck", "m", "", Fix("push it", "pull it", refused))),
    )
    monkeypatch.setattr(command, "CHECKS", checks)
    return path


def test_a_problem_ends_with_one_and_warnings_alone_with_zero(switch, capsys) -> None:
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines()[:2] == ["good\tOK\tfine", "switch\tPROBLEM\ton"]
    assert main(["doctor", "good", "warm"]) == 0
    assert capsys.readouterr().out == "good\tOK\tfine\nwarm\tWARNING\twarm\n"


def test_an_unknown_check_is_wrong_use(switch, capsys) -> None:
    assert main(["doctor", "docker-compose"]) == 2
    assert "--list" in capsys.readouterr().err


def test_a_dry_run_tells_and_changes_nothing(switch, capsys) -> None:
    assert main(["doctor", "switch", "--dry-run"]) == 1
    told = capsys.readouterr().out
    assert "switch: would set it to 0\n  undone by: set it to 1\n" in told
    assert switch.read_text() == "1"


def test_a_fix_is_told_done_and_looked_at_again(switch, capsys) -> None:
    assert main(["doctor", "--fix", "switch"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("switch: set it to 0\n  undone by: set it to 1\n")
    assert told.endswith("switch\tOK\toff\n")
    assert switch.read_text() == "0"
    assert main(["doctor", "--fix", "switch"]) == 0
    assert "nothing that can be fixed" in capsys.readouterr().out


def test_a_fix_that_is_refused_says_why(switch, capsys) -> None:
    assert main(["doctor", "--fix", "stuck"]) == 0
    assert "could not be done: not allowed" in capsys.readouterr().out


def test_json_has_stable_names(switch, capsys) -> None:
    assert main(["doctor", "--json", "--fix"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "warning"
    assert [each["finding"] for each in document["checks"]] == ["ok", "ok", "warning", "warning"]
    assert set(document["checks"][0]) == {
        "name",
        "finding",
        "cause",
        "meaning",
        "advice",
        "fix",
        "undo",
        "seconds",
    }
    assert document["fixes"] == [
        {"check": "switch", "does": "set it to 0", "undo": "set it to 1", "applied": True, "error": None},
        {"check": "stuck", "does": "push it", "undo": "pull it", "applied": False, "error": "not allowed"},
    ]


def test_the_list_names_every_check(data_directory, capsys) -> None:
    assert main(["doctor", "--list"]) == 0
    listed = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [check.name for check in CHECKS]
    assert len(set(listed)) == len(listed)


def test_the_whole_lasts_ten_seconds_at_most() -> None:
    assert max(check.limit for check in CHECKS) <= 10


def test_a_person_gets_cause_meaning_advice_and_fix(switch, capsys, monkeypatch) -> None:
    monkeypatch.setattr(command, "is_for_people", lambda: True)
    main(["doctor", "switch"])
    told = capsys.readouterr().out
    assert "means: tasks suffer" in told
    assert "do: turn it" in told
    assert "berth doctor --fix switch: set it to 0" in told


def test_with_wrong_settings_the_doctor_still_looks(monkeypatch, data_directory, capsys) -> None:
    monkeypatch.setenv("ECS_LOGLEVEL", "loud")
    assert main(["doctor", "settings", "clock-source", "ports"]) == 1
    told = capsys.readouterr().out
    assert "settings\tPROBLEM\tECS_LOGLEVEL" in told
    assert "ports\t-\tthe settings are wrong" in told
