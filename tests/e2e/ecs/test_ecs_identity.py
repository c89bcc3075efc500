"""Who this machine is, and with which code an agent ends that cannot join its cluster."""

import json

import pytest

from tests.e2e.agent_process import eventually
from tests.e2e.ecs.cluster import Cluster, EcsAgent, a_task, job, web
from tests.e2e.ecs.conftest import MakeEcsAgent, connected
from tests.e2e.inside import Containers
from tests.fakes.ecs.faults import Fault, refused, throttled
from tests.fakes.ecs.imds import DOCUMENT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

REGISTER = "RegisterContainerInstance"
RETRIABLE, TERMINAL = 1, 5


def failed(agent: EcsAgent) -> tuple[int, str]:
    """How it ends when it is started, and what it says last. It never ends with a trace."""
    code = agent.ends()
    assert "Traceback" not in agent.log_file.read_text()
    return code, str(agent.said("agent.failed")[-1]["reason"])


# -- refused -----------------------------------------------------------------------------------


def test_a_registration_that_would_fail_again_ends_the_agent_for_good(
    own_cluster: Cluster, make_agent: MakeEcsAgent
) -> None:
    control, agent = own_cluster.control, make_agent()
    for code in ("ClientException", "InvalidParameterException"):
        control.faults.plan(REGISTER, refused(code, "the machine is not welcome"))
        assert failed(agent) == (
            TERMINAL,
            f"cannot register in cluster {agent.cluster}: Amazon ECS said {code}: the machine is not welcome",
        )
    control.api.echo = lambda sent: [each for each in sent if each["name"] != "ecs.os-type"]
    code, reason = failed(agent)
    assert code == TERMINAL
    assert reason.startswith("Attribute validation failed")
    assert "ecs.os-type" in reason
    control.api.echo = list
    connected(agent, own_cluster)
    assert agent.stop() == 0


@pytest.mark.parametrize(
    "fault", [refused("AccessDeniedException", "User is not authorized to perform that"), None]
)
def test_a_first_registration_that_may_succeed_later_ends_the_agent_for_now(
    own_cluster: Cluster, make_agent: MakeEcsAgent, fault: Fault | None
) -> None:
    control, agent = own_cluster.control, make_agent()
    if fault is None:
        with control.unreachable():
            code, reason = failed(agent)
        assert "cannot connect" in reason
    else:
        control.faults.plan(REGISTER, fault)
        code, reason = failed(agent)
        assert "AccessDeniedException: User is not authorized" in reason
    assert code == RETRIABLE
    connected(agent, own_cluster)


def test_throttling_at_the_registration_is_waited_out(own_cluster: Cluster, make_agent: MakeEcsAgent) -> None:
    control, agent = own_cluster.control, make_agent()
    control.faults.plan(REGISTER, throttled(), times=4)
    connected(agent, own_cluster)
    assert len(control.calls(REGISTER)) == 5
    assert len({call.body["clientToken"] for call in control.calls(REGISTER)}) == 1
    assert agent.said("registration.postponed")


# -- which cluster -----------------------------------------------------------------------------


def test_a_machine_of_another_cluster_is_told_apart(own_cluster: Cluster, make_agent: MakeEcsAgent) -> None:
    agent = make_agent()
    connected(agent, own_cluster)
    assert agent.stop() == 0
    right = agent.settings["ECS_CLUSTER"]
    agent.settings["ECS_CLUSTER"] = "elsewhere"
    code, reason = failed(agent)
    assert code == TERMINAL
    assert reason == (
        f"Data mismatch; saved cluster '{right}' does not match configured cluster 'elsewhere'. "
        "Perhaps you want to delete the configured checkpoint file?"
    )
    # without a name the saved one holds
    del agent.settings["ECS_CLUSTER"]
    agent.settings["BERTH_BACKEND"] = "ecs"
    connected(agent, own_cluster)
    found = own_cluster.control.wait_for_registration(2)
    assert found.registrations == 2


def test_no_cluster_is_joined_that_was_not_named(own_cluster: Cluster, make_agent: MakeEcsAgent) -> None:
    control, agent = own_cluster.control, make_agent()
    del agent.settings["ECS_CLUSTER"]
    agent.settings["BERTH_BACKEND"] = "ecs"
    code, reason = failed(agent)
    assert code == RETRIABLE
    assert "set ECS_CLUSTER" in reason
    assert control.calls() == []

    agent.settings["ECS_CLUSTER"] = "nowhere"
    code, reason = failed(agent)
    assert code == RETRIABLE
    assert "cannot register in cluster nowhere: Amazon ECS said ClusterNotFoundException" in reason
    assert control.calls("CreateCluster") == []


def test_the_default_cluster_is_made_if_it_is_named_and_missing(
    own_cluster: Cluster, make_agent: MakeEcsAgent
) -> None:
    control, agent = own_cluster.control, make_agent(ECS_CLUSTER="default")
    connected(agent, own_cluster)
    (call,) = control.calls("CreateCluster")
    assert call.body == {"clusterName": "default"}
    assert [each.body["cluster"] for each in control.calls(REGISTER)] == ["default", "default"]


