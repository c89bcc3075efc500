from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.adapters.host.needs import Missing
from agent.daemon import surroundings
from agent.model.errors import CannotStart
from agent.settings import Settings

NEEDED = Missing("one", "the first thing", "work", "add --one")
ALSO_NEEDED = Missing("two", "the second thing", "more work", "add --two")
WELCOME = Missing("three", "the third thing", "comfort", "add --three", is_needed=False)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load({"BERTH_ENV_FILE": "/dev/null", "ECS_DATADIR": str(tmp_path)})


def found(monkeypatch: pytest.MonkeyPatch, *missing: Missing) -> None:
    monkeypatch.setattr(surroundings, "missing", lambda _: missing)


def test_everything_that_is_needed_is_named_in_one_sentence_and_a_restart_does_not_help(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(monkeypatch, NEEDED, WELCOME, ALSO_NEEDED)
    with capture_logs() as logs, pytest.raises(CannotStart) as caught:
        surroundings.check_surroundings(settings)
    assert caught.value.is_final
    assert str(caught.value) == (
        "the agent was started without the first thing (for work): add --one; "
        "without the second thing (for more work): add --two"
    )
    assert [line["remedy"] for line in logs] == ["add --three"]


def test_what_is_only_welcome_gets_a_warning(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, WELCOME)
    with capture_logs() as logs:
        surroundings.check_surroundings(settings)
    assert [(line["event"], line["problem"]) for line in logs] == [
        ("surroundings.doubted", "started without the third thing (for comfort)")
    ]
