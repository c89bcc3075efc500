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
from pathlib import Path

from tests.machine.outside import TREE

IMAGE = "berth/agent"
FOLDER = TREE / "build/tests"
OUTPUT = FOLDER / "container.log"
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
    with OUTPUT.open("wb") as output:
        there = subprocess.Popen(
            _in_a_machine([archive, *DEMO]),
            cwd=TREE, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    here = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-m", "integration or e2e"],
        cwd=TREE, stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        return _wait(here, there)
    finally:
        # pytest takes down what it has set up when it is interrupted; the machine is simply gone
        _end(there, signal.SIGTERM)
        _end(here, signal.SIGINT)
        archive.unlink(missing_ok=True)


def _wait(here: subprocess.Popen[bytes], there: subprocess.Popen[bytes]) -> int:
    began = time.monotonic()
    told = False
    while here.poll() is None or there.poll() is None:
        if there.poll() is not None and not told:
            _tell(there.returncode, time.monotonic() - began)
            told = True
        failed = [each.returncode for each in (here, there) if each.poll()]
        if failed:
            if not there.returncode:
                print(f"\ntests: the run in the container is ended; it has said: {OUTPUT}", flush=True)
            return _code(failed[0])
        if time.monotonic() - began > LIMIT_SECONDS:
            print(f"tests: not within {LIMIT_SECONDS:g} s; so far in the container:\n{_output()}", flush=True)
            return 1
        time.sleep(0.2)
    if not told:
        _tell(there.returncode, time.monotonic() - began)
    return _code(here.returncode) or _code(there.returncode)


def _in_a_machine(archives: list[Path]) -> list[str]:
    loads = [word for each in archives for word in ("--load", str(each))]
    # the cache of the last failures is this machine's
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/e2e"]
    # it ends also if nobody is left to end it
    limited = ["timeout", "--kill-after=5", f"{LIMIT_SECONDS:g}"]
    machine = [sys.executable, "-m", "tests.machine", *loads]
    return [*limited, *machine, "--", "env", "BERTH_E2E_AGENT=container", *tests]


def _tell(code: int, seconds: float) -> None:
    if code:
        print(f"\ntests: the run with the agent in its container ended with {code}:\n{_output()}", flush=True)
    else:
        summary = _output().strip().rpartition("\n")[2]
        print(f"\ntests: with the agent in its container: {summary}, after {seconds:.0f} s", flush=True)


def _output() -> str:
    return OUTPUT.read_text(errors="replace")


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
