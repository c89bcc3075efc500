"""What the contract leaves open, seen on the real Docker: names, limits, volumes, output, health, rough ends."""

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from agent.adapters.docker import stopping
from agent.adapters.docker.processes import processes_in
from agent.adapters.docker.runtime import DockerRuntime
from agent.adapters.docker.settings import CallLimits
from agent.adapters.docker.translate import volume_name
from agent.model.credentials import RegistryLogin
from agent.model.errors import CannotPullImage, CannotStartContainer, CannotStopContainer
from agent.model.ids import CredentialsId, RoleArn, TaskArn
from agent.model.observation import PAUSE_NAME, ContainerSnapshot
from agent.model.spec import (
    ContainerSpec,
    HealthCheck,
    LinuxParameters,
    MountPoint,
    TaskRole,
    TaskSpec,
    Tmpfs,
    Ulimit,
    Volume,
)
from agent.model.status import Health
from agent.ports.runtime import LogQuery
from tests.agent.adapters.docker.conftest import CGROUPS, DockerStage, RealClock, an_image
from tests.agent.adapters.docker.registry import Registry
from tests.contracts.runtime import a_task, pause_plan, plan_of, snapshot_where

pytestmark = pytest.mark.integration

GRACE = timedelta(seconds=1)


class Sandbox:
    """A task of one or more containers on a running pause container."""

    def __init__(self, stage: DockerStage, task: TaskSpec, pause: ContainerSnapshot) -> None:
        self.stage, self.task, self.pause = stage, task, pause

    @classmethod
    async def of(cls, stage: DockerStage, *specs: ContainerSpec, **changes) -> "Sandbox":
        task = replace(a_task(*specs), **changes)
        return cls(stage, task, await stage.runtime.ensure_pause_started(pause_plan(task)))

    async def start(self, name: str = "app") -> ContainerSnapshot:
        plan = plan_of(self.task, self.pause, name)
        await self.stage.runtime.ensure_created(plan)
        return await self.stage.runtime.ensure_started(plan.docker_name)

    async def finish(self, name: str = "app") -> tuple[ContainerSnapshot, str]:
        """Start it, wait for its end, return how it ended and what it printed."""
        started = await self.start(name)
        output = [part async for part in self.stage.runtime.read(started.container_id, LogQuery(follow=True))]
        async with aclosing(self.stage.runtime.changes()) as changes:
            ended = await snapshot_where(changes, started.docker_name, is_running=False)
        return ended, b"".join(output).decode()


def a_shell(stage: DockerStage, command: str, **changes) -> ContainerSpec:
    spec = ContainerSpec("app", stage.waiting, memory=32, entry_point=("/bin/sh", "-c"), command=(command,))
    return replace(spec, **changes)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_an_app_sees_the_names_of_its_interface_and_its_own_surroundings(docker_stage):
    role = TaskRole(RoleArn("arn:aws:iam::000000000000:role/r"), CredentialsId("cred-1"))
    spec = a_shell(
        docker_stage,
        "cat /etc/hosts /etc/resolv.conf; hostname; env; ls -d /tmp/* ; cat /proc/self/limits",
        environment=(("GREETING", "hello world"),),
        working_directory="/bin",
        linux=LinuxParameters(tmpfs=(Tmpfs("/tmp/scratch", 1),)),
        ulimits=(Ulimit("nofile", 123, 456),),
    )
    sandbox = await Sandbox.of(docker_stage, spec, task_role=role)
    ended, output = await sandbox.finish()
    assert ended.exit_code == 0, output
    lines = output.splitlines()
    assert "10.0.1.5\tip-10-0-1-5.ec2.internal" in lines
    assert "nameserver 10.0.0.2" in lines
    assert "search ec2.internal" in lines
    assert "ip-10-0-1-5.ec2.internal" in lines
    assert "GREETING=hello world" in lines
    assert "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/cred-1" in lines
    assert "AWS_REGION=eu-west-1" in lines
    assert "PWD=/bin" in lines
    assert "/tmp/scratch" in lines
    assert any(line.split()[:5] == ["Max", "open", "files", "123", "456"] for line in lines)


async def test_the_region_of_an_image_is_left_alone(docker_stage, docker_client):
    image = an_image("region", uuid.uuid4().hex[:12], "env", {"AWS_REGION": "mars-1"})
    for _ in docker_client.load_image(image.content):
        pass
    try:
        sandbox = await Sandbox.of(docker_stage, ContainerSpec("app", image.name, memory=32))
        _, output = await sandbox.finish()
        assert [line for line in output.splitlines() if "REGION" in line] == ["AWS_REGION=mars-1"]
    finally:
        for each in docker_client.containers(all=True, filters={"ancestor": image.name}):
            docker_client.remove_container(each["Id"], force=True)
        docker_client.remove_image(image.name, force=True)


