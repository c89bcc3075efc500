"""``python -m tests.lanes``: all tests that need Docker, in three lanes at the same time.

- *machine*: here; integration tests, and end to end with the agent as a process and the local backend.
- *cluster*: in a machine of its own (``tests.machine``); the backend ``ecs``, with the agent as a process and then in
  its image.
- *image*: in another one; the local backend with the agent in its image, and what concerns only the image. Then
  the agent under a stand-in for systemd, which waits long and fits in here.

Each test waits most of its time, so that three lanes take little longer than one. What the first lane says is shown
at once; the others write to files, which are shown when something did not go well. Every lane runs to its end. Exit
code 0: all went well.
"""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.machine.outside import TREE

IMAGE = "berth/agent:latest"
FOLDER = TREE / "build/tests"
DEMO = [TREE / f"build/demo/demo-{name}.tar" for name in ("web", "api", "job")]
LIMIT_SECONDS = 2400.0
"""For all of them; far more than they take."""
_LAST_SECONDS = 60.0
"""In which a run that is told to end takes away what it has made."""


@dataclass(frozen=True, slots=True)
class Lane:
    """``output``: where what it says goes; None: it is shown. ``end_with``: the signal that ends it in order."""

    name: str
    command: Sequence[str]
    output: Path | None = None
    end_with: signal.Signals = signal.SIGINT


def main() -> int:
    """Run all; the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    FOLDER.mkdir(parents=True, exist_ok=True)
    archive = FOLDER / "agent.tar"
    subprocess.run(["docker", "save", "--output", str(archive), IMAGE], check=True)
    clusters, supervised = "tests/e2e/ecs", "tests/e2e/test_supervision.py"
    elsewhere = [f"--ignore={each}" for each in (clusters, supervised)]
    try:
        return side_by_side(
            Lane("machine", [*_PYTEST, "-m", "integration or e2e", *elsewhere]),
            _in_a_machine("cluster", archive, [[*_APART, clusters], [*_IN_IMAGE, *_APART, clusters]]),
            _in_a_machine(
                "image", archive, [[*_IN_IMAGE, *_APART, "tests/e2e", *elsewhere], [*_APART, supervised]]
            ),
        )
    finally:
        archive.unlink(missing_ok=True)


_PYTEST = [sys.executable, "-m", "pytest", "-q"]
# the cache of the last failures is the first lane's
_APART = [*_PYTEST, "-p", "no:cacheprovider"]
_IN_IMAGE = ["env", "BERTH_E2E_AGENT=container"]


def side_by_side(*lanes: Lane, limit: float = LIMIT_SECONDS) -> int:
    """Run all to their ends; the exit code of the first that fails. Who ends this ends all of them."""
    began = time.monotonic()
    with ExitStack() as ends:
        running = [(lane, _start(lane, ends)) for lane in lanes]
        code = 0
        while running:
            for each in [each for each in running if each[1].poll() is not None]:
                running.remove(each)
                lane, process = each
                _tell(lane, process.returncode, time.monotonic() - began)
                code = code or _code(process.returncode)
            if running and time.monotonic() - began > limit:
                for lane, _ in running:
                    print(f"\ntests: lane {lane.name}: not within {limit:g} s{_so_far(lane)}", flush=True)
                return code or 1
            time.sleep(0.1)
    return code


def _start(lane: Lane, ends: ExitStack) -> subprocess.Popen[bytes]:
    output = None if lane.output is None else ends.enter_context(lane.output.open("wb"))
    process = subprocess.Popen(
        lane.command,
        cwd=TREE,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    ends.callback(_end, process, lane.end_with)
    return process


def _in_a_machine(name: str, archive: Path, runs: Sequence[Sequence[str]]) -> Lane:
    """One run after the other, all of them whatever becomes of the first."""
    loads = [word for each in (archive, *DEMO) for word in ("--load", str(each))]
    script = "; ".join(["failed=0", *(f"{shlex.join(each)} || failed=1" for each in runs), "exit $failed"])
    # it ends also if nobody is left to end it
    limited = ["timeout", "--kill-after=5", f"{LIMIT_SECONDS:g}"]
    machine = [sys.executable, "-m", "tests.machine", *loads, "--", "sh", "-c", script]
    # nothing is left of a machine that is gone
    return Lane(name, [*limited, *machine], FOLDER / f"{name}.log", signal.SIGTERM)


def _tell(lane: Lane, code: int, seconds: float) -> None:
    if code:
        print(f"\ntests: lane {lane.name} ended with {code}{_so_far(lane)}", flush=True)
        return
    results = [line for line in _text(lane).splitlines() if " passed" in line]
    print(f"\ntests: lane {lane.name} went well: {'; '.join(results)} (after {seconds:.0f} s)", flush=True)


def _so_far(lane: Lane) -> str:
    return f":\n{_text(lane)}" if lane.output is not None else ""


def _text(lane: Lane) -> str:
    return lane.output.read_text(errors="replace") if lane.output is not None else ""


def _code(returned: int) -> int:
    """As a shell has it: a process that a signal ended did not go well."""
    return returned if returned >= 0 else 128 - returned


def _end(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(_LAST_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _interrupt(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
