"""A daemon that is away, hangs or breaks off: deadlines hold, the loop goes on, nothing is made up."""

import asyncio
import json
import tarfile
import time
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Self

import pytest

from agent.adapters.docker import changes
from agent.adapters.docker.cgroups import Driver, Layout, TaskGroups
from agent.adapters.docker.runtime import DockerRuntime
from agent.adapters.docker.settings import PauseImage
from agent.adapters.docker.translate import volume_name
from agent.model.errors import (
    CannotCreateContainer,
    CannotMakeVolume,
    CannotPullImage,
    CannotStartContainer,
    RuntimeUnavailable,
    StepTimedOut,
)
from agent.model.ids import ContainerId
from agent.model.spec import ContainerSpec, MountPoint, Volume
from agent.ports.runtime import ContainerPlan
from pause.image import File, ImageConfig, build_image
from tests.agent.adapters.docker.daemons import (
    PATIENT,
    Answer,
    HungDaemon,
    ScriptedDaemon,
    inspected,
    settings_for,
)
from tests.contracts.runtime import a_task, pause_plan, plan_of, snapshot_where
from tests.fakes.clock import FakeClock

NO_GRACE = timedelta(0)


@pytest.fixture
def hung(tmp_path):
    daemon = HungDaemon(tmp_path / "docker.sock")
    yield daemon
    daemon.close()


@pytest.fixture
def daemon(tmp_path):
    daemon = ScriptedDaemon(tmp_path / "docker.sock")
    yield daemon
    daemon.close()


@pytest.fixture
async def runtime(daemon):
    runtime = DockerRuntime(settings_for(daemon.host, limits=PATIENT), FakeClock())
    await runtime.start()
    yield runtime
    await runtime.aclose()


