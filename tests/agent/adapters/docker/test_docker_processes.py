"""Processes in control groups are seen and killed without Docker."""

import os
import signal
import subprocess
import threading
import time
import uuid
from pathlib import Path

import pytest

from agent.adapters.docker.processes import is_empty, kill_all, processes_in, wait_until_empty


def a_group(root: Path, name: str, *pids: int, events: str | None = None) -> Path:
    group = root / name
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    if events is not None:
        (group / "cgroup.events").write_text(events)
    return group


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_group_that_is_gone_is_empty(tmp_path):
    assert is_empty([tmp_path / "gone"])
    assert is_empty([])


def test_version_2_says_itself_whether_it_is_populated(tmp_path):
    assert is_empty([a_group(tmp_path, "a", 5, events="populated 0\nfrozen 0\n")])
    assert not is_empty([a_group(tmp_path, "b", events="populated 1\nfrozen 0\n")])


def test_version_1_is_empty_when_no_process_is_in_it_or_below_it(tmp_path):
    group = a_group(tmp_path, "a")
    assert is_empty([group])
    a_group(tmp_path, "a/below", 7)
    assert not is_empty([group])
    assert processes_in(group) == {7}


def test_one_populated_hierarchy_is_enough_not_to_be_empty(tmp_path):
    assert not is_empty([a_group(tmp_path, "a"), a_group(tmp_path, "b", 7)])


def test_processes_of_another_process_namespace_count_although_they_have_no_number(tmp_path):
    assert not is_empty([a_group(tmp_path, "a", 0)])


def test_processes_are_killed_one_by_one_where_the_kernel_cannot_kill_a_group(tmp_path, sleeper):
    group = a_group(tmp_path, "a", sleeper.pid)

    def follow() -> None:
        sleeper.wait()
        (group / "cgroup.procs").write_text("")

    thread = threading.Thread(target=follow)
    thread.start()
    assert kill_all([group], 5)
    thread.join()
    assert sleeper.returncode == -signal.SIGKILL


def test_a_group_with_a_kill_switch_is_killed_by_it(tmp_path, sleeper):
    group = a_group(tmp_path, "a", sleeper.pid, events="populated 1\n")
    (group / "cgroup.kill").touch()
    assert not kill_all([group], 0.1)
    assert (group / "cgroup.kill").read_text() == "1"
    assert sleeper.poll() is None


def test_a_frozen_group_is_thawed_so_that_it_can_die(tmp_path):
    group = a_group(tmp_path, "a", 0)
    (group / "freezer.state").write_text("FROZEN\n")
    assert not kill_all([group], 0.05)
    assert (group / "freezer.state").read_text() == "THAWED"


def test_the_agent_and_the_first_process_are_never_killed(tmp_path):
    group = a_group(tmp_path, "a", 0, 1, os.getpid())
    assert not kill_all([group], 0.1)


def test_waiting_ends_when_the_last_process_has_gone(tmp_path):
    group = a_group(tmp_path, "a", 7)
    threading.Timer(0.1, (group / "cgroup.procs").write_text, [""]).start()
    began = time.monotonic()
    assert wait_until_empty([group], 5)
    assert time.monotonic() - began < 2
    (group / "cgroup.procs").write_text("7\n")
    assert not wait_until_empty([group], 0.05)


@pytest.mark.integration
def test_a_real_group_is_emptied_by_the_kernels_switch_or_by_signals():
    roots = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")]
    roots = [each for each in roots if (each / "cgroup.procs").exists()]
    assert roots
    for root in roots:
        group = root / f"berth-test-{uuid.uuid4().hex}"
        group.mkdir()
        process = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 60 & wait"])
        try:
            (group / "cgroup.procs").write_text(str(process.pid))
            reaper = threading.Thread(target=process.wait)
            reaper.start()
            assert not is_empty([group])
            assert kill_all([group], 5)
            reaper.join()
            assert process.returncode == -signal.SIGKILL
        finally:
            process.kill()
            process.wait()
            group.rmdir()
