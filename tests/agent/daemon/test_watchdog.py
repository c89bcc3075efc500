"""The watchdog in real processes: it ends those that do not get on, and no others."""

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent import daemon
from agent.daemon.watchdog import MOST_PER_TICK, STALLED, Watchdog
from agent.model.progress import Progress

PROGRAM = Path(__file__).with_name("stalling.py")


@contextmanager
def stalling(what: str, seconds: float = 60.0) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, str(PROGRAM), what, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            yield process
        finally:
            process.kill()


def lines(output: str) -> dict[str, dict[str, str]]:
    return {found["event"]: found for found in map(json.loads, output.splitlines())}


def test_the_exit_code_asks_for_a_new_start() -> None:
    assert STALLED == daemon.RETRIABLE


def test_a_blocked_event_loop_ends_the_process_and_the_log_says_where_it_was() -> None:
    with stalling("loop") as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == STALLED
    said = lines(errors)
    assert "event loop" in said["agent.stalled"]["reason"]
    assert "blocked_callback" in said["stacks.dumped"]["threads"]
    assert "thread MainThread" in said["stacks.dumped"]["threads"]
    assert "task pulse" in said["stacks.dumped"]["tasks"]


def test_a_loop_that_does_not_get_on_ends_the_process_though_the_event_loop_is_well() -> None:
    with stalling("task") as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == STALLED
    said = lines(errors)
    assert said["agent.stalled"]["reason"].startswith("no progress in task 1234 (for ")
    assert "event loop" not in said["agent.stalled"]["reason"]
    assert "supervisor of 1234" in said["stacks.dumped"]["tasks"]
    assert "awaits_what_never_comes" in said["stacks.dumped"]["tasks"]


def test_a_log_that_nobody_reads_does_not_keep_the_watchdog_from_ending_the_process() -> None:
    with stalling("log") as process:
        assert process.wait(timeout=40) == STALLED


def test_a_process_that_was_stopped_for_longer_than_the_limit_goes_on_and_ends_when_it_likes() -> None:
    with stalling("nothing", seconds=9) as process:
        time.sleep(1)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(6)  # twice the limit
        os.kill(process.pid, signal.SIGCONT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == ""


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_clock_that_jumps_counts_as_one_tick(clock: Clock) -> None:
    progress = Progress()
    watchdog = Watchdog(progress, 120.0, now=clock)
    with progress.watched("slept with the laptop"):
        for _ in range(20):
            clock.time += 3600.0
            assert watchdog.look() == ()
    assert progress.time == 20 * MOST_PER_TICK


def test_a_loop_is_given_the_whole_limit(clock: Clock) -> None:
    progress = Progress()
    watchdog = Watchdog(progress, 120.0, now=clock)
    with progress.watched("stuck"):
        looks = [(clock.time, watchdog.look()) for clock.time in range(1, 130)]
    assert {at for at, late in looks if late} == set(range(121, 130))


def test_a_limit_of_nothing_ends_nothing_and_time_moves_on(clock: Clock) -> None:
    progress = Progress()
    watchdog = Watchdog(progress, 0.0, now=clock)
    with progress.watched("stuck"):
        for clock.time in range(1, 1000):
            assert watchdog.look() == ()
        assert [each.name for each in progress.late(30.0)] == ["stuck"]


class Broken(Progress):
    def tick(self, elapsed: float, most: float) -> None:
        raise ZeroDivisionError


async def test_a_watchdog_that_fails_itself_ends_the_process_instead_of_watching_no_more() -> None:
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    with Watchdog(Broken(), 120.0, end=ended.put).watching():
        assert await asyncio.to_thread(ended.get, timeout=10) == STALLED
