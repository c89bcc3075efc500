"""The agent's container dies, is restarted, stopped, replaced by another version: tasks notice nothing of it."""

import json
from collections.abc import Callable

import pytest

from agent import __version__
from tests.e2e.agent_container import IMAGE, NAME, docker
from tests.e2e.container.conftest import PREVIOUS_VERSION
from tests.e2e.container.installed import InstalledAgent, wait_changed
from tests.e2e.container.rigs import Rig, has_credentials, leases, undisturbed
from tests.e2e.inside import Containers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def _killed(agent: InstalledAgent) -> None:
    # nobody starts it but Docker
    started = agent.state("StartedAt")
    agent.kill()
    wait_changed("Docker starts it again", started, lambda: agent.state("StartedAt"))


def _restarted(_: InstalledAgent) -> None:
    docker("restart", NAME)


def _stopped_and_started(_: InstalledAgent) -> None:
    docker("stop", NAME)
    docker("start", NAME)


@pytest.mark.parametrize("comes_back", [_killed, _restarted, _stopped_and_started])
def test_tasks_do_not_notice_that_the_agents_container_ends_and_starts(
    rig: Rig, containers: Containers, comes_back: Callable[[InstalledAgent], None]
) -> None:
    rig.agent.more = ("--restart=always",)
    rig.agent.start()
    rig.wait_joined(1)
    tasks = rig.run(3)
    held = leases(rig.agent)
    for times in (2, 3):
        pid = rig.agent.pid
        with undisturbed(rig, containers, tasks):
            comes_back(rig.agent)
            rig.wait_joined(times)
            assert rig.agent.pid != pid
        assert leases(rig.agent) == held
    (another,) = rig.run()
    assert another.address not in {task.address for task in tasks}
    assert len(leases(rig.agent)) == len(held) + 1
    rig.stop_tasks()
    assert rig.agent.stop() == 0


def test_an_upgrade_and_its_rollback_leave_running_tasks_alone(
    rig: Rig, containers: Containers, previous_image: str
) -> None:
    rig.agent.image = previous_image
    rig.agent.start()
    rig.wait_joined(1)
    assert _version(rig.agent) == PREVIOUS_VERSION
    tasks = rig.run(3)
    for times, (image, version) in enumerate(((IMAGE, __version__), (previous_image, PREVIOUS_VERSION)), 2):
        held = leases(rig.agent)
        with undisturbed(rig, containers, tasks):
            assert rig.agent.stop() == 0
            rig.agent.remove()
            rig.agent.image = image
            rig.agent.start()
            rig.wait_joined(times)
        assert _version(rig.agent) == version
        assert leases(rig.agent) == held
        # both know the tasks of the other, and start ones that the other will know
        (another,) = rig.run()
        assert has_credentials(containers, another)
        assert another.address not in {task.address for task in tasks}
        tasks.append(another)
    rig.stop_tasks()
    assert rig.agent.stop() == 0


def _version(agent: InstalledAgent) -> str:
    """Of the agent that runs; its image says the same."""
    shown = agent.get("/v1/metadata")[1]["Version"]
    labels = json.loads(docker("inspect", "--format", "{{json .Config.Labels}}", NAME))
    version = labels["org.opencontainers.image.version"]
    assert version in shown, shown
    return str(version)
