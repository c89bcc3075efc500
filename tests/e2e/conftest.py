"""Agents for end-to-end tests: one shared by a module, or one of a test's own; and a machine that stays as it was."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from docker import APIClient
from docker.errors import ImageNotFound

from tests.e2e.agent_process import IS_IN_CONTAINER, TREE, Agent, Untrue, eventually
from tests.e2e.docker_between import DockerBetween
from tests.e2e.inside import Containers
from tests.e2e.surroundings import (
    Baseline,
    Things,
    everything,
    remains_of_tasks,
    reserved_ports,
    sweep,
    tidy,
)

MakeAgent = Callable[..., Agent]

NOT_IN_A_CONTAINER = {
    "test_without_docker_the_agent_stays_says_so_and_runs_its_tasks_when_docker_appears": (
        "the Docker that has started the agent's container is there; without its socket the container is "
        "started wrongly, and says so (tests/deploy/test_start_without.py)"
    ),
}
"""Every test that is left out when the agent is in its container, and why."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what makes no sense in a container."""
    for item in items:
        if IS_IN_CONTAINER and (why := NOT_IN_A_CONTAINER.get(item.name)):
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def docker_client() -> Iterator[APIClient]:
    """The real daemon."""
    client = docker.APIClient(base_url="unix:///var/run/docker.sock", version="auto", timeout=30)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[DockerBetween]:
    """A way to Docker that a test may shut, and open again."""
    between = DockerBetween(tmp_path / "docker.sock")
    try:
        yield between
    finally:
        between.close()


@pytest.fixture(scope="session")
def before(docker_client: APIClient) -> Iterator[Things]:
    """What was on the machine before the first agent; in the end it must be all that is there."""
    assert os.geteuid() == 0, "end-to-end tests need root: make test"
    for needed in ("build/cni/ecs-eni", "build/pause"):
        assert (TREE / needed).exists(), f"{needed} is missing: make build"
    tidy(docker_client)
    found = everything(docker_client)
    with reserved_ports(51670, 51678):
        yield found
    left = Baseline(found).differences(docker_client)
    assert not left, f"the tests left behind: {left}"


@pytest.fixture(scope="session")
def images(docker_client: APIClient) -> Iterator[None]:
    """``nginx:latest`` for unmodified definitions: the demo image, unless there is a real one."""
    try:
        docker_client.inspect_image("nginx:latest")  # type: ignore[no-untyped-call]
    except ImageNotFound:
        docker_client.tag("berth/demo-web:latest", "nginx", "latest")
        try:
            yield
        finally:
            docker_client.remove_image("nginx:latest", noprune=True)
    else:
        yield


@pytest.fixture(scope="session")
def containers(docker_client: APIClient) -> Containers:
    """What runs on the machine, and how to look inside."""
    return Containers(docker_client)


@pytest.fixture(scope="module")
def shared_agent(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    docker_client: APIClient,
    before: Things,
    images: None,
) -> Iterator[Agent]:
    """A running agent for the tests of a module.

    The module may have ``SETTINGS`` (``{place}`` in a value is its directory), and ``prepare(place)``, which is
    called before the start.

    At the end all tasks are stopped, and nothing of them may be left before anything is swept away.
    """
    place = tmp_path_factory.mktemp("agent")
    settings: dict[str, str] = getattr(request.module, "SETTINGS", {})
    shared = Agent(place, settings={name: value.format(place=place) for name, value in settings.items()})
    try:
        getattr(request.module, "prepare", lambda _: None)(place)
        shared.start()
        yield shared
        expect_nothing_left(shared, docker_client, before)
    finally:
        _end(request, shared, docker_client, before)


@pytest.fixture
def agent(shared_agent: Agent) -> Iterator[Agent]:
    """The running agent of the module; what a test leaves running is asked to stop."""
    if not shared_agent.is_running:
        shared_agent.start()
    yield shared_agent
    if shared_agent.is_running:
        shared_agent.stop_tasks(arn for arn in shared_agent.live_arns() if arn not in shared_agent.kept)


@pytest.fixture
def make_agent(
    request: pytest.FixtureRequest, tmp_path: Path, docker_client: APIClient, before: Things, images: None
) -> Iterator[MakeAgent]:
    """Makes agents of the test's own (one at a time); the test starts them."""
    with contextlib.ExitStack() as ends:

        def make(
            *, alteration: str | None = None, environ: dict[str, str] | None = None, **settings: str
        ) -> Agent:
            made = Agent(tmp_path / "agent", alteration=alteration, environ=environ, settings=settings)
            ends.callback(_end, request, made, docker_client, before)
            return made

        yield make


def expect_nothing_left(agent: Agent, docker_client: APIClient, before: Things) -> None:
    """Stop all tasks; then nothing of them may be left, and the agent must end well when it is told to."""
    if not agent.is_running:
        agent.start()
    agent.stop_tasks(agent.live_arns())
    eventually("all tasks are gone", lambda: not agent.get("/berth/v1/tasks")[1]["tasks"], seconds=40)
    try:
        eventually("nothing is left", lambda: not remains_of_tasks(docker_client, agent, before), seconds=15)
    except Untrue:
        raise Untrue(f"left of the tasks: {remains_of_tasks(docker_client, agent, before)}") from None
    assert agent.stop() == 0
    crashes = [line for line in agent.lines() if str(line.get("event", "")).endswith(".crashed")]
    assert not crashes, crashes


def _end(request: pytest.FixtureRequest, agent: Agent, docker_client: APIClient, before: Things) -> None:
    sweep(docker_client, agent, before)
    left = Baseline(before).differences(docker_client)
    keep = os.environ.get("BERTH_E2E_KEEP_LOGS")
    if keep and request.session.testsfailed and agent.log_file.exists():
        shutil.copy(agent.log_file, Path(keep) / f"{request.node.name[:60].replace('/', '-')}.log")
    assert not left, f"left behind: {left}"
