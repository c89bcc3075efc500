"""The machine is switched off and on: Docker brings the agent back, and what its tasks left is cleaned up and told."""

import pytest

from tests.e2e.agent_process import eventually
from tests.e2e.container.reboot import reboot
from tests.e2e.container.rigs import EcsRig, Rig, has_credentials, leases
from tests.e2e.inside import Containers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_after_a_reboot_old_tasks_are_told_as_stopped_and_new_ones_run(
    rig: Rig, containers: Containers
) -> None:
    rig.agent.more = ("--restart=always",)
    rig.agent.start()
    rig.wait_joined(1)
    tasks = rig.run(2)
    reboot()
    rig.wait_joined(2)

    for task in tasks:
        if isinstance(rig, EcsRig):
            rig.cluster.control.wait_status(task.arn, "STOPPED", 40)
        else:
            assert rig.agent.stopped(task.arn, seconds=40).container("app")["lastStatus"] == "STOPPED"
    eventually(
        "the old ones are gone", lambda: not any(containers.of(task.arn) for task in tasks), seconds=40
    )
    again = rig.run(2)
    assert all(has_credentials(containers, task) for task in again)
    assert len(leases(rig.agent)) == 2
    rig.stop_tasks()
    assert rig.agent.stop() == 0