async def test_labels_are_ecs_own_and_name_the_configured_cluster(docker_stage, docker_client):
    sandbox = await Sandbox.of(docker_stage, a_shell(docker_stage, "true"))
    await sandbox.start()
    label = {"label": [f"com.amazonaws.ecs.task-arn={sandbox.task.arn}"]}
    found = {
        each["Labels"].pop("com.amazonaws.ecs.container-name"): each
        for each in docker_client.containers(all=True, filters=label)
    }
    assert set(found) == {PAUSE_NAME, "app"}
    for each in found.values():
        assert each["Labels"] == {
            "com.amazonaws.ecs.task-arn": sandbox.task.arn,
            "com.amazonaws.ecs.task-definition-family": "contract",
            "com.amazonaws.ecs.task-definition-version": "3",
            "com.amazonaws.ecs.cluster": docker_stage.settings.cluster,
        }


async def test_a_task_is_limited_as_a_whole_and_its_group_goes_with_it(docker_stage):
    sandbox = await Sandbox.of(docker_stage, a_shell(docker_stage, "sleep 60"), cpu=512, memory=100)
    started = await sandbox.start()
    task, parent = sandbox.task, docker_stage.settings.cgroup_parent.strip("/")
    groups = [
        each / parent / task.task_id for each in CGROUPS.iterdir() if (each / parent / task.task_id).is_dir()
    ]
    if (CGROUPS / "cgroup.controllers").exists():
        group = CGROUPS / parent / task.task_id
        groups = [group]
        assert (group / "cpu.max").read_text().split() == ["50000", "100000"]
        assert (group / "memory.max").read_text().strip() == str(100 << 20)
    else:
        assert (CGROUPS / "cpu" / parent / task.task_id / "cpu.cfs_quota_us").read_text().strip() == "50000"
        limit = CGROUPS / "memory" / parent / task.task_id / "memory.limit_in_bytes"
        assert limit.read_text().strip() == str(100 << 20)
    assert all(
        {started.pid, sandbox.pause.pid} <= processes_in(group)
        for group in groups
        if "unified" not in str(group)
    )
    await docker_stage.runtime.ensure_stopped(started.docker_name, timedelta(0))
    await docker_stage.runtime.ensure_stopped(sandbox.pause.docker_name, GRACE)
    await docker_stage.runtime.ensure_removed(started.docker_name)
    await docker_stage.runtime.ensure_sandbox_removed(task, sandbox.pause.docker_name)
    assert list(CGROUPS.glob(f"*/{parent}/{task.task_id}")) == []
    assert not (CGROUPS / parent / task.task_id).exists()


async def test_a_container_that_takes_too_much_memory_is_marked(docker_stage):
    hungry = a_shell(docker_stage, "dd if=/dev/zero of=/dev/null bs=64M count=1", memory=16)
    sandbox = await Sandbox.of(docker_stage, hungry)
    ended, _ = await sandbox.finish()
    assert ended.was_oom_killed
    assert ended.exit_code != 0


async def test_a_volume_is_shared_within_the_task_and_goes_with_it(docker_stage, docker_client, tmp_path):
    (tmp_path / "from-host").write_text("host says hello\n")
    mounts = (MountPoint("data", "/data"), MountPoint("host", "/host", read_only=True))
    writer = a_shell(docker_stage, "cat /host/from-host > /data/note; echo x > /host/y", mount_points=mounts)
    reader = a_shell(docker_stage, "cat /data/note", mount_points=mounts[:1], name="reader")
    volumes = (Volume("data"), Volume("host", str(tmp_path)))
    sandbox = await Sandbox.of(docker_stage, writer, reader, volumes=volumes)
    ended, refused = await sandbox.finish("app")
    assert ended.exit_code == 1
    assert "Read-only file system" in refused
    _, output = await sandbox.finish("reader")
    assert output == "host says hello\n"
    name = volume_name(sandbox.task, "data")
    assert docker_client.inspect_volume(name)["Labels"]["com.amazonaws.ecs.task-arn"] == sandbox.task.arn
    for each in ("app", "reader"):
        await docker_stage.runtime.ensure_removed(plan_of(sandbox.task, sandbox.pause, each).docker_name)
    await docker_stage.runtime.ensure_stopped(sandbox.pause.docker_name, GRACE)
    await docker_stage.runtime.ensure_sandbox_removed(sandbox.task, sandbox.pause.docker_name)
    label = {"label": [f"com.amazonaws.ecs.task-arn={sandbox.task.arn}"]}
    assert docker_client.volumes(filters=label)["Volumes"] in ([], None)
    assert (tmp_path / "from-host").exists()


