"""The end by SIGKILL waits a moment for Docker to say that it was the OOM killer; nothing else waits for it."""

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import pytest

from agent.adapters.docker import marks
from agent.adapters.docker.runtime import DockerRuntime
from agent.model.observation import ContainerSnapshot
from agent.model.spec import ContainerSpec
from tests.agent.adapters.docker.daemons import PATIENT, Answer, ScriptedDaemon, inspected, settings_for
from tests.contracts.runtime import a_task
from tests.fakes.clock import FakeClock

LONG, SHORT = timedelta(seconds=60), timedelta(seconds=0.2)
KILLED = 137
TASK = a_task(ContainerSpec("app", "i"))


class Machine:
    """A daemon whose containers and events are what the test says. A container's id is its name."""

    def __init__(self, daemon: ScriptedDaemon) -> None:
        self.daemon = daemon
        self._events: queue.Queue[object] = queue.Queue()
        daemon.routes["GET", "/containers/json"] = lambda _: Answer(document=[])
        daemon.routes["GET", "/events"] = lambda _: Answer(pieces=lambda: iter(self._events.get, None))

    def shows(self, name: str, *, running: bool = False, code: int = KILLED, oom: bool = False) -> None:
        ended = {"FinishedAt": "2026-01-01T12:00:01Z", "ExitCode": code, "OOMKilled": oom}
        document = inspected(name, TASK, running=running, identity=name, **({} if running else ended))
        self.daemon.routes["GET", f"/containers/{name}/json"] = lambda _: Answer(document=document)

    def forgets(self, name: str) -> None:
        del self.daemon.routes["GET", f"/containers/{name}/json"]

    def tells(self, action: str, name: str = "app") -> None:
        attributes = {"name": name, "com.amazonaws.ecs.task-arn": TASK.arn, "exitCode": str(KILLED)}
        self._events.put({"Action": action, "Actor": {"ID": name, "Attributes": attributes}})

    def breaks_off(self) -> None:
        self._events.put(None)

    async def is_asked_for(self, name: str) -> None:
        """Return when the container has been looked at."""
        async with asyncio.timeout(10):
            while not self.daemon.asked("GET", f"/containers/{name}/json"):
                await asyncio.sleep(0.01)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    daemon = ScriptedDaemon(tmp_path / "docker.sock")
    machine = Machine(daemon)
    yield machine
    machine.breaks_off()
    daemon.close()


@pytest.fixture
async def runtime(machine: Machine) -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(settings_for(machine.daemon.host, limits=PATIENT), FakeClock())
    await runtime.start()
    yield runtime
    await runtime.aclose()


@pytest.fixture
async def changes(runtime: DockerRuntime) -> AsyncIterator[AsyncIterator[ContainerSnapshot]]:
    async with asyncio.timeout(20), aclosing(runtime.changes()) as seen:
        yield seen


def patience(monkeypatch: pytest.MonkeyPatch, limit: timedelta) -> None:
    monkeypatch.setattr(marks, "PATIENCE", limit)


async def killed(
    machine: Machine, changes: AsyncIterator[ContainerSnapshot]
) -> asyncio.Future[ContainerSnapshot]:
    """A container was killed, and has been looked at without a mark; what is told next."""
    machine.shows("app")
    machine.tells("die")
    telling = asyncio.ensure_future(anext(changes))
    await machine.is_asked_for("app")
    return telling


async def test_a_mark_that_is_there_at_once_is_not_waited_for(machine, changes, monkeypatch):
    patience(monkeypatch, LONG)
    machine.shows("app", oom=True)
    machine.tells("die")
    assert (await anext(changes)).was_oom_killed


async def test_a_mark_that_comes_after_the_end_is_told_with_it(machine, changes, monkeypatch):
    patience(monkeypatch, LONG)
    telling = await killed(machine, changes)
    assert not telling.done()
    machine.shows("app", oom=True)
    machine.tells("oom")
    told = await telling
    assert (told.docker_name, told.exit_code, told.was_oom_killed) == ("app", KILLED, True)


@pytest.mark.parametrize("is_marked", [False, True], ids=["none", "unheard"])
async def test_a_mark_is_not_waited_for_for_ever_and_may_come_unheard(
    machine, changes, monkeypatch, is_marked
):
    patience(monkeypatch, SHORT)
    telling = await killed(machine, changes)
    machine.shows("app", oom=is_marked)
    told = await telling
    assert (told.exit_code, told.was_oom_killed) == (KILLED, is_marked)


async def test_nobody_else_waits(machine, changes, monkeypatch):
    patience(monkeypatch, LONG)
    machine.shows("app")
    machine.shows("other", code=1)
    machine.tells("die")
    machine.tells("die", "other")
    assert (await anext(changes)).docker_name == "other"


@pytest.mark.parametrize("action", ["oom", "die"])
async def test_the_end_of_what_was_removed_meanwhile_is_told(machine, changes, monkeypatch, action):
    patience(monkeypatch, LONG)
    telling = await killed(machine, changes)
    machine.forgets("app")
    machine.tells(action)
    assert (await telling).exit_code == KILLED


async def test_the_end_of_what_was_removed_before_anybody_looked_is_told_as_its_event_says(machine, changes):
    machine.tells("die")
    told = await anext(changes)
    assert (told.docker_name, told.task_arn, told.is_running, told.exit_code) == (
        "app",
        TASK.arn,
        False,
        KILLED,
    )


async def test_the_end_is_told_when_the_stream_of_events_breaks_off(machine, changes, monkeypatch):
    patience(monkeypatch, LONG)
    machine.shows("app")
    machine.tells("die")
    machine.breaks_off()
    assert (await anext(changes)).exit_code == KILLED


async def test_the_end_is_told_before_the_start_that_comes_after_it(machine, changes, monkeypatch):
    patience(monkeypatch, LONG)
    telling = await killed(machine, changes)
    machine.shows("app", running=True)
    machine.tells("start")
    assert not (await telling).is_running
    assert (await anext(changes)).is_running


async def test_a_start_whose_container_is_killed_at_once_looks_for_the_mark(machine, runtime, monkeypatch):
    patience(monkeypatch, LONG)
    machine.shows("app")
    starting = asyncio.ensure_future(runtime.ensure_started("app"))
    await machine.is_asked_for("app")
    machine.shows("app", oom=True)
    async with asyncio.timeout(10):
        assert (await starting).was_oom_killed


async def test_a_start_does_not_look_for_ever(machine, runtime, monkeypatch):
    patience(monkeypatch, SHORT)
    machine.shows("app")
    assert not (await runtime.ensure_started("app")).was_oom_killed
