"""A real Docker with images of our own, marks of our own, and nothing left afterwards."""

import asyncio
import platform
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from docker import APIClient

from agent.adapters.docker.cgroups import _removed
from agent.adapters.docker.runtime import DockerRuntime
from agent.adapters.docker.settings import DockerSettings, PauseImage, PullPolicy
from agent.adapters.docker.translate import CLUSTER_LABEL
from deploy.demo.build import find_busybox
from pause.build import compile_program, find_compiler
from pause.image import Architecture, File, Image, ImageConfig, Link, build_image

ARCHITECTURE: Architecture = "arm64" if platform.machine() == "aarch64" else "amd64"
CGROUPS = Path("/sys/fs/cgroup")

_WAIT = "trap 'exit 0' TERM; echo ready; while :; do sleep 1 & wait $!; done"
_COMMANDS = {
    "waiting": _WAIT,
    "exiting": "echo bye; exit 7",
    "stubborn": "trap '' TERM; while :; do sleep 1; done",
}


class RealClock:
    def now(self) -> datetime:
        return datetime.now(tz=UTC)


def an_image(name: str, unique: str, command: str, environment: dict[str, str] | None = None) -> Image:
    config = ImageConfig(
        ARCHITECTURE,
        entrypoint=("/bin/sh", "-c", command),
        environment={"UNIQUE": unique, **(environment or {})},
    )
    tools = ("sh", "sleep", "cat", "hostname", "env", "true", "ls", "dd", "head")
    entries = [
        File("/bin/busybox", find_busybox().read_bytes(), mode=0o755),
        *(Link(f"/bin/{tool}", "busybox") for tool in tools),
    ]
    return build_image(f"berth-test/{name}:{unique}", config, entries)


@pytest.fixture(scope="session")
def docker_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Image]]:
    unique = uuid.uuid4().hex[:12]
    compiler = find_compiler(ARCHITECTURE)
    assert compiler is not None
    # The product's program in an image of its own: nobody else's copy is touched.
    pause = build_image(
        f"berth-test/pause:{unique}",
        ImageConfig(ARCHITECTURE, ("/pause",), user="65534:65534", environment={"UNIQUE": unique}),
        [File("/pause", compile_program(compiler, ARCHITECTURE), mode=0o555)],
    )
    images = {name: an_image(name, unique, command) for name, command in _COMMANDS.items()}
    client = APIClient(version="auto")
    try:
        for image in images.values():
            for _ in client.load_image(image.content):
                pass
        yield {**images, "pause": pause}
    finally:
        for image in [*images.values(), pause]:
            try:
                client.remove_image(image.name, force=True)
            except Exception as error:  # noqa: BLE001
                assert "No such image" in str(error)  # noqa: PT017
        client.close()


@pytest.fixture
def pause_archive(docker_images: dict[str, Image], tmp_path: Path) -> PauseImage:
    archive = tmp_path / "pause.tar"
    archive.write_bytes(docker_images["pause"].content)
    return PauseImage(docker_images["pause"].image_id, docker_images["pause"].name, archive)


@pytest.fixture
def docker_client() -> Iterator[APIClient]:
    client = APIClient(version="auto")
    yield client
    client.close()


@pytest.fixture
def docker_settings(pause_archive: PauseImage, docker_client: APIClient) -> Iterator[DockerSettings]:
    """Settings whose cluster, and whose control groups' parent, are this test's own."""
    unique = uuid.uuid4().hex[:12]
    settings = DockerSettings(
        cluster=f"berth-test-{unique}",
        pause=pause_archive,
        cgroup_parent=f"/berth-test-{unique}",
        region="eu-west-1",
        pulls=PullPolicy(attempts=2, first_pause=timedelta(milliseconds=50)),
    )
    try:
        yield settings
    finally:
        label = {"label": [f"{CLUSTER_LABEL}={settings.cluster}"]}
        for container in docker_client.containers(all=True, filters=label):
            docker_client.remove_container(container["Id"], force=True, v=True)
        for volume in docker_client.volumes(filters=label)["Volumes"] or ():
            docker_client.remove_volume(volume["Name"], force=True)
        for hierarchy in CGROUPS.iterdir():
            if hierarchy.is_dir():
                _removed(hierarchy / settings.cgroup_parent.strip("/"))


@dataclass
class DockerStage:
    """The contract's stage on the real daemon."""

    runtime: DockerRuntime
    settings: DockerSettings
    client: APIClient
    images: dict[str, Image]
    others: list[DockerRuntime] = field(default_factory=list)

    @property
    def waiting(self) -> str:
        return self.images["waiting"].name

    @property
    def exiting(self) -> str:
        return self.images["exiting"].name

    @property
    def stubborn(self) -> str:
        return self.images["stubborn"].name

    # A port of loopback on which nothing listens: the refusal is at once, and nothing leaves the machine.
    missing: str = "127.0.0.1:9/berth-test/missing:1"

    def restarted(self) -> DockerRuntime:
        successor = DockerRuntime(self.settings, RealClock())
        successor._groups = self.runtime._groups
        successor._connection._version = self.runtime._connection.version
        self.others.append(successor)
        return successor

    def unreachable(self) -> DockerRuntime:
        absent = DockerRuntime(replace(self.settings, host="unix:///nonexistent/docker.sock"), RealClock())
        absent._groups = self.runtime._groups
        absent._connection._version = self.runtime._connection.version
        self.others.append(absent)
        return absent

    async def settled(self, docker_name: str) -> None:
        async with asyncio.timeout(20):
            while b"ready" not in await asyncio.to_thread(self.client.logs, docker_name):
                await asyncio.sleep(0.02)

    async def kill(self, docker_name: str) -> None:
        await asyncio.to_thread(self.client.kill, docker_name)

    async def vanish(self, docker_name: str) -> None:
        await asyncio.to_thread(self.client.remove_container, docker_name, force=True, v=True)

    async def drop_events(self) -> None:
        assert self.runtime._changes.stream is not None
        self.runtime._changes.stream.close()


@pytest.fixture
async def docker_stage(
    docker_settings: DockerSettings, docker_client: APIClient, docker_images: dict[str, Image]
) -> AsyncIterator[DockerStage]:
    runtime = DockerRuntime(docker_settings, RealClock())
    stage = DockerStage(runtime, docker_settings, docker_client, docker_images)
    await runtime.start()
    try:
        yield stage
    finally:
        for each in (runtime, *stage.others):
            await each.aclose()
