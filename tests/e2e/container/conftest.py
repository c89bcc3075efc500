"""Installed agents. These tests need a machine of their own, whose Docker can give everything: tests.machine."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import APIClient

from agent import __version__
from tests.e2e.agent_container import IMAGE, docker
from tests.e2e.agent_process import IS_IN_CONTAINER
from tests.e2e.container.installed import InstalledAgent, InstalledEcsAgent
from tests.e2e.container.rigs import EcsRig, LocalRig, Rig
from tests.e2e.ecs.cluster import Cluster
from tests.e2e.surroundings import Baseline, Things, sweep

# without the image they are no part of the run: `python -m tests.lanes` gives them their machine
collect_ignore_glob = [] if IS_IN_CONTAINER else ["test_*.py"]

PREVIOUS = "berth/agent:previous"
PREVIOUS_VERSION = "0.0.9"


@pytest.fixture
def installed(
    tmp_path: Path, docker_client: APIClient, before: Things, images: None
) -> Iterator[InstalledAgent]:
    """An agent with the local backend, not started yet."""
    with _cleaned_up(InstalledAgent(tmp_path / "agent"), docker_client, before) as agent:
        yield agent


@pytest.fixture(params=["local", "ecs"])
def rig(
    request: pytest.FixtureRequest, tmp_path: Path, docker_client: APIClient, before: Things, images: None
) -> Iterator[Rig]:
    """An installed agent that is not started yet, with each backend."""
    with contextlib.ExitStack() as ends:
        if request.param == "local":
            agent = InstalledAgent(tmp_path / "agent")
            ends.enter_context(_cleaned_up(agent, docker_client, before))
            yield LocalRig(agent)
        else:
            cluster = ends.enter_context(Cluster())
            member = InstalledEcsAgent(tmp_path / "agent", settings=cluster.settings())
            ends.enter_context(_cleaned_up(member, docker_client, before))
            ends.callback(cluster.enis.close)
            yield EcsRig(member, cluster)
            assert cluster.problems() == []


@pytest.fixture(scope="session")
def previous_image(docker_client: APIClient) -> Iterator[str]:
    """The image that was there before this one: the same agent, with another version."""
    # without a network: Docker's bridge gets addresses that stay with the first container on it
    alone = ("run", "--network", "none")
    packages = docker(
        *(*alone, "--rm", "--entrypoint", "/usr/lib/berth/venv/bin/python3", IMAGE),
        *("-c", "import agent; print(agent.__path__[0])"),
    )
    assert not re.search(PREVIOUS_VERSION, __version__)
    name = "berth-e2e-previous"
    script = (
        f"sed -i 's/__version__ = .*/__version__ = \"{PREVIOUS_VERSION}\"/' {packages}/__init__.py"
        f" && rm -f {packages}/__pycache__/__init__.*"
    )
    docker(*alone, "--name", name, "--entrypoint", "/bin/sh", IMAGE, "-c", script)
    try:
        docker("commit", "--change", f"LABEL org.opencontainers.image.version={PREVIOUS_VERSION}",
               "--change", 'ENTRYPOINT ["berth"]', "--change", 'CMD ["agent"]', name, PREVIOUS)  # fmt: skip
    finally:
        docker("rm", name)
    try:
        yield PREVIOUS
    finally:
        docker_client.remove_image(PREVIOUS, noprune=True)


@contextlib.contextmanager
def _cleaned_up(agent: InstalledAgent, docker_client: APIClient, before: Things) -> Iterator[InstalledAgent]:
    try:
        yield agent
    finally:
        try:
            sweep(docker_client, agent, before)
        finally:
            agent.uninstall()
        left = Baseline(before).differences(docker_client)
        assert not left, f"left behind: {left}"
