"""The processes of a container, seen and killed without Docker: the truth when the daemon hangs or lies."""

import errno
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

_POLL_SECONDS = 0.02


def is_empty(groups: Iterable[Path]) -> bool:
    """Whether no process is in any of a container's control groups. A group that is gone is empty."""
    return not any(_is_populated(each) for each in groups)


def wait_until_empty(groups: Iterable[Path], seconds: float) -> bool:
    """Wait that long at most; whether they are empty then. Blocks."""
    groups = tuple(groups)
    until = time.monotonic() + seconds
    while not is_empty(groups):
        if time.monotonic() >= until:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def kill_all(groups: Iterable[Path], seconds: float) -> bool:
    """Kill every process in the groups; whether they are empty within that time. Blocks."""
    groups = tuple(groups)
    until = time.monotonic() + seconds
    while not is_empty(groups):
        if time.monotonic() >= until:
            return False
        for group in groups:
            _kill_in(group)
        time.sleep(_POLL_SECONDS)
    return True


def processes_in(group: Path) -> frozenset[int]:
    """The processes in a control group and in those below it. 0 stands for one that cannot be named here."""
    found: set[int] = set()
    for folder, _, files in os.walk(group):
        if "cgroup.procs" in files:
            text = _read(Path(folder) / "cgroup.procs")
            found.update(int(each) for each in text.split())
    return frozenset(found)


def _is_populated(group: Path) -> bool:
    events = _read(group / "cgroup.events")
    if events:
        return "populated 1" in events.splitlines()
    return bool(processes_in(group))


def _kill_in(group: Path) -> None:
    if (group / "cgroup.kill").exists():
        _write_if_possible(group / "cgroup.kill", "1")
    else:
        for pid in processes_in(group) - {0, 1, os.getpid()}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    # A frozen process does not die before it is thawed (version 1; version 2 wakes it by itself).
    if _read(group / "freezer.state").strip() not in {"", "THAWED"}:
        _write_if_possible(group / "freezer.state", "THAWED")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        # The group has gone in the meantime (ENODEV: between open and read), so nothing is in it.
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENODEV}:
            return ""
        raise


def _write_if_possible(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError:
        return  # gone in the meantime; whether it worked is seen by looking again
