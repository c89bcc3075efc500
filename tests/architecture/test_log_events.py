from pathlib import Path

import pytest

from docs.pages import log_events
from docs.pages.problems import Undocumented


def test_every_event_is_a_literal_noun_and_past_participle() -> None:
    calls = list(log_events.log_calls())
    assert [f"{call.path}:{call.line}" for call in calls if call.name is None] == []
    names = {call.name for call in calls if call.name}
    assert sorted(name for name in names if not log_events.EVENT.fullmatch(name)) == []
    assert len(names) > 30


def test_the_names_that_operators_rely_on_exist() -> None:
    names = {call.name for call in log_events.log_calls()}
    assert {
        "task.accepted",
        "status.raised",
        "step.started",
        "step.failed",
        "agent.ready",
        "agent.stopping",
    } <= names


@pytest.fixture
def module(tmp_path: Path):
    def write(text: str) -> Path:
        (tmp_path / "agent").mkdir(exist_ok=True)
        (tmp_path / "agent" / "m.py").write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('log.info("a.seen", x=1)', ["a.seen"]),
        ('self._log.exception("a.crashed")', ["a.crashed"]),
        ("log.info(name)", [None]),
        ('log.warning(f"{x}.seen")', [None]),
        ("for event, fields in differences(a, b):\n    log.info(event, **fields)", []),
        ("for event in others(a, b):\n    log.info(event)", [None]),
        ('math.log("x"); response.info("y")', []),
    ],
)
def test_calls_are_found_and_what_is_no_literal_is_known(module, text: str, names) -> None:
    assert [call.name for call in log_events.log_calls(module(text))] == names


def test_a_bad_name_cannot_be_documented(module, monkeypatch) -> None:
    bad = list(log_events.log_calls(module('log.info("Task accepted")')))
    monkeypatch.setattr(log_events, "log_calls", lambda: iter(bad))
    with pytest.raises(Undocumented, match=r"agent/m.py:1 \(Task accepted\)"):
        log_events.page()
