"""The outside of the machine: makes its control groups and its namespaces, and takes them away at the end."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
CGROUPS = Path("/sys/fs/cgroup")
PREFIX = "berth-machine-"
_PR_SET_PDEATHSIG = 1


def run(command: Sequence[str], *, load: Sequence[Path] = ()) -> int:
    """Run the command in a new machine and wait for it; its exit code. ``load``: image archives for Docker."""
    _remove_groups_of_the_dead()
    groups = _make_groups(f"{PREFIX}{os.getpid()}")
    orders = {"command": list(command), "load": [str(each) for each in load], "hierarchies": _hierarchies()}
    namespaces = ("--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup")
    try:
        machine = subprocess.Popen(
            ["unshare", *namespaces, "--fork", "--kill-child=SIGKILL", "--propagation", "private",
             sys.executable, "-m", "tests.machine.inside", json.dumps(orders)],
            cwd=TREE,
            preexec_fn=lambda: _enter(groups),  # noqa: PLW1509 - this process has one thread
        )  # fmt: skip
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: machine.terminate())
        return machine.wait()
    finally:
        for group in groups:
            _remove(group)


def _hierarchies() -> list[dict[str, str]]:
    """How the control groups are mounted here: place below the root, type and options."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        kind, _, options = after.split(" ")
        if kind in {"cgroup", "cgroup2"}:
            place = Path(before.split(" ")[4]).relative_to(CGROUPS)
            wanted = [each for each in options.split(",") if each not in {"rw", "ro"}]
            found.append({"place": str(place), "type": kind, "options": ",".join(wanted)})
    return found


def _make_groups(name: str) -> list[Path]:
    groups = [CGROUPS / each["place"] / name for each in _hierarchies()]
    for group in groups:
        group.mkdir()
        # a new group of this kind has no processor and no memory node, and nothing can live in it
        for setting in ("cpuset.mems", "cpuset.cpus"):
            if (group / setting).exists() and not (group / setting).read_text().strip():
                (group / setting).write_text((group.parent / setting).read_text())
    return groups


def _enter(groups: Sequence[Path]) -> None:
    """In the child: it and all that come from it live in these groups, and end when the test run ends."""
    for group in groups:
        (group / "cgroup.procs").write_text(str(os.getpid()))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _remove(group: Path) -> None:
    """The processes are killed already; the kernel may need a moment to let go of them."""
    until = time.monotonic() + 10
    while group.exists():
        for below in sorted(_below(group), reverse=True):
            try:
                below.rmdir()
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)


def _below(group: Path) -> Iterator[Path]:
    yield group
    for place, names, _ in os.walk(group):
        yield from (Path(place) / name for name in names)


def _remove_groups_of_the_dead() -> None:
    """Those of a run that was killed. The number in their name is the process that made them."""
    for hierarchy in _hierarchies():
        for group in (CGROUPS / hierarchy["place"]).glob(f"{PREFIX}*"):
            if not Path("/proc", group.name.removeprefix(PREFIX)).exists():
                _remove(group)
