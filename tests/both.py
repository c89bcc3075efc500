"""``python -m tests.both``: all tests that need Docker, at the same time on this machine and in one of their own.

Here: integration tests, and end to end with the agent as a process. In the machine inside this one
(``tests.machine``): end to end once more with the agent in its image, and what concerns only the image. Each waits
most of its time, so that both together take little longer than one.

What is said here is shown at once; what is said there goes to a file, and is shown when it did not go well.
The first that fails ends the other. Exit code 0: both went well.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.machine.outside import TREE

IMAGE = "berth/agent"
FOLDER = TREE / "build/tests"
DEMO = [TREE / f"build/demo/demo-{name}.tar" for name in ("web", "api", "job")]
LIMIT_SECONDS = 2400.0
"""For each of them; far more than it takes."""
_LAST_SECONDS = 60.0
"""In which a run that is told to end takes away what it has made."""


def main() -> int:
    """Run both; the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    FOLDER.mkdir(parents=True, exist_ok=True)
    archive = FOLDER / "agent.tar"
    subprocess.run(["docker", "save", "--output", str(archive), IMAGE], check=True)
    here = [sys.executable, "-m", "pytest", "-q", "-m", "integration or e2e"]
    try:
        return side_by_side(here, _in_a_machine([archive, *DEMO]), FOLDER / "container.log")
    finally:
        archive.unlink(missing_ok=True)


def side_by_side(
    here: Sequence[str], there: Sequence[str], output: Path, *, limit: float = LIMIT_SECONDS
) -> int:
    """Run both commands; the exit code of the first that fails. ``output``: what the second one says."""
    with ExitStack() as ends, output.open("wb") as file:
        second = subprocess.Popen(
            there, cwd=TREE, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
        # the machine is simply gone; pytest takes down what it has set up when it is interrupted
        ends.callback(_end, second, signal.SIGTERM)
        first = subprocess.Popen(here, cwd=TREE, stdin=subprocess.DEVNULL, start_new_session=True)
        ends.callback(_end, first, signal.SIGINT)
        return _wait(first, second, output, limit)


def _wait(first: subprocess.Popen[bytes], second: subprocess.Popen[bytes], output: Path, limit: float) -> int:
    began = time.monotonic()
    is_told = False
    while True:
        # in this order: when both have ended, both are told
        if second.poll() is not None and not is_told:
            _tell(second.returncode, time.monotonic() - began, output)
            is_told = True
        if second.poll():
            return _code(second.returncode)
        if first.poll():
            if not is_told:
                print(
                    f"\ntests: the run in the container is ended, too; what it has said: {output}", flush=True
                )
            return _code(first.returncode)
        if first.poll() is not None and is_told:
            return 0
        if time.monotonic() - began > limit:
            print(
                f"\ntests: not within {limit:g} s; the container's run so far:\n{_text(output)}", flush=True
            )
            return 1
        time.sleep(0.1)


def _in_a_machine(archives: list[Path]) -> list[str]:
    loads = [word for each in archives for word in ("--load", str(each))]
    # the cache of the last failures is this machine's
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/e2e"]
    # it ends also if nobody is left to end it
    limited = ["timeout", "--kill-after=5", f"{LIMIT_SECONDS:g}"]
    machine = [sys.executable, "-m", "tests.machine", *loads]
    return [*limited, *machine, "--", "env", "BERTH_E2E_AGENT=container", *tests]


def _tell(code: int, seconds: float, output: Path) -> None:
    text = _text(output)
    if code:
        print(f"\ntests: the run with the agent in its container ended with {code}:\n{text}", flush=True)
    else:
        summary = text.strip().rpartition("\n")[2]
        print(f"\ntests: with the agent in its container: {summary}; after {seconds:.0f} s", flush=True)


def _text(output: Path) -> str:
    return output.read_text(errors="replace")


def _code(returned: int) -> int:
    """As a shell has it: a process that a signal ended did not go well."""
    return returned if returned >= 0 else 128 - returned


def _end(process: subprocess.Popen[bytes], number: int) -> None:
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