class Pulse:
    """Counts how often the loop comes round, and how long it was ever away."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._beat())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _beat(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            self.longest, before = max(self.longest, now - before), now


async def test_a_daemon_that_is_away_when_the_agent_starts_may_come_later(tmp_path):
    path = tmp_path / "docker.sock"
    runtime = DockerRuntime(settings_for(f"unix://{path}"), FakeClock())
    with pytest.raises(RuntimeUnavailable, match="No such file or directory"):
        await runtime.start()
    with pytest.raises(RuntimeUnavailable):
        await runtime.ensure_created(plan_of(a_task(ContainerSpec("app", "i")), FakePause()))
    daemon = ScriptedDaemon(path)
    await runtime.start()
    await runtime.aclose()
    daemon.close()


class FakePause:
    container_id = ContainerId("c0ffee")


async def test_a_socket_on_which_nobody_listens_is_an_absent_daemon(tmp_path):
    HungDaemon(tmp_path / "docker.sock")._socket.close()
    runtime = DockerRuntime(settings_for(f"unix://{tmp_path}/docker.sock"), FakeClock())
    with pytest.raises(RuntimeUnavailable, match="Connection refused"):
        await runtime.start()
    await runtime.aclose()


async def test_every_verb_of_a_hung_daemon_ends_within_its_limit_and_the_loop_goes_on(hung):
    runtime = DockerRuntime(settings_for(hung.host), FakeClock())
    with pytest.raises(RuntimeUnavailable):
        await runtime.start()
    started = DockerRuntime(settings_for(hung.host), FakeClock())
    started._connection._version = "1.41"
    started._groups = TaskGroups(
        Path("/nonexistent"), "/ecs", Layout(1, Driver.CGROUPFS), owner="x", period=100_000, is_enabled=False
    )
    task = a_task(ContainerSpec("app", "i"))
    pause = pause_plan(task)
    calls = (
        started.find_image("i"),
        started.pull_image("i", None),
        started.ensure_pause_started(pause),
        started.ensure_created(plan_of(task, FakePause())),
        started.ensure_started("a"),
        started.ensure_stopped("b", NO_GRACE),
        started.ensure_removed("c"),
        started.ensure_sandbox_removed(task, "d"),
        started.observe(),
        started.leftovers(frozenset()),
        started.remove_leftovers(frozenset()),
    )
    async with Pulse() as pulse:
        began = time.monotonic()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        took = time.monotonic() - began
    assert [type(each) for each in outcomes] == [RuntimeUnavailable] * len(calls)
    assert took < 6
    # a loop that waited for one of the calls would have been away for most of the time
    assert pulse.longest < took / 3
    await started.aclose()
    await runtime.aclose()


async def test_calls_that_hang_in_one_lane_leave_the_others_free(daemon, runtime):
    def hang(_):
        time.sleep(1)
        return Answer(204)

    daemon.routes["POST", "/containers/app/start"] = hang
    task = a_task(ContainerSpec("app", "i"))
    daemon.routes["GET", "/containers/app/json"] = lambda _: Answer(
        document=inspected("app", task, running=False, started=False)
    )
    daemon.routes["GET", "/images/i/json"] = lambda _: Answer(document={"Id": "sha256:1"})
    async with asyncio.TaskGroup() as group:
        starting = group.create_task(_outcome(runtime.ensure_started("app")))
        await asyncio.sleep(0.05)
        assert await runtime.find_image("i") is not None
    # The daemon answers a ping, so it is the step that took too long.
    error = starting.result()
    assert isinstance(error, StepTimedOut)
    assert str(error) == "Could not transition to started; timed out after waiting 0.3s"


async def _outcome(call):
    try:
        return await call
    except Exception as error:  # noqa: BLE001
        return error


async def test_a_refusal_is_told_without_dockers_preamble(daemon, runtime):
    task = a_task(ContainerSpec("app", "i"))
    daemon.routes["GET", "/containers/app/json"] = lambda _: Answer(
        document=inspected("app", task, running=False, started=False)
    )
    daemon.routes["POST", "/containers/app/start"] = lambda _: Answer(
        500, {"message": "Error response from daemon: OCI runtime create failed"}
    )
    with pytest.raises(CannotStartContainer) as refused:
        await runtime.ensure_started("app")
    assert str(refused.value) == "OCI runtime create failed"


async def test_a_conflict_with_the_same_container_is_adopted_and_with_another_refused(daemon, runtime):
    task = a_task(ContainerSpec("app", "i"))
    plan = plan_of(task, FakePause())
    daemon.routes["POST", "/containers/create"] = lambda _: Answer(409, {"message": "Conflict"})
    daemon.routes["GET", f"/containers/{plan.docker_name}/json"] = lambda _: Answer(
        document=inspected(plan.docker_name, task)
    )
    assert (await runtime.ensure_created(plan)).container_id == "c0ffee"
    other = a_task(*task.containers)
    with pytest.raises(CannotCreateContainer, match="is taken by container app of"):
        await runtime.ensure_created(ContainerPlan(other, plan.container, plan.docker_name, plan.pause_id))


async def test_a_volume_that_is_somebody_elses_is_not_used(daemon, runtime):
    spec = ContainerSpec("app", "i", mount_points=(MountPoint("data", "/data"),))
    task = a_task(spec, volumes=(Volume("data"),))
    daemon.routes["POST", "/volumes/create"] = lambda _: Answer(
        201, {"Name": volume_name(task, "data"), "Labels": {"com.amazonaws.ecs.cluster": "other"}}
    )
    with pytest.raises(CannotMakeVolume, match="exists with labels"):
        await runtime.ensure_created(plan_of(task, FakePause()))
    assert daemon.asked("POST", "/containers/create") == []


async def test_a_mount_of_a_volume_that_the_task_lacks_is_refused_before_docker_is_asked(daemon, runtime):
    task = a_task(ContainerSpec("app", "i", mount_points=(MountPoint("data", "/data"),)))
    with pytest.raises(CannotCreateContainer, match="mounts volume 'data'"):
        await runtime.ensure_created(plan_of(task, FakePause()))
    assert daemon.asked("POST", "/containers/create") == []


async def test_a_pause_archive_that_is_missing_is_named(daemon):
    del daemon.routes["GET", "/images/sha256:feed/json"]
    runtime = DockerRuntime(settings_for(daemon.host), FakeClock())
    daemon.routes["GET", "/images/sha256:feed/json"] = lambda _: Answer(
        404, {"message": "No such image: feed"}
    )
    with pytest.raises(CannotCreateContainer, match=r"/nonexistent/pause\.tar cannot be read"):
        await runtime.start()
    await runtime.aclose()


async def test_an_archive_with_another_image_is_refused(daemon, tmp_path):
    archive = tmp_path / "pause.tar"
    archive.write_bytes(b"anything")
    daemon.routes["GET", "/images/sha256:feed/json"] = lambda _: Answer(
        404, {"message": "No such image: feed"}
    )
    daemon.routes["POST", "/images/load"] = lambda _: Answer(pieces=lambda: [{"stream": "Loaded image: x"}])
    pause = PauseImage("sha256:feed", "pause:1", archive)
    runtime = DockerRuntime(settings_for(daemon.host, pause=pause, limits=PATIENT), FakeClock())
    with pytest.raises(CannotCreateContainer, match="does not hold image sha256:feed"):
        await runtime.start()
    await runtime.aclose()


def an_archive(path: Path) -> tuple[PauseImage, list[str]]:
    image = build_image("pause:1", ImageConfig("amd64", ("/pause",)), [File("/pause", b"program")])
    path.write_bytes(image.content)
    with tarfile.open(path) as tar:
        config = json.load(tar.extractfile(image.image_id.removeprefix("sha256:") + ".json"))
    return PauseImage(image.image_id, image.name, path), config["rootfs"]["diff_ids"]


@pytest.mark.parametrize("is_ours", [True, False])
async def test_a_store_with_ids_of_its_own_is_believed_by_the_layers(daemon, tmp_path, is_ours):
    pause, layers = an_archive(tmp_path / "pause.tar")
    found = {"Id": "sha256:manifest", "RootFS": {"Layers": layers if is_ours else ["sha256:other"]}}
    no_such_image = Answer(404, {"message": "No such image"})
    daemon.routes["GET", f"/images/{pause.image_id}/json"] = lambda _: no_such_image
    daemon.routes["GET", "/images/pause:1/json"] = lambda _: (
        Answer(document=found) if daemon.asked("POST", "/images/load") else no_such_image
    )
    daemon.routes["POST", "/images/load"] = lambda _: Answer(pieces=lambda: [{"stream": "Loaded"}])
    daemon.routes["POST", "/containers/create"] = lambda _: Answer(500, {"message": "enough"})
    runtime = DockerRuntime(settings_for(daemon.host, pause=pause, limits=PATIENT), FakeClock())
    try:
        if not is_ours:
            with pytest.raises(CannotCreateContainer, match="does not hold image"):
                await runtime.start()
            return
        await runtime.start()
        with pytest.raises(CannotCreateContainer, match="enough"):
            await runtime.ensure_pause_started(pause_plan(a_task(ContainerSpec("app", "i"))))
        [asked] = daemon.asked("POST", "/containers/create")
        assert asked.body["Image"] == "sha256:manifest"
    finally:
        await runtime.aclose()


async def test_a_name_that_no_image_can_have_is_not_found_and_not_pulled_again_and_again(daemon, runtime):
    text = "invalid reference format: repository name must be lowercase"
    daemon.routes["GET", "/images/UPPER/json"] = lambda _: Answer(400, {"message": text})
    daemon.routes["POST", "/images/create"] = lambda _: Answer(400, {"message": text})
    assert await runtime.find_image("UPPER") is None
    with pytest.raises(CannotPullImage, match="not a valid reference"):
        await runtime.pull_image("UPPER", None)
    assert len(daemon.asked("POST", "/images/create")) == 1


# -- pulls -------------------------------------------------------------------------------------


def pull_answers(daemon: ScriptedDaemon, *answers: Answer) -> None:
    remaining = list(answers)
    daemon.routes["POST", "/images/create"] = lambda _: (
        remaining.pop(0) if len(remaining) > 1 else remaining[0]
    )
    daemon.routes["GET", "/images/shop/web:7/json"] = lambda _: Answer(
        document={"Id": "sha256:1", "RepoDigests": ["shop/web@sha256:2"]}
    )


FINE = Answer(pieces=lambda: [{"status": "Pulling"}, {"status": "Downloaded"}])


async def test_a_pull_is_tried_again_until_it_succeeds(daemon, runtime):
    pull_answers(
        daemon,
        Answer(500, {"message": "toomanyrequests"}),
        Answer(pieces=lambda: [{"status": "x"}, {"error": "EOF", "errorDetail": {"message": "EOF"}}]),
        FINE,
    )
    pulled = await runtime.pull_image("shop/web:7", None)
    assert (pulled.image_id, pulled.digest) == ("sha256:1", "sha256:2")
    asked = daemon.asked("POST", "/images/create")
    assert len(asked) == 3
    assert (asked[0].query["fromImage"], asked[0].query["tag"]) == (["shop/web"], ["7"])
    assert asked[0].headers["X-Registry-Auth"] == "e30="


async def test_a_pull_ends_after_the_last_attempt_with_dockers_words(daemon, runtime):
    pull_answers(daemon, Answer(pieces=lambda: [{"error": "toomanyrequests"}]))
    with pytest.raises(CannotPullImage, match="shop/web:7: toomanyrequests"):
        await runtime.pull_image("shop/web:7", None)
    assert len(daemon.asked("POST", "/images/create")) == 3


@pytest.mark.parametrize(
    ("status", "text"),
    [(404, "manifest unknown"), (500, "no basic auth credentials"), (500, "unauthorized: incorrect")],
)
def test_what_cannot_get_better_is_not_tried_again(status, text, tmp_path):
    async def story():
        daemon = ScriptedDaemon(tmp_path / "docker.sock")
        runtime = DockerRuntime(settings_for(daemon.host), FakeClock())
        await runtime.start()
        try:
            pull_answers(daemon, Answer(status, {"message": text}))
            with pytest.raises(CannotPullImage, match=text):
                await runtime.pull_image("shop/web:7", None)
            assert len(daemon.asked("POST", "/images/create")) == 1
        finally:
            await runtime.aclose()
            daemon.close()

    asyncio.run(story())


async def test_a_pull_that_stands_still_is_broken_off_and_tried_again(daemon, runtime):
    pull_answers(daemon, Answer(pieces=lambda: [{"status": "x"}, 3.0, {"status": "never read"}]), FINE)
    began = time.monotonic()
    assert (await runtime.pull_image("shop/web:7", None)).image_id == "sha256:1"
    assert 0.8 < time.monotonic() - began < 2.9


async def test_a_pull_that_moves_slowly_is_let_go_on(daemon, runtime):
    pieces = [piece for number in range(6) for piece in ({"status": str(number)}, 0.25)]
    pull_answers(daemon, Answer(pieces=lambda: pieces))
    assert (await runtime.pull_image("shop/web:7", None)).image_id == "sha256:1"
    assert len(daemon.asked("POST", "/images/create")) == 1


async def test_a_pull_that_never_begins_is_a_timeout_of_its_own(daemon, runtime):
    def slow(_):
        time.sleep(1.5)
        return FINE

    daemon.routes["POST", "/images/create"] = slow
    with pytest.raises(StepTimedOut, match="Could not transition to pullBegin"):
        await runtime.pull_image("shop/web:7", None)


async def test_the_same_image_is_pulled_once_for_all_who_ask(daemon, runtime):
    pull_answers(daemon, Answer(pieces=lambda: [{"status": "x"}, 0.3, {"status": "y"}]))
    pulled = await asyncio.gather(*(runtime.pull_image("shop/web:7", None) for _ in range(5)))
    assert {each.image_id for each in pulled} == {"sha256:1"}
    assert len(daemon.asked("POST", "/images/create")) == 1
    await runtime.pull_image("shop/web:7", None)
    assert len(daemon.asked("POST", "/images/create")) == 2


async def test_a_failed_pull_fails_for_all_who_wait_for_it(daemon, runtime):
    pull_answers(daemon, Answer(pieces=lambda: [{"status": "x"}, 0.2, {"error": "manifest unknown"}]))
    outcomes = await asyncio.gather(
        *(runtime.pull_image("shop/web:7", None) for _ in range(3)), return_exceptions=True
    )
    assert [type(each) for each in outcomes] == [CannotPullImage] * 3
    assert len(daemon.asked("POST", "/images/create")) == 1


async def test_a_cancelled_pull_leaves_it_to_the_next_who_waits(daemon, runtime):
    pull_answers(daemon, Answer(pieces=lambda: [{"status": "x"}, 5.0]), FINE)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(runtime.pull_image("shop/web:7", None))
        await asyncio.sleep(0.2)
        second = group.create_task(runtime.pull_image("shop/web:7", None))
        await asyncio.sleep(0.1)
        first.cancel()
    assert second.result().image_id == "sha256:1"


# -- events ------------------------------------------------------------------------------------


async def test_the_stream_is_opened_again_after_it_ends_and_the_list_comes_first(
    daemon, runtime, monkeypatch
):
    task = a_task(ContainerSpec("app", "i"))
    event = {"Action": "die", "Actor": {"ID": "c0ffee", "Attributes": {"name": "app"}}}
    daemon.routes["GET", "/containers/json"] = lambda _: Answer(document=[{"Id": "c0ffee"}])
    daemon.routes["GET", "/containers/c0ffee/json"] = lambda _: Answer(document=inspected("app", task))
    daemon.routes["GET", "/events"] = lambda _: Answer(pieces=lambda: [event])
    async with asyncio.timeout(10), aclosing(runtime.changes()) as seen:
        for _ in range(4):
            await snapshot_where(seen, "app")
    assert len(daemon.asked("GET", "/events")) >= 2
    assert '"com.amazonaws.ecs.cluster=test"' in daemon.asked("GET", "/events")[0].query["filters"][0]


async def test_a_daemon_that_falls_silent_is_noticed_and_awaited(daemon, runtime, monkeypatch):
    monkeypatch.setattr("agent.adapters.docker.changes.SILENCE", timedelta(seconds=0.2))
    task = a_task(ContainerSpec("app", "i"))
    daemon.routes["GET", "/containers/json"] = lambda _: Answer(document=[{"Id": "c0ffee"}])
    daemon.routes["GET", "/containers/c0ffee/json"] = lambda _: Answer(document=inspected("app", task))
    daemon.routes["GET", "/events"] = lambda _: Answer(pieces=lambda: [20.0])
    ping = daemon.routes["GET", "/_ping"]
    async with asyncio.timeout(10), aclosing(runtime.changes()) as seen:
        await snapshot_where(seen, "app")
        daemon.routes["GET", "/_ping"] = lambda _: (time.sleep(1), ping(_))[1]
        # Its ping is not answered in time, so the stream is given up, and the list comes anew.
        await snapshot_where(seen, "app")
    assert len(daemon.asked("GET", "/events")) == 2


async def test_a_daemon_that_is_away_for_a_while_is_found_again(tmp_path):
    path = tmp_path / "docker.sock"
    task = a_task(ContainerSpec("app", "i"))

    def serve() -> ScriptedDaemon:
        daemon = ScriptedDaemon(path)
        daemon.routes["GET", "/containers/json"] = lambda _: Answer(document=[{"Id": "c0ffee"}])
        daemon.routes["GET", "/containers/c0ffee/json"] = lambda _: Answer(document=inspected("app", task))
        daemon.routes["GET", "/events"] = lambda _: Answer(pieces=lambda: [0.1])
        return daemon

    daemon = serve()
    runtime = DockerRuntime(settings_for(daemon.host), FakeClock())
    await runtime.start()
    try:
        async with asyncio.timeout(15), aclosing(runtime.changes()) as seen:
            await snapshot_where(seen, "app")
            await asyncio.to_thread(daemon.close)
            waiting = asyncio.get_running_loop().create_task(_first_after_the_break(seen))
            await asyncio.sleep(0.6)
            daemon = serve()
            await waiting
    finally:
        await runtime.aclose()
        daemon.close()


async def _first_after_the_break(seen) -> None:
    await snapshot_where(seen, "app")
    await snapshot_where(seen, "app")


def test_the_pauses_between_two_connects_grow_to_five_seconds():
    assert (timedelta(seconds=0.25), timedelta(seconds=5)) == (changes.FIRST_PAUSE, changes.LONGEST_PAUSE)
