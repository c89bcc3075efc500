"""Many tasks at once."""

from typing import Any

import pytest

from tests.e2e.ecs.cluster import Cluster, EcsAgent, a_task, address, web
from tests.fakes.ecs.control_plane import ControlPlane

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

COUNT = 20


@pytest.mark.parametrize("in_one_payload", [True, False], ids=["in one payload", "in twenty payloads"])
def test_twenty_tasks_start_at_once_and_stop_at_once(
    agent: EcsAgent, cluster: Cluster, control: ControlPlane, in_one_payload: bool
) -> None:
    tasks = cluster.run_all([a_task(web())] * COUNT, in_one_payload=in_one_payload, seconds=60)

    assert len({address(task) for task in tasks}) == COUNT
    assert len({cluster.runtime_id(task) for task in tasks}) == COUNT
    cluster.stop_all()
    for task in tasks:
        bodies = [body for _, body in task.history if not is_container_news(body)]
        told = [body.get("status", "ATTACHED") for body in bodies]
        assert told == ["ATTACHED", "RUNNING", "STOPPED"], (task.arn, told)
        assert task.containers["web"].exit_code == 0
    control.wait_for(lambda: not control.unacked(), 10, "everything acknowledged")
    assert agent.impaired() == {}


def is_container_news(body: dict[str, Any]) -> bool:
    """On a slow machine a container's end is told before that of its task: what is held is told now and then."""
    statuses = {each["status"] for each in body.get("containers", ())}
    return body.get("status") == "RUNNING" and statuses == {"STOPPED"}
