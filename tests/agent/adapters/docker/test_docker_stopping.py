"""The last resort: what is done, and what may be said, when Docker does not answer a stop."""

import time
from datetime import timedelta

import pytest

from agent.adapters.docker.connection import Connection
from agent.adapters.docker.stopping import Stopper
from agent.adapters.docker.threads import Turn
from agent.model.errors import CannotStopContainer, RuntimeUnavailable
from agent.model.ids import ContainerId, TaskArn
from agent.model.observation import ContainerSnapshot
from tests.agent.adapters.docker.daemons import Answer, HungDaemon, ScriptedDaemon
from tests.agent.adapters.docker.test_docker_unanswering import settings_for
from tests.fakes.clock import NOON, FakeClock

NO_GRACE = timedelta(0)
SEEN = ContainerSnapshot(
    container_id=ContainerId("c0ffee"),
    docker_name="app",
    task_arn=TaskArn("arn:task"),
    container_name="web",
    observed_at=NOON,
    is_running=True,
    was_started=True,
    pid=42,
    started_at=NOON,
)


@pytest.fixture
def group(tmp_path):
    group = tmp_path / "group"
    group.mkdir()
    (group / "cgroup.events").write_text("populated 0\n")
    (group / "cgroup.kill").touch()
    return group


@pytest.fixture
def connect():
    opened: list[Connection] = []

    def connect(host: str, *groups) -> Stopper:
        settings = settings_for(host)
        connection = Connection(settings)
        connection._version = "1.41"
        opened.append(connection)
        return Stopper(connection, settings, FakeClock(), lambda _: groups)

    yield connect
    for each in opened:
        each.close()


@pytest.fixture
def hung(tmp_path):
    daemon = HungDaemon(tmp_path / "docker.sock")
    yield daemon
    daemon.close()


async def test_behind_a_hung_daemon_an_empty_group_proves_the_end(connect, hung, group):
    stopped = await connect(hung.host, group).stop("app", NO_GRACE, SEEN, Turn())
    assert stopped is not None
    assert (stopped.is_running, stopped.pid, stopped.exit_code, stopped.finished_at) == (
        False,
        None,
        None,
        NOON,
    )


async def test_behind_a_hung_daemon_a_full_group_is_killed_and_not_called_stopped(
    connect, hung, group, monkeypatch
):
    monkeypatch.setattr("agent.adapters.docker.stopping._KILL_SECONDS", 0.2)
    (group / "cgroup.events").write_text("populated 1\n")
    with pytest.raises(CannotStopContainer, match="do not end even when killed"):
        await connect(hung.host, group).stop("app", NO_GRACE, SEEN, Turn())
    assert (group / "cgroup.kill").read_text() == "1"


async def test_behind_a_hung_daemon_nothing_is_said_of_a_container_without_a_group(connect, hung):
    for seen in (SEEN, None):
        with pytest.raises(RuntimeUnavailable):
            await connect(hung.host).stop("app", NO_GRACE, seen, Turn())


async def test_an_absent_daemon_is_given_the_grace_before_the_group_is_believed(connect, tmp_path, group):
    stopper = connect(f"unix://{tmp_path}/absent.sock", group)
    grace = timedelta(seconds=0.4)
    began = time.monotonic()
    refusals = 0
    while True:
        try:
            stopped = await stopper.stop("app", grace, SEEN, Turn())
        except RuntimeUnavailable:
            refusals += 1
            time.sleep(0.05)
        else:
            break
    assert refusals > 1
    assert time.monotonic() - began >= 0.4
    assert stopped is not None
    assert not stopped.is_running


async def test_a_container_that_was_forgotten_is_given_its_whole_grace_when_its_name_comes_again(
    connect, tmp_path, group
):
    stopper = connect(f"unix://{tmp_path}/absent.sock", group)
    grace = timedelta(seconds=0.2)
    with pytest.raises(RuntimeUnavailable):
        await stopper.stop("app", grace, SEEN, Turn())
    time.sleep((grace + settings_for("").limits.stop_margin).total_seconds())
    stopper.forget("app")
    with pytest.raises(RuntimeUnavailable):
        await stopper.stop("app", grace, SEEN, Turn())


async def test_a_container_that_has_gone_meanwhile_is_gone(connect, tmp_path):
    daemon = ScriptedDaemon(tmp_path / "docker.sock")
    daemon.routes["POST", "/containers/app/stop"] = lambda _: Answer(
        404, {"message": "No such container: app"}
    )
    assert await connect(daemon.host).stop("app", NO_GRACE, SEEN, Turn()) is None
    daemon.close()


async def test_a_grace_is_rounded_up_never_down(connect, tmp_path):
    daemon = ScriptedDaemon(tmp_path / "docker.sock")
    daemon.routes["POST", "/containers/app/stop"] = lambda _: Answer(
        404, {"message": "No such container: app"}
    )
    await connect(daemon.host).stop("app", timedelta(seconds=1.2), SEEN, Turn())
    [asked] = daemon.asked("POST", "/containers/app/stop")
    assert asked.query["t"] == ["2"]
    daemon.close()
