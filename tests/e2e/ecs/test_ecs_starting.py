"""How an agent joins a cluster, and what can be seen of that."""

import pytest

from tests.e2e.ecs.cluster import Cluster, a_task, web
from tests.e2e.ecs.conftest import MakeEcsAgent, connected

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_ecs_cluster_alone_chooses_the_cluster(own_cluster: Cluster, make_agent: MakeEcsAgent) -> None:
    agent = make_agent()
    assert "BERTH_BACKEND" not in agent.settings
    connected(agent, own_cluster)
    task = own_cluster.run(a_task(web()))
    own_cluster.stop_all()
    assert task.status == "STOPPED"
    assert agent.stop() == 0
