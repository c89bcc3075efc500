"""Agents of a cluster: one shared by a module, or one of a test's own with a cluster of its own."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import APIClient

from tests.e2e.agent_process import Untrue, eventually
from tests.e2e.ecs.cluster import Cluster, EcsAgent
from tests.e2e.surroundings import Baseline, Things, remains_of_tasks, sweep
from tests.fakes.ecs.control_plane import ControlPlane
from tests.fakes.ecs.imds import InstanceMetadataStandIn
from tests.fakes.ecs.links import EniLinks

MakeEcsAgent = Callable[..., EcsAgent]


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Cluster]:
    """The cluster of the module's shared agent."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def shared_agent(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    docker_client: APIClient,
    before: Things,
    shared_cluster: Cluster,
) -> Iterator[EcsAgent]:
    """A running agent of the module's cluster; the module may have ``SETTINGS``.

    At the end all tasks are stopped; nothing of them may be left, and nothing may have been wrong on the wire.
    """
    place = tmp_path_factory.mktemp("agent")
    settings: dict[str, str] = getattr(request.module, "SETTINGS", {})
    shared = EcsAgent(place, settings=shared_cluster.settings() | settings)
    try:
        connected(shared, shared_cluster)
        yield shared
        expect_nothing_left(shared, shared_cluster, docker_client, before)
    finally:
        _end(request, shared, shared_cluster, docker_client, before)


@pytest.fixture
def cluster(shared_cluster: Cluster, shared_agent: EcsAgent) -> Iterator[Cluster]:
    """The cluster of the shared agent, connected. What a test leaves running is stopped after it."""
    if not shared_agent.is_running:
        connected(shared_agent, shared_cluster)
    yield shared_cluster
    shared_cluster.stop_all()
    assert shared_cluster.problems() == []


@pytest.fixture
def agent(cluster: Cluster, shared_agent: EcsAgent) -> EcsAgent:
    """The running agent of the module."""
    return shared_agent


@pytest.fixture
def control(cluster: Cluster) -> ControlPlane:
    """The control plane of the shared agent."""
    return cluster.control


@pytest.fixture
def metadata(cluster: Cluster) -> InstanceMetadataStandIn:
    """The instance metadata of the shared agent."""
    return cluster.metadata


@pytest.fixture
def enis(cluster: Cluster) -> EniLinks:
    """The subnet of the shared agent's tasks."""
    return cluster.enis


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A cluster of the test's own; nothing may be wrong on the wire but what the test ``expects``."""
    with Cluster() as cluster:
        yield cluster
        assert cluster.problems() == []


@pytest.fixture
def make_agent(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    docker_client: APIClient,
    before: Things,
    own_cluster: Cluster,
) -> Iterator[MakeEcsAgent]:
    """Makes agents of the test's own (one at a time) for ``own_cluster``; the test starts them.

    Settings are given by name; None leaves one out. After the test everything of the agent is swept away, and
    the machine must be as it was.
    """
    with contextlib.ExitStack() as ends:

        def make(
            *,
            alteration: str | None = None,
            environ: dict[str, str] | None = None,
            **settings: str | None,
        ) -> EcsAgent:
            wanted = own_cluster.settings() | settings
            made = EcsAgent(
                tmp_path / "agent",
                alteration=alteration,
                environ=environ,
                settings={name: value for name, value in wanted.items() if value is not None},
            )
            ends.callback(_end, request, made, own_cluster, docker_client, before)
            return made

        yield make


def connected(agent: EcsAgent, cluster: Cluster, *, times: int | None = None) -> None:
    """Start the agent; its control channel is connected. ``times``: so often in all; None: once more."""
    before = sum(each.connection is not None for each in cluster.control.handshakes("acs"))
    agent.start()
    cluster.control.wait_connected("acs", times=before + 1 if times is None else times)


def expect_nothing_left(agent: EcsAgent, cluster: Cluster, docker_client: APIClient, before: Things) -> None:
    """Stop all tasks; then nothing of them may be left, and the agent must end well when it is told to."""
    if not agent.is_running:
        connected(agent, cluster)
    cluster.stop_all(kept_too=True)
    eventually("all tasks are gone", lambda: not agent.get("/berth/v1/tasks")[1]["tasks"], seconds=40)
    try:
        eventually("nothing is left", lambda: not remains_of_tasks(docker_client, agent, before), seconds=15)
    except Untrue:
        raise Untrue(f"left of the tasks: {remains_of_tasks(docker_client, agent, before)}") from None
    assert cluster.owed() == []
    assert agent.stop() == 0
    assert cluster.problems() == []
    crashes = [line for line in agent.lines() if str(line.get("event", "")).endswith(".crashed")]
    assert not crashes, crashes


def _end(
    request: pytest.FixtureRequest,
    agent: EcsAgent,
    cluster: Cluster,
    docker_client: APIClient,
    before: Things,
) -> None:
    sweep(docker_client, agent, before)
    cluster.enis.close()
    left = Baseline(before).differences(docker_client)
    keep = os.environ.get("BERTH_E2E_KEEP_LOGS")
    if keep and request.session.testsfailed and agent.log_file.exists():
        shutil.copy(agent.log_file, Path(keep) / f"{request.node.name[:60].replace('/', '-')}.log")
    assert not left, f"left behind: {left}"
