"""Runs of tests at once: each counts, each runs to its end, and what one said is not lost."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lanes import TREE, Lane, side_by_side


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "there.log"


def here(script: str) -> Lane:
    return Lane("here", ["sh", "-c", script])


def there(script: str, output: Path) -> Lane:
    return Lane("there", ["sh", "-c", script], output, signal.SIGTERM)


def test_all_go_well_and_the_results_of_those_that_write_to_files_are_told(
    output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fine = there("echo fine; echo 3 passed; echo 4 passed", output)
    assert side_by_side(here("echo shown at once"), fine) == 0
    said = capfd.readouterr().out
    assert "shown at once" in said
    assert "lane there went well: 3 passed; 4 passed (after" in said
    assert "fine" not in said


def test_what_fails_is_shown_whole_and_the_others_run_to_their_ends(
    output: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    failing = there("echo first; echo last; exit 3", output)
    assert side_by_side(here("sleep 0.5; echo to the end"), failing) == 3
    said = capfd.readouterr().out
    assert "lane there ended with 3:\nfirst\nlast" in said
    assert said.index("ended with 3") < said.index("to the end")


@pytest.mark.parametrize(("first", "second"), [("true", "false"), ("false", "true")])
def test_one_that_fails_is_enough(output: Path, first: str, second: str) -> None:
    assert side_by_side(here(first), there(second, output)) == 1


def test_a_run_that_a_signal_ended_did_not_go_well(output: Path) -> None:
    assert side_by_side(here("kill -9 $$"), there("true", output)) == 128 + signal.SIGKILL


def test_a_run_that_does_not_end_is_ended(output: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert side_by_side(here("true"), there("echo begun; exec sleep 60", output), limit=0.5) == 1
    said = capfd.readouterr().out
    assert "lane there: not within 0.5 s:\nbegun" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_ends_it_ends_all(tmp_path: Path, number: int) -> None:
    program = (
        "import signal, sys; from pathlib import Path; from tests import lanes\n"
        "signal.signal(signal.SIGTERM, lanes._interrupt)\n"
        "waits = ['sh', '-c', 'echo $$; exec sleep 60']\n"
        "log = Path(sys.argv[1])\n"
        "lanes.side_by_side(lanes.Lane('a', waits), lanes.Lane('b', waits, log, signal.SIGTERM))\n"
    )
    log = tmp_path / "there.log"
    running = subprocess.Popen(
        [sys.executable, "-c", program, str(log)],
        cwd=TREE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert running.stdout is not None
    with running.stdout as said:
        first = int(said.readline())
        until = time.monotonic() + 20
        while not (log.exists() and (text := log.read_text()).endswith("\n")) and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.5)  # it has started both, and waits
        running.send_signal(number)
        assert running.wait(20) != 0
    for pid in (first, int(text)):
        assert not Path(f"/proc/{pid}").exists()