async def test_output_is_read_to_its_end_followed_and_cut_to_its_tail(docker_stage):
    runtime = docker_stage.runtime
    sandbox = await Sandbox.of(
        docker_stage, a_shell(docker_stage, "echo one; echo two >&2; sleep 0.5; echo three; sleep 60")
    )
    started = await sandbox.start()
    seen = b""
    async with (
        asyncio.timeout(10),
        aclosing(runtime.read(started.container_id, LogQuery(follow=True))) as parts,
    ):
        async for part in parts:
            seen += part
            if b"three" in seen:
                break
    assert sorted(seen.split()) == [b"one", b"three", b"two"]
    tail = [part async for part in runtime.read(started.container_id, LogQuery(tail=1))]
    assert b"".join(tail) == b"three\n"
    parts = runtime.read(started.container_id, LogQuery(timestamps=True))
    lines = b"".join([part async for part in parts]).decode().splitlines()
    times = {text: datetime.fromisoformat(stamp[:26] + "Z") for stamp, text in map(str.split, lines)}
    assert set(times) == {"one", "two", "three"}
    query = LogQuery(since=times["three"].timestamp() - 0.1)
    assert [part async for part in runtime.read(started.container_id, query)] == [b"three\n"]
    await until(lambda: not any(pool._jobs for pool in runtime._connection._pools.values()))


async def test_a_terminals_output_has_no_framing(docker_stage):
    sandbox = await Sandbox.of(docker_stage, a_shell(docker_stage, "echo one", pseudo_terminal=True))
    _, output = await sandbox.finish()
    assert output == "one\r\n"


async def test_a_health_check_shows_as_a_change(docker_stage):
    check = HealthCheck(("CMD-SHELL", "echo fine; true"), interval=1, timeout=1, retries=1)
    sandbox = await Sandbox.of(docker_stage, a_shell(docker_stage, "sleep 60", health_check=check))
    async with aclosing(docker_stage.runtime.changes()) as changes:
        await snapshot_where(changes, sandbox.pause.docker_name)
        started = await sandbox.start()
        assert started.health is Health.UNKNOWN
        healthy = await snapshot_where(changes, started.docker_name, health=Health.HEALTHY)
    assert healthy.health_output == "fine\n"
    assert healthy.health_since is not None


async def test_a_program_that_is_not_there_is_a_start_that_failed_and_can_be_stopped(docker_stage):
    spec = ContainerSpec(
        "app", docker_stage.waiting, memory=32, entry_point=("/bin/nonexistent",), command=()
    )
    sandbox = await Sandbox.of(docker_stage, spec)
    with pytest.raises(CannotStartContainer, match="no such file or directory") as refused:
        await sandbox.start()
    assert "Error response from daemon" not in str(refused.value)
    name = plan_of(sandbox.task, sandbox.pause).docker_name
    stopped = await docker_stage.runtime.ensure_stopped(name, GRACE)
    assert stopped is not None
    assert not stopped.was_started


async def test_a_pause_image_that_somebody_pruned_is_loaded_again(docker_stage, docker_client):
    docker_client.remove_image(docker_stage.settings.pause.image_id, force=True)
    sandbox = await Sandbox.of(docker_stage, a_shell(docker_stage, "true"))
    assert sandbox.pause.is_running
    assert sandbox.pause.image_id == docker_stage.settings.pause.image_id


async def test_a_burst_of_sandboxes_starts_through_few_slots(docker_stage):
    async with asyncio.TaskGroup() as group:
        made = [group.create_task(Sandbox.of(docker_stage, a_shell(docker_stage, "true"))) for _ in range(8)]
    assert all(each.result().pause.is_running for each in made)
    assert docker_stage.runtime._connection._pools["start"]._threads <= docker_stage.settings.start_slots


# -- rough ends --------------------------------------------------------------------------------


@pytest.fixture
async def hasty(docker_stage):
    """The same stage with a runtime that waits half a second for Docker before it kills by itself."""
    limits = CallLimits(stop_margin=timedelta(seconds=0.5), ping=timedelta(seconds=1))
    runtime = DockerRuntime(replace(docker_stage.settings, limits=limits), RealClock())
    await runtime.start()
    yield replace(docker_stage, runtime=runtime)
    await runtime.aclose()


async def test_a_container_is_killed_when_docker_hangs_in_its_stop(hasty, monkeypatch):
    sandbox = await Sandbox.of(hasty, a_shell(hasty, "trap '' TERM; sleep 60 & sleep 60"))
    started = await sandbox.start()
    monkeypatch.setattr(stopping, "stop", lambda *_: time.sleep(3))
    began = time.monotonic()
    stopped = await hasty.runtime.ensure_stopped(started.docker_name, GRACE)
    took = time.monotonic() - began
    assert stopped is not None
    assert (stopped.is_running, stopped.exit_code) == (False, 137)
    assert 1.5 <= took < 5
    assert not Path(f"/proc/{started.pid}").exists()


