"""A cluster that this machine does not trust, and a clock that is wrong."""

import pytest

from tests.e2e.agent_process import eventually
from tests.e2e.ecs.cluster import Cluster, a_task, web
from tests.e2e.ecs.conftest import MakeEcsAgent, connected
from tests.e2e.inside import Containers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(
    own_cluster: Cluster, make_agent: MakeEcsAgent, containers: Containers
) -> None:
    control, agent = own_cluster.control, make_agent(BERTH_TLS_VERIFY="true")
    assert agent.ends() == 1
    (line,) = agent.said("agent.failed")
    assert "certificate is not trusted" in line["reason"]
    assert control.host in line["reason"]
    assert control.calls() == []  # nothing was said to a stranger

    # A machine that is known already goes on with its tasks, and tries again.
    agent.settings["BERTH_TLS_VERIFY"] = "false"
    connected(agent, own_cluster)
    task = own_cluster.run(a_task(web()))
    identities = containers.identities([task.arn])
    assert agent.stop() == 0
    calls, shakes = len(control.calls()), len(control.handshakes())
    agent.settings["BERTH_TLS_VERIFY"] = "true"
    agent.start()
    eventually("it says why it waits", lambda: agent.said("registration.postponed"))
    postponed = agent.said("registration.postponed")[0]
    assert "certificate is not trusted" in postponed["problem"]
    assert postponed["seconds"] >= 3
    eventually("its task is known", lambda: (agent.inner(task.arn) or {}).get("status") == "RUNNING")
    assert (len(control.calls()), len(control.handshakes())) == (calls, shakes)
    assert containers.identities([task.arn]) == identities
    assert agent.stop() == 0
    agent.settings["BERTH_TLS_VERIFY"] = "false"
    connected(agent, own_cluster)
    own_cluster.stop_all()


@pytest.mark.parametrize("skew_s", [600.0, -600.0], ids=["behind", "ahead"])
def test_a_clock_that_is_ten_minutes_wrong_is_found_out(
    own_cluster: Cluster, make_agent: MakeEcsAgent, skew_s: float
) -> None:
    control, agent = own_cluster.control, make_agent()
    own_cluster.expects("Signature", "skew", "expired", "Expired")
    control.skew_s = skew_s
    connected(agent, own_cluster)
    control.wait_connected("tcs")
    task = own_cluster.run(a_task(web()))
    first_refused = control.calls("RegisterContainerInstance")[0]
    assert first_refused.status == 400
    assert len(control.journal.refusals) == 1, (
        control.journal.refusals
    )  # once is enough for all that is signed
    control.stop_task(task.arn, wait=True)
    # ... and while it runs: the clock is put right
    control.skew_s = 0.0
    again = own_cluster.run(a_task(web()))
    assert again.status == "RUNNING"
    own_cluster.stop_all()
