import io
import sys

import pytest

from agent.cli import output
from agent.cli.failures import Failure
from agent.cli.main import main


class Terminal(io.StringIO):
    """What a terminal of some width looks like to a program."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    def of(columns: int, encoding: str = "utf-8") -> Terminal:
        made = Terminal()
        made.__class__ = type("Of", (Terminal,), {"encoding": encoding})
        monkeypatch.setattr(sys, "stdout", made)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        return made

    yield of
    output.choose("auto")


ROW = ("8f0c2d9e7b5a4c3f9e1d2b3a4c5d6e7f", "RUNNING", "a reason that is rather long " * 3)
COLUMNS = ("TASK", "STATUS", "REASON")


@pytest.mark.parametrize("columns", [50, 60, 80, 120])
def test_a_table_fits_the_terminal_and_the_id_stays_one(terminal, columns, monkeypatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = terminal(columns)
    monkeypatch.setenv("NO_COLOR", "1")
    output.print_table(COLUMNS, [ROW])
    header, row = shown.getvalue().splitlines()
    assert max(len(header), len(row)) <= columns
    task, status, *_ = row.split()
    assert ROW[0].startswith(task)
    assert len(task) >= 12
    assert status == "RUNNING"
    assert row.endswith("…")


def test_a_terminal_that_knows_only_ascii_gets_only_ascii(terminal, monkeypatch) -> None:
    shown = terminal(60, "ascii")
    output.print_table(COLUMNS, [ROW])
    assert shown.getvalue().isascii()
    assert "~" in shown.getvalue()


def test_wide_letters_do_not_push_columns_apart(terminal) -> None:
    shown = terminal(80)
    output.choose("never")
    output.print_table(("NAME", "STATUS"), [("日本", "A"), ("abcd", "B")])
    lines = shown.getvalue().splitlines()
    assert lines[1:] == ["日本  A", "abcd  B"]


def test_nothing_is_cut_and_nothing_coloured_in_a_pipe(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    output.print_table(COLUMNS, [ROW, ("x", None, "a\tb\nc")])
    assert capsys.readouterr().out == "\t".join((ROW[0], ROW[1], ROW[2])) + "\nx\t-\ta b c\n"


@pytest.mark.parametrize(
    ("color", "environ", "is_coloured"),
    [
        ("auto", {}, True),
        ("auto", {"NO_COLOR": "1"}, False),
        ("auto", {"NO_COLOR": ""}, True),
        ("auto", {"TERM": "dumb"}, False),
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {}, False),
    ],
)
def test_colour_is_chosen(terminal, monkeypatch, color, environ, is_coloured) -> None:
    shown = terminal(80)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    output.choose(color)
    output.print_table(COLUMNS, [ROW])
    assert ("\033[32mRUNNING\033[0m" in shown.getvalue()) is is_coloured


def test_always_makes_a_table_of_a_pipe(agent, capsys) -> None:
    agent.add_task(1)
    try:
        assert main(["ps", "--color", "always"]) == 0
    finally:
        output.choose("auto")
    assert capsys.readouterr().out.startswith("\033[1mTASK ")


def test_what_a_container_has_printed_steers_no_terminal() -> None:
    assert output.clean("a\x1b[2Jb\nc\x9bd") == "a\\x1b[2Jb c\\x9bd"
    assert output.clean("grüße 日本") == "grüße 日本"


@pytest.mark.parametrize("value", ["noon", 1e30, float("nan")])
def test_a_time_that_is_none_is_said(value) -> None:
    with pytest.raises(Failure, match="for a time"):
        output.moment(value)
