import re
from pathlib import Path

import pytest

from agent.lifecycle.table import CONTAINER_RULES, SANDBOX_RULES
from agent.settings.variables import VARIABLES
from docs import generate
from docs.pages import lifecycle, log_events, reasons, settings
from docs.pages.problems import Undocumented
from docs.pages.table import table

ROOT = Path(generate.__file__).resolve().parents[1]


def test_the_pages_that_follow_from_the_code_are_current(capsys) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


def test_generating_twice_writes_once(tmp_path: Path, capsys) -> None:
    assert generate.main([], tmp_path) == 0
    assert capsys.readouterr().out.count("is written") == len(generate.PAGES)
    assert generate.main([], tmp_path) == 0
    assert capsys.readouterr().out == ""
    assert generate.main(["--check"], tmp_path) == 0


def test_a_page_that_is_missing_or_old_fails_the_check_and_is_left_alone(tmp_path: Path, capsys) -> None:
    generate.main([], tmp_path)
    (tmp_path / "settings.md").write_text("old")
    (tmp_path / "reasons.md").unlink()
    assert generate.main(["--check"], tmp_path) == 1
    told = capsys.readouterr().err
    assert "docs/settings.md is not current" in told
    assert "docs/reasons.md is not current" in told
    assert (tmp_path / "settings.md").read_text() == "old"


def test_what_cannot_be_described_fails_the_generation(tmp_path: Path, monkeypatch, capsys) -> None:
    def page() -> str:
        raise Undocumented("NewError: write what it means")

    monkeypatch.setitem(generate.PAGES, "reasons.md", page)
    assert generate.main([], tmp_path) == 1
    assert "docs/reasons.md: NewError: write what it means" in capsys.readouterr().err
    assert not (tmp_path / "reasons.md").exists()


def test_a_reason_without_a_note_cannot_be_described(monkeypatch) -> None:
    monkeypatch.setattr(reasons, "literal_names", lambda: {"SurprisingError"})
    with pytest.raises(Undocumented, match="SurprisingError"):
        reasons.page()


def test_every_rule_is_a_row_and_an_arrow() -> None:
    page = lifecycle.page()
    for rule in (*SANDBOX_RULES, *CONTAINER_RULES):
        assert f"    {rule.status.name} --> {rule.becomes.name}: {rule.goal.name} / " in page
    rows = re.findall(r"^\| [A-Z]+ \| (?:RUN|STOP|REMOVE) \|", page, re.MULTILINE)
    assert len(rows) == len(SANDBOX_RULES) + len(CONTAINER_RULES)


def test_every_gate_says_when_it_is_open() -> None:
    for rule in (*SANDBOX_RULES, *CONTAINER_RULES):
        for gate in rule.waits_for:
            assert re.search(rf"^\| `{gate.__name__}` \| \S.*\. \|$", lifecycle.page(), re.MULTILINE)


def test_every_variable_is_in_the_page_with_its_default_and_limits() -> None:
    page = settings.page()
    for variable in VARIABLES:
        assert f"| `{variable.name}`" in page
    assert "At least 45s, otherwise the nearest limit is used." in page
    assert "At least 8ms and at most 100ms, otherwise the default is used." in page


def test_names_of_reasons_are_unique() -> None:
    names = [kind.name for kind in reasons.raised()]
    assert len(names) == len(set(names))
    assert len(names) > 10


def test_every_name_in_the_code_has_a_meaning() -> None:
    assert reasons.literal_names() - {kind.name for kind in reasons.raised()} <= {
        "OutOfMemoryError",
        "DockerStateError",
    }


def test_events_of_the_difference_are_listed_with_their_keys() -> None:
    page = log_events.page()
    assert re.search(r"^\| `status.raised` \| info \| `container`, `new`, `of`, `old` \|", page, re.MULTILINE)


def test_an_event_whose_level_is_chosen_is_listed_with_both() -> None:
    page = log_events.page()
    assert re.search(
        r"^\| `channel.closed` \| info, warn \| `lived`, `retry_in`, `why` \|", page, re.MULTILINE
    )


def test_cells_cannot_break_a_table() -> None:
    assert table(("a",), [("x|y\nz",)]).splitlines()[-1] == "| x\\|y z |"


def test_every_link_between_the_pages_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    targets = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not target.startswith(("http://", "https://"))
    ]
    assert [f"{page.name}: {target}" for page, target in targets if not (page.parent / target).exists()] == []