# -- which machine -----------------------------------------------------------------------------


def test_a_region_that_nobody_names_is_asked_for(own_cluster: Cluster, make_agent: MakeEcsAgent) -> None:
    agent = make_agent(
        AWS_DEFAULT_REGION=None, AWS_EC2_METADATA_SERVICE_ENDPOINT=None, AWS_EC2_METADATA_DISABLED="true"
    )
    code, reason = failed(agent)
    assert code == RETRIABLE
    assert reason.startswith("Missing required fields: AWSRegion. Set AWS_DEFAULT_REGION")


def test_another_machine_forgets_what_it_was(own_cluster: Cluster, make_agent: MakeEcsAgent) -> None:
    control, agent = own_cluster.control, make_agent()
    connected(agent, own_cluster)
    first = control.wait_for_registration().arn
    task = own_cluster.run(a_task(web()))
    assert agent.stop() == 0
    metadata = own_cluster.metadata
    metadata.instance_id = "i-0fk00000000000002"
    metadata.set(DOCUMENT, json.dumps(metadata.identity_document()))
    metadata.set("meta-data/instance-id", metadata.instance_id)

    connected(agent, own_cluster)
    found = control.wait_for(lambda: (x := control.instance) is not None and x.arn != first and x)
    assert "containerInstanceArn" not in control.calls(REGISTER)[-1].body
    assert json.loads(found.identity_document)["instanceId"] == "i-0fk00000000000002"
    assert agent.inner(task.arn) is None
    assert not [file for file in (agent.data / "ecs").rglob("*") if task.arn.rpartition("/")[2] in file.name]
    (said,) = agent.said("instance.replaced")
    assert (said["saved"], said["current"]) == ("i-0fk00000000000001", "i-0fk00000000000002")


def test_a_registration_whose_answer_never_came_is_made_again(
    own_cluster: Cluster, make_agent: MakeEcsAgent
) -> None:
    control, agent = own_cluster.control, make_agent()
    control.faults.plan(REGISTER, Fault("slow", delay_s=5))
    agent.launch()
    control.wait_for(lambda: control.calls(REGISTER), what="a registration")
    agent.kill()
    connected(agent, own_cluster)
    first, second = control.calls(REGISTER)
    assert "containerInstanceArn" not in first.body
    assert "containerInstanceArn" not in second.body
    assert first.body["clientToken"] != second.body["clientToken"]
    arn = control.wait_for_registration().arn

    agent.kill()  # from now on the instance is known
    connected(agent, own_cluster)
    assert control.wait_for_registration(2).arn == arn


# -- away, inactive ----------------------------------------------------------------------------


def test_a_known_machine_looks_after_its_tasks_until_it_can_register_again(
    own_cluster: Cluster, make_agent: MakeEcsAgent, containers: Containers
) -> None:
    control, agent = own_cluster.control, make_agent()
    connected(agent, own_cluster)
    staying, leaving = own_cluster.run_all(
        [a_task(web()), a_task(job("trap 'exit 7' TERM; sleep 60 & wait"))]
    )
    identities = containers.identities([staying.arn])
    agent.kill()
    with control.unreachable():
        agent.start()
        eventually("both tasks are known", lambda: len(agent.get("/berth/v1/tasks")[1]["tasks"]) == 2)
        containers.kill(own_cluster.runtime_id(leaving), "TERM")
        eventually(
            "the agent has seen the end",
            lambda: agent.inner_container(leaving.arn, "app")["status"] == "STOPPED",
        )
        eventually("it tries", lambda: agent.said("registration.postponed"))
        assert agent.is_running
        assert leaving.status == "RUNNING"
    control.wait_for_registration(2, 30)
    control.wait_status(leaving.arn, "STOPPED")
    assert leaving.containers["app"].exit_code == 7
    assert containers.identities([staying.arn]) == identities
    control.wait_connected()
    own_cluster.stop_all()


def test_an_inactive_machine_keeps_calm_and_says_so(
    own_cluster: Cluster, make_agent: MakeEcsAgent, containers: Containers
) -> None:
    control, agent = own_cluster.control, make_agent()
    connected(agent, own_cluster)
    task = own_cluster.run(a_task(web()))
    identities = containers.identities([task.arn])
    control.deregister()
    eventually("its health says so", lambda: "Inactive" in agent.impaired().get("control channel", ""))
    shakes = len(control.handshakes("acs"))
    channel = next(each for each in agent.get("/health")[1]["channels"] if each["name"] == "control")
    assert channel["state"].lower() == "inactive"
    (refusal,) = [line for line in agent.said("channel.refused") if line["channel"] == "control"]
    assert refusal["retry_in"] == pytest.approx(3600)
    eventually("telemetry has ended", lambda: control.tcs.side.connection is None, seconds=10)
    assert len(control.handshakes("acs")) == shakes
    assert containers.identities([task.arn]) == identities
    assert agent.is_running
    assert len(control.calls(REGISTER)) == 1  # it does not register by itself

    assert agent.stop() == 0
    connected(agent, own_cluster)
    assert control.wait_for_registration(2).status == "ACTIVE"
    own_cluster.stop_all()
