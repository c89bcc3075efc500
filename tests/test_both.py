"""Two runs of tests at once: both count, the first that fails ends the other, and what one said is not lost."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.both import TREE, side_by_side

FINE = ["sh", "-c", "echo fine; echo 3 passed"]
WAITS = ["sleep", "60"]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "there.log"


def test_both_go_well_and_the_last_line_of_the_other_is_told(
    output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert side_by_side(["sh", "-c", "echo shown at once"], FINE, output) == 0
    said = capfd.readouterr().out
    assert "shown at once" in said
    assert "3 passed; after" in said
    assert "fine" not in said


def test_what_fails_there_is_shown_whole_and_ends_what_runs_here(
    output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    assert side_by_side(WAITS, ["sh", "-c", "echo first; echo last; exit 3"], output) == 3
    assert time.monotonic() - began < 10
    assert "ended with 3:\nfirst\nlast" in capfd.readouterr().out


def test_what_fails_here_ends_what_runs_there(output: Path, capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert side_by_side(["false"], WAITS, output) == 1
    assert time.monotonic() - began < 10
    assert str(output) in capfd.readouterr().out


@pytest.mark.parametrize(("here", "there"), [(["true"], ["false"]), (["false"], ["true"])])
def test_one_that_fails_is_enough(output: Path, here: list[str], there: list[str]) -> None:
    assert side_by_side(here, there, output) == 1


def test_a_run_that_a_signal_ended_did_not_go_well(output: Path) -> None:
    assert side_by_side(["sh", "-c", "kill -9 $$"], ["true"], output) == 128 + signal.SIGKILL


def test_a_run_that_does_not_end_is_ended(output: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert side_by_side(["true"], WAITS, output, limit=0.5) == 1
    assert "not within 0.5 s" in capfd.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_ends_it_ends_both(tmp_path: Path, number: int) -> None:
    program = (
        "import signal, sys; from pathlib import Path; from tests import both; "
        "signal.signal(signal.SIGTERM, both._interrupt); "
        "both.side_by_side(['sh', '-c', 'echo $$; exec sleep 60'], ['sh', '-c', 'echo $$; exec sleep 60'], "
        "Path(sys.argv[1]))"
    )
    there = tmp_path / "there.log"
    running = subprocess.Popen(
        [sys.executable, "-c", program, str(there)],
        cwd=TREE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert running.stdout is not None
    with running.stdout as said:
        first = int(said.readline())
        until = time.monotonic() + 10
        while not (text := there.read_text()) and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.5)  # it has started both, and waits
        running.send_signal(number)
        assert running.wait(20) != 0
    for pid in (first, int(text)):
        assert not Path(f"/proc/{pid}").exists()
