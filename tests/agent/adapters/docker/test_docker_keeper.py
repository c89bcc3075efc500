"""The keeper's container on a real Docker: what it may do, that it goes, and that it keeps what it is given."""

import asyncio
import time
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.adapters.docker.keeper import KEEPER_LABEL, KeeperContainer, KeeperSettings, keeper_document
from agent.adapters.docker.settings import DockerSettings, PauseImage
from agent.adapters.docker.translate import own_filter
from agent.adapters.host.keeper_link import KeeperLink, KeeperLost
from agent.model.errors import CannotCreateContainer, RuntimeUnavailable
from pause.image import File, Folder, ImageConfig, build_image
from tests.availability import end_keepers
from tests.pause.keeping import NATIVE, compiled_keeper

IMAGE = PauseImage("sha256:" + 64 * "a", "berth/keeper:1", Path("keeper.tar"))
KEEPER = KeeperSettings(IMAGE, Path("/var/lib/ecs/data/keeper"), timedelta(minutes=5))


def test_the_container_may_do_nothing_and_belongs_to_no_task() -> None:
    document = keeper_document(KEEPER, "sha256:feed", "aaaa 300")
    host = document["HostConfig"]
    assert document["Cmd"] == ["300", "aaaa 300"]
    assert document["Labels"] == {KEEPER_LABEL: "/var/lib/ecs/data/keeper"}
    assert (host["NetworkMode"], host["CapDrop"], host["ReadonlyRootfs"]) == ("none", ["ALL"], True)
    assert "no-new-privileges" in host["SecurityOpt"]
    assert (host["RestartPolicy"], host["AutoRemove"]) == ({"Name": "no"}, True)
    assert 0 < host["Memory"] <= 64 << 20


def test_the_version_says_program_and_patience() -> None:
    docker = DockerSettings("c", IMAGE)
    version = KeeperContainer(docker, KEEPER).version
    assert version == "aaaaaaaaaaaaaaaa 300"
    assert KeeperContainer(docker, replace(KEEPER, patience=timedelta(seconds=7))).version != version
    other = replace(KEEPER, image=replace(IMAGE, image_id="sha256:" + 64 * "b"))
    assert KeeperContainer(docker, other).version != version


@pytest.fixture
def keeper(tmp_path, docker_client):
    """Settings with the product's program in an image of its own: nobody else's copy is removed."""
    unique = uuid.uuid4().hex[:12]
    config = ImageConfig(NATIVE, ("/keeper",), environment={"UNIQUE": unique})
    program = File("/keeper", compiled_keeper(), mode=0o555)
    image = build_image(f"berth-test/keeper:{unique}", config, [program, Folder("/keep", 0o700)])
    archive = tmp_path / "keeper.tar"
    archive.write_bytes(image.content)
    directory = tmp_path / "keeper"
    directory.mkdir(mode=0o700)
    shipped = PauseImage(image.image_id, image.name, archive)
    yield KeeperSettings(shipped, directory, timedelta(seconds=60))
    end_keepers(docker_client, directory)
    docker_client.remove_image(image.name, force=True)


def containers(docker_client, keeper):
    label = {"label": [f"{KEEPER_LABEL}={keeper.directory}"]}
    return docker_client.containers(all=True, filters=label)


async def linked(keeper):
    until = time.monotonic() + 10
    while True:
        try:
            return KeeperLink.open(keeper.directory / "socket", lambda: None)
        except KeeperLost:
            assert time.monotonic() < until
            await asyncio.sleep(0.02)


@pytest.mark.integration
async def test_it_runs_says_its_version_and_is_removed(docker_client, docker_settings, keeper) -> None:
    container = KeeperContainer(docker_settings, keeper)
    await container.ensure_made()
    link = await linked(keeper)
    assert await link.version() == container.version
    (found,) = containers(docker_client, keeper)
    inspected = docker_client.inspect_container(found["Id"])
    assert inspected["HostConfig"]["NetworkMode"] == "none"
    status = Path(f"/proc/{inspected['State']['Pid']}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    # it is not among the containers of tasks
    assert docker_client.containers(all=True, filters={"label": own_filter(docker_settings)}) == []
    link.close()
    await container.ensure_removed()
    await container.ensure_removed()
    assert containers(docker_client, keeper) == []


@pytest.mark.integration
async def test_making_it_again_takes_the_place_of_the_first(docker_client, docker_settings, keeper) -> None:
    container = KeeperContainer(docker_settings, keeper)
    await container.ensure_made()
    (first,) = containers(docker_client, keeper)
    await container.ensure_made()
    (second,) = containers(docker_client, keeper)
    assert first["Id"] != second["Id"]


@pytest.mark.integration
async def test_it_goes_by_itself_and_docker_removes_it(docker_client, docker_settings, keeper) -> None:
    await KeeperContainer(docker_settings, replace(keeper, patience=timedelta(seconds=1))).ensure_made()
    until = time.monotonic() + 20
    while containers(docker_client, keeper):
        assert time.monotonic() < until
        await asyncio.sleep(0.1)


@pytest.mark.integration
async def test_a_directory_that_docker_does_not_see_is_an_error(docker_settings, keeper) -> None:
    elsewhere = replace(keeper, directory=keeper.directory / "not-there")
    with pytest.raises(CannotCreateContainer, match="not-there"):
        await KeeperContainer(docker_settings, elsewhere).ensure_made()


async def test_without_docker_it_says_that_docker_is_away(tmp_path) -> None:
    docker = DockerSettings("c", IMAGE, host=f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(RuntimeUnavailable):
        await KeeperContainer(docker, KEEPER).ensure_made()


@pytest.mark.integration
async def test_one_that_was_made_and_never_started_is_removed_by_the_next(
    docker_client, docker_settings, keeper
) -> None:
    image = docker_client.inspect_image("berth/demo-job:latest")["Id"]
    cut_off = docker_client.create_container(image, labels={KEEPER_LABEL: str(keeper.directory)})
    container = KeeperContainer(docker_settings, keeper)
    await container.ensure_made()
    (found,) = containers(docker_client, keeper)
    assert found["Id"] != cut_off["Id"]
    assert found["State"] == "running"
