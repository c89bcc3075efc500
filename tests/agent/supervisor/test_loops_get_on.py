"""Each loop of the supervisor is late when what it waits for never comes back, and only then."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from agent.daemon.pulse import PATIENCE
from agent.endpoints.health import HealthBoard
from agent.model.errors import RuntimeUnavailable
from agent.model.progress import Progress
from agent.supervisor.janitor import LONGEST_SWEEP, Janitor
from agent.supervisor.reporter import SENDING_LIMIT, Reporter
from agent.supervisor.watcher import CHECK_EVERY, LONGEST_CHECK, LONGEST_LOOK, LOOK_EVERY, Watcher
from tests.conftest import JumpingTime

STEP = 5.0
"""Seconds between two looks of the test's own watchdog."""


class Outside:
    """A runtime and a backend of which everything hangs, or fails at once."""

    def __init__(self, *, hangs: bool) -> None:
        self._hangs = hangs

    async def observe(self) -> Any:
        await self._nothing()

    async def check(self) -> Any:
        await self._nothing()

    async def report(self, _: Any) -> bool:
        if self._hangs:
            await asyncio.Event().wait()
        return True

    async def changes(self) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield

    async def _nothing(self) -> None:
        if self._hangs:
            await asyncio.Event().wait()
        raise RuntimeUnavailable("Docker is away")


Loops = Callable[[Any, JumpingTime, Progress], Awaitable[None]]


def janitor(outside: Any, _: JumpingTime, progress: Progress) -> Awaitable[None]:
    return Janitor(outside, outside, known=lambda: None, sandboxes=frozenset, progress=progress).run()


def watcher(outside: Any, time: JumpingTime, progress: Progress) -> Awaitable[None]:
    health = HealthBoard(time.clock)
    return Watcher(outside, time.clock, health, progress, deliver=lambda *_: None, tasks=lambda: ()).run()


def reporter(outside: Any, time: JumpingTime, progress: Progress) -> Awaitable[None]:
    made = Reporter(outside, time.clock, HealthBoard(time.clock), progress)
    report: Any = SimpleNamespace(task_arn="arn:aws:ecs:us-east-1:111122223333:task/blue/1234")
    made.offer(report)
    return made.run()


def first_late(jumping: JumpingTime, loops: Loops, *, hangs: bool, seconds: float) -> dict[str, float]:
    """When each loop is late for the first time, in seconds since the begin."""
    progress = Progress()
    found: dict[str, float] = {}

    async def look() -> None:
        while progress.time < seconds:
            await asyncio.sleep(STEP)
            progress.tick(STEP, STEP)
            for late in progress.late(PATIENCE):
                found.setdefault(late.name, progress.time)

    async def story() -> None:
        running = asyncio.ensure_future(loops(Outside(hangs=hangs), jumping, progress))
        await look()
        running.cancel()
        await asyncio.wait((running,))

    jumping.run(story())
    return found


@pytest.mark.parametrize("loops", [janitor, watcher, reporter])
def test_loops_whose_surroundings_fail_for_a_day_get_on(jumping: JumpingTime, loops: Loops) -> None:
    assert first_late(jumping, loops, hangs=False, seconds=86_400) == {}


@pytest.mark.parametrize("loops", [janitor, watcher, reporter])
def test_a_docker_and_a_backend_that_hang_for_a_minute_make_nobody_late(
    jumping: JumpingTime, loops: Loops
) -> None:
    assert first_late(jumping, loops, hangs=True, seconds=60) == {}


@pytest.mark.parametrize(
    ("loops", "name", "expected"),
    [
        (janitor, "janitor", 30 + LONGEST_SWEEP),
        (watcher, "checks of the runtime", CHECK_EVERY + LONGEST_CHECK),
        (watcher, "looks at all containers", LOOK_EVERY + LONGEST_LOOK),
        (reporter, "report of task 1234", SENDING_LIMIT),
    ],
)
def test_a_call_that_breaks_its_own_limit_is_found_out(
    jumping: JumpingTime, loops: Loops, name: str, expected: float
) -> None:
    found = first_late(jumping, loops, hangs=True, seconds=expected + PATIENCE + 60)
    assert found[name] == pytest.approx(expected + PATIENCE, abs=3 * STEP)


def test_a_reporter_that_is_given_something_and_does_not_run_is_late(jumping: JumpingTime) -> None:
    progress = Progress()

    async def story() -> None:
        made = Reporter(
            Outside(hangs=False),  # type: ignore[arg-type]  # only what is called
            jumping.clock,
            HealthBoard(jumping.clock),
            progress,
        )
        running = asyncio.ensure_future(made.run())
        await asyncio.sleep(1)
        progress.tick(1000.0, 1000.0)
        assert progress.late(PATIENCE) == ()  # it has nothing to do
        report: Any = SimpleNamespace(task_arn="arn:aws:ecs:us-east-1:111122223333:task/blue/1234")
        made.offer(report)
        progress.tick(PATIENCE + 1, 1000.0)  # and gets no turn
        assert [each.name for each in progress.late(PATIENCE)] == ["reporter"]
        await asyncio.sleep(1)
        assert progress.late(PATIENCE) == ()
        running.cancel()
        await asyncio.wait((running,))

    jumping.run(story())
