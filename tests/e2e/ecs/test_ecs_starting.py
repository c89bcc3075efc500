"""How an agent joins a cluster: what it sends, as whom, and what can be seen of that on the machine."""

import json
import time

import pytest

from tests.e2e.ecs.cluster import READS_CREDENTIALS, Cluster, EcsAgent, a_task, web
from tests.e2e.ecs.conftest import MakeEcsAgent, connected
from tests.e2e.inside import Containers, parsed
from tests.fakes.ecs.imds import SPOT_ACTION
from tests.fakes.ecs.records import Call
from tests.fakes.ecs.replay import example, same_shape
from tests.fakes.ecs.signatures import KeyPair

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_an_agent_registers_with_what_is_true_of_its_machine(
    own_cluster: Cluster, make_agent: MakeEcsAgent, containers: Containers
) -> None:
    agent = make_agent(ECS_INSTANCE_ATTRIBUTES='{"stack": "e2e"}', ECS_RESERVED_MEMORY="64")
    assert "BERTH_BACKEND" not in agent.settings, "ECS_CLUSTER alone chooses the backend"
    connected(agent, own_cluster)

    sent = registration(own_cluster)
    recorded = example("RegisterContainerInstance", direction="in").body
    # The recorded agent had no metadata service either, so its identity is empty text.
    differences = same_shape({**sent.body, "attributes": []}, {**recorded, "attributes": []})
    assert differences == []
    assert "versionInfo" not in sent.body
    resources = {each["name"]: each for each in sent.body["totalResources"]}
    docker = containers.docker.info()
    assert resources["CPU"]["integerValue"] == docker["NCPU"] * 1024
    assert resources["MEMORY"]["integerValue"] == docker["MemTotal"] // 2**20 - 64
    assert {"22", "2375", "2376", "51678", "51679"} <= set(resources["PORTS"]["stringSetValue"])
    assert resources["PORTS_UDP"]["stringSetValue"] == []
    attributes = {each["name"]: each.get("value") for each in sent.body["attributes"]}
    assert attributes["stack"] == "e2e"
    assert attributes["ecs.os-type"] == "linux"
    assert attributes["ecs.vpc-id"] == own_cluster.metadata.vpc_id
    assert attributes["ecs.subnet-id"] == own_cluster.metadata.subnet_id
    for name in ("task-eni", "container-ordering", "container-health-check", "full-sync"):
        assert f"ecs.capability.{name}" in attributes
    assert "com.amazonaws.ecs.capability.task-iam-role" in attributes
    plugin = json.loads(agent.plugin("ecs-eni", "--version"))
    assert attributes["ecs.capability.cni-plugin-version"] == f"{plugin['gitShortHash']}-{plugin['version']}"
    assert json.loads(sent.body["instanceIdentityDocument"])["instanceId"] == own_cluster.metadata.instance_id
    assert sent.body["instanceIdentityDocumentSignature"]
    for channel, called in (("acs", "clusterArn"), ("tcs", "cluster")):
        query = own_cluster.control.wait_connected(channel).query
        assert query[called] == agent.cluster
        assert docker["ServerVersion"] in query["dockerVersion"]


def test_the_machine_is_known_by_its_arn_where_people_look(
    own_cluster: Cluster, make_agent: MakeEcsAgent, containers: Containers
) -> None:
    agent = make_agent()
    connected(agent, own_cluster)
    arn = own_cluster.control.wait_for_registration().arn

    status, shown = agent.get("/v1/metadata")
    assert (status, shown["Cluster"], shown["ContainerInstanceArn"]) == (200, agent.cluster, arn)
    task = own_cluster.run(a_task(web()))
    assert parsed(containers.run(own_cluster.runtime_id(task), READS_CREDENTIALS))["RoleArn"]
    (line,) = audit_lines(agent)
    words = line.split(" ")
    assert (words[1], words[-4:]) == ("200", ["GetCredentials", "2", agent.cluster, arn])
    assert task.arn in words


def test_without_metadata_service_no_identity_is_sent(own_cluster: Cluster, make_agent: MakeEcsAgent) -> None:
    agent = make_agent(
        BERTH_BACKEND="ecs", AWS_EC2_METADATA_SERVICE_ENDPOINT=None, AWS_EC2_METADATA_DISABLED="true"
    )
    connected(agent, own_cluster)

    sent = registration(own_cluster).body
    assert sent["instanceIdentityDocument"] == sent["instanceIdentityDocumentSignature"] == ""
    assert own_cluster.run(a_task(web())).status == "RUNNING"
    own_cluster.stop_all()
    assert own_cluster.metadata.calls() == []