async def test_an_end_that_docker_never_confirms_is_proved_by_the_empty_group(hasty, monkeypatch):
    sandbox = await Sandbox.of(hasty, a_shell(hasty, "sleep 60"))
    started = await sandbox.start()

    def still_running(client, name, clock):
        document = {
            "Id": started.container_id,
            "Name": f"/{started.docker_name}",
            "State": {"Running": True, "Pid": 1},
        }
        return document, clock.now()

    monkeypatch.setattr(stopping, "stop", lambda *_: time.sleep(3))
    monkeypatch.setattr(stopping, "inspect", still_running)
    stopped = await hasty.runtime.ensure_stopped(started.docker_name, timedelta(0))
    assert stopped is not None
    assert (stopped.is_running, stopped.was_started, stopped.exit_code) == (False, True, None)
    assert stopped.finished_at is not None
    assert not Path(f"/proc/{started.pid}").exists()


async def test_a_container_whose_processes_do_not_die_is_not_called_stopped(hasty, monkeypatch):
    sandbox = await Sandbox.of(hasty, a_shell(hasty, "sleep 60"))
    started = await sandbox.start()
    monkeypatch.setattr(stopping, "stop", lambda *_: time.sleep(1))
    monkeypatch.setattr(stopping, "kill_all", lambda *_: False)
    with pytest.raises(CannotStopContainer, match=f"{started.pid}"):
        await hasty.runtime.ensure_stopped(started.docker_name, timedelta(0))
    assert Path(f"/proc/{started.pid}").exists()


async def test_dockers_word_is_not_taken_while_processes_are_left(hasty, monkeypatch):
    sandbox = await Sandbox.of(hasty, a_shell(hasty, "sleep 60"))
    started = await sandbox.start()

    def pretend(client, name, seconds, clock):
        document = client.inspect_container(name)
        document["State"] = {**document["State"], "Running": False, "FinishedAt": "2026-01-01T00:00:00Z"}
        return document, clock.now()

    monkeypatch.setattr(stopping, "stop", pretend)
    stopped = await hasty.runtime.ensure_stopped(started.docker_name, timedelta(0))
    assert stopped is not None
    assert stopped.exit_code == 137
    assert not Path(f"/proc/{started.pid}").exists()


# -- pulls from a real registry ----------------------------------------------------------------


@pytest.fixture
def registry(docker_client):
    opened: list[Registry] = []

    def serve(password: str | None = None) -> Registry:
        image = an_image("pulled", uuid.uuid4().hex[:12], "echo pulled")
        opened.append(Registry(image, password=password))
        return opened[-1]

    yield serve
    for each in opened:
        each.close()
        reference = f"{each.address}/berth-test/pulled"
        for image in docker_client.images(reference):
            docker_client.remove_image(image["Id"], force=True)


async def test_an_image_is_pulled_with_its_digest(docker_stage, registry):
    served = registry()
    image = f"{served.address}/berth-test/pulled:1"
    assert await docker_stage.runtime.find_image(image) is None
    pulled = await docker_stage.runtime.pull_image(image, None)
    assert pulled.digest == served.digest
    assert await docker_stage.runtime.find_image(image) == pulled
    by_digest = f"{served.address}/berth-test/pulled@{served.digest}"
    assert (await docker_stage.runtime.pull_image(by_digest, None)) == pulled


async def test_a_registry_with_a_password_lets_in_who_knows_it(docker_stage, registry):
    served = registry("obviously-fake")
    image = f"{served.address}/berth-test/pulled:1"
    with pytest.raises(CannotPullImage, match="does not let the task pull"):
        await docker_stage.runtime.pull_image(image, None)
    with pytest.raises(CannotPullImage, match="does not let the task pull"):
        await docker_stage.runtime.pull_image(image, RegistryLogin("tester", "wrong"))
    pulled = await docker_stage.runtime.pull_image(image, RegistryLogin("tester", "obviously-fake"))
    assert pulled.digest == served.digest


async def test_a_tag_that_the_registry_lacks_is_missing_at_once(docker_stage, registry):
    image = f"{registry().address}/berth-test/pulled:2"
    with pytest.raises(CannotPullImage, match="does not exist in the registry"):
        await docker_stage.runtime.pull_image(image, None)


async def test_another_agents_containers_are_not_observed(docker_stage):
    await Sandbox.of(docker_stage, a_shell(docker_stage, "true"))
    stranger = DockerRuntime(replace(docker_stage.settings, cluster="berth-test-other"), RealClock())
    await stranger.start()
    try:
        assert await stranger.observe() == ()
        assert await stranger.leftovers(frozenset()) == ()
    finally:
        await stranger.aclose()
    assert len(await docker_stage.runtime.observe()) == 1
    assert TaskArn((await docker_stage.runtime.observe())[0].task_arn)