def test_keys_of_the_instance_role_and_the_region_come_from_the_metadata_service(
    own_cluster: Cluster, make_agent: MakeEcsAgent
) -> None:
    given = own_cluster.metadata.set_role("e2eInstanceRole")
    key_id = given["AccessKeyId"]
    own_cluster.control.keys[key_id] = KeyPair(key_id, given["SecretAccessKey"], given["Token"])
    agent = make_agent(
        AWS_DEFAULT_REGION=None,
        AWS_ACCESS_KEY_ID=None,
        AWS_SECRET_ACCESS_KEY=None,
        AWS_SESSION_TOKEN=None,
    )
    connected(agent, own_cluster)

    assert registration(own_cluster).access_key_id == key_id
    assert own_cluster.run(a_task(web())).status == "RUNNING"


def test_a_start_again_registers_the_same_instance_and_keeps_its_tasks(
    own_cluster: Cluster, make_agent: MakeEcsAgent, containers: Containers
) -> None:
    agent = make_agent(ECS_INSTANCE_ATTRIBUTES='{"stack": "e2e"}')
    connected(agent, own_cluster)
    task = own_cluster.run(a_task(web()))
    before = containers.identities([task.arn])
    assert agent.stop() == 0
    connected(agent, own_cluster, times=2)

    first, second = own_cluster.control.calls("RegisterContainerInstance")
    assert "containerInstanceArn" not in first.body
    assert second.body["containerInstanceArn"] == own_cluster.control.wait_for_registration(2).arn
    assert "stack" not in {each["name"] for each in second.body["attributes"]}
    assert containers.identities([task.arn]) == before
    assert [each["status"] for each in task.reports] == ["RUNNING"], "it is told once"
    own_cluster.stop_all()
    assert task.status == "STOPPED"


def test_a_spot_notice_drains_the_machine_and_its_tasks_stop_when_the_cluster_says_so(
    own_cluster: Cluster, make_agent: MakeEcsAgent
) -> None:
    agent = make_agent(ECS_ENABLE_SPOT_INSTANCE_DRAINING="true")
    connected(agent, own_cluster)
    control = own_cluster.control
    tasks = own_cluster.run_all([a_task(web())] * 2)
    assert control.calls("UpdateContainerInstancesState") == []

    own_cluster.metadata.interrupt()
    instance = control.wait_for_registration()
    control.wait_for(lambda: instance.status == "DRAINING", 10, "DRAINING")
    (asked,) = control.calls("UpdateContainerInstancesState")
    assert asked.body == {
        "cluster": agent.cluster,
        "containerInstances": [instance.arn],
        "status": "DRAINING",
    }
    assert [task.status for task in tasks] == ["RUNNING", "RUNNING"], "the agent itself stops nothing"
    looked = len(own_cluster.metadata.calls(SPOT_ACTION))
    own_cluster.stop_all()
    assert [task.status for task in tasks] == ["STOPPED", "STOPPED"]
    assert len(control.calls("UpdateContainerInstancesState")) == 1
    assert len(own_cluster.metadata.calls(SPOT_ACTION)) == looked, "it knows, and does not ask any more"


def test_without_metrics_none_are_sent(own_cluster: Cluster, make_agent: MakeEcsAgent) -> None:
    agent = make_agent(ECS_DISABLE_METRICS="true")
    connected(agent, own_cluster)
    own_cluster.control.wait_connected("tcs")
    own_cluster.run(a_task(web()))

    time.sleep(2)  # the first ones are sent as soon as the channel is connected
    assert own_cluster.control.messages("tcs", "PublishMetricsRequest") == []
    own_cluster.stop_all()


def test_without_metrics_and_health_there_is_no_telemetry_channel(
    own_cluster: Cluster, make_agent: MakeEcsAgent
) -> None:
    agent = make_agent(ECS_DISABLE_METRICS="true", ECS_DISABLE_DOCKER_HEALTH_CHECK="true")
    connected(agent, own_cluster)
    own_cluster.run(a_task(web()))

    assert own_cluster.control.handshakes("tcs") == []
    assert [each["name"] for each in agent.get("/health")[1]["channels"]] == ["control"]
    (sent,) = own_cluster.control.calls("RegisterContainerInstance")
    assert "ecs.capability.container-health-check" not in {each["name"] for each in sent.body["attributes"]}
    own_cluster.stop_all()


def registration(cluster: Cluster) -> Call:
    cluster.control.wait_for_registration()
    return cluster.control.calls("RegisterContainerInstance")[-1]


def audit_lines(agent: EcsAgent) -> list[str]:
    """The lines of the audit log, without those of other files beside it."""
    found = [
        line for file in sorted(agent.place.rglob("audit.log*")) for line in file.read_text().splitlines()
    ]
    assert found, f"no audit log below {agent.place}"
    return found
