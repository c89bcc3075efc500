"""What fits on this machine, and how it is told that something does not."""

import asyncio

import pytest
from botocore.exceptions import ClientError

from agent.adapters.clock import SystemClock
from agent.adapters.local.vpc.plan import SubnetPlan, VpcPlan
from agent.model.status import TaskStatus
from tests.agent.adapters.local.stage import NGINX, SUBNET, in_subnet, running

SMALL = VpcPlan("vpc-1", "10.9.0.0/24", (SubnetPlan("subnet-small", "us-east-1a", "10.9.0.0/28"),))


def refusal(error) -> tuple[str, str]:
    found = error.value.response["Error"]
    return found["Code"], found["Message"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"memory": 1100}, "RESOURCE:MEMORY"),
        ({"cpu": 250}, "RESOURCE:CPU"),
        ({"interfaces": 2}, "RESOURCE:ENI"),
    ],
)
async def test_what_does_not_fit_is_a_failure_and_what_fits_runs(tmp_path, options, reason):
    async with running(tmp_path, SystemClock(), **options) as stage:
        await stage.register()
        answer = await stage.run(count=3)
        assert len(answer["tasks"]) == 2
        (failure,) = answer["failures"]
        assert failure["reason"] == reason
        assert failure["arn"] == answer["tasks"][0]["containerInstanceArn"]


async def test_a_client_token_of_a_launch_that_placed_nothing_may_be_used_again(tmp_path):
    async with running(tmp_path, SystemClock(), memory=600) as stage:
        await stage.register()
        task = await stage.run_one()
        for _ in range(2):
            again = await stage.run(clientToken="once")
            assert [one["reason"] for one in again["failures"]] == ["RESOURCE:MEMORY"]
        await stage.report(task["taskArn"], TaskStatus.STOPPED, exit_code=0)
        assert len((await stage.run(clientToken="once"))["tasks"]) == 1


async def test_a_stopped_task_gives_back_what_it_took(tmp_path):
    async with running(tmp_path, SystemClock(), memory=600) as stage:
        await stage.register()
        first = await stage.run_one()
        assert (await stage.run())["failures"][0]["reason"] == "RESOURCE:MEMORY"
        await stage.report(first["taskArn"], TaskStatus.STOPPED, exit_code=0)
        await stage.run_one()


async def test_a_full_subnet_is_a_failure_until_addresses_have_rested(tmp_path):
    async with running(tmp_path, SystemClock(), plan=SMALL) as stage:
        await stage.register()
        tasks = []
        network = in_subnet("subnet-small")
        for _ in range(10):  # sixteen less Amazon's five and the machine's own
            answer = await stage.ecs(
                "run_task",
                taskDefinition="nginx-awsvpc",
                networkConfiguration=network,
                overrides={"containerOverrides": [{"name": "nginx", "memory": 6, "cpu": 1}]},
            )
            tasks += answer["tasks"]
        addresses = [one["containers"][0]["networkInterfaces"][0]["privateIpv4Address"] for one in tasks]
        assert len(set(addresses)) == 10
        assert "10.9.0.4" not in addresses
        await stage.report(tasks[0]["taskArn"], TaskStatus.STOPPED, exit_code=0)
        await stage.eventually(tasks[0]["taskArn"], "STOPPED")
        answer = await stage.ecs("run_task", taskDefinition="nginx-awsvpc", networkConfiguration=network)
        assert answer["failures"][0]["reason"] == "RESOURCE:ENI"


async def test_a_draining_machine_takes_no_new_tasks_and_keeps_those_it_has(stage):
    await stage.register()
    task = await stage.run_one()
    machine = task["containerInstanceArn"]
    updated = await stage.ecs(
        "update_container_instances_state", containerInstances=[machine, "0" * 32], status="DRAINING"
    )
    assert updated["containerInstances"][0]["status"] == "DRAINING"
    assert [one["reason"] for one in updated["failures"]] == ["MISSING"]
    with pytest.raises(ClientError) as refused:
        await stage.run()
    assert refusal(refused) == (
        "InvalidParameterException",
        "No Container Instances were found in your cluster.",
    )
    assert (await stage.describe(task["taskArn"]))["desiredStatus"] == "RUNNING"
    assert (await stage.ecs("list_container_instances", status="ACTIVE"))["containerInstanceArns"] == []
    await stage.ecs("update_container_instances_state", containerInstances=[machine], status="ACTIVE")
    await stage.run_one()


async def test_start_task_places_on_this_machine_and_names_others_as_missing(stage):
    await stage.register()
    (machine,) = (await stage.ecs("list_container_instances"))["containerInstanceArns"]
    answer = await stage.ecs(
        "start_task",
        taskDefinition="nginx-awsvpc",
        containerInstances=[machine, "1" * 32],
        networkConfiguration=in_subnet(),
    )
    assert len(answer["tasks"]) == 1
    assert [one["reason"] for one in answer["failures"]] == ["MISSING"]


async def test_another_cluster_has_no_machine(stage):
    await stage.register()
    created = await stage.ecs("create_cluster", clusterName="empty", tags=[{"key": "a", "value": "b"}])
    assert created["cluster"]["registeredContainerInstancesCount"] == 0
    assert created["cluster"]["tags"] == [{"key": "a", "value": "b"}]
    assert (await stage.ecs("list_container_instances", cluster="empty"))["containerInstanceArns"] == []
    with pytest.raises(ClientError) as refused:
        await stage.run(cluster="empty")
    assert refusal(refused)[1] == "No Container Instances were found in your cluster."
    described = await stage.ecs("describe_clusters", clusters=["empty", "default", "none"])
    assert {one["clusterName"] for one in described["clusters"]} == {"empty", "default"}
    assert [one["reason"] for one in described["failures"]] == ["MISSING"]


async def test_a_task_is_not_placed_when_the_agent_has_gone(stage):
    await stage.register()
    await stage.run_one()
    stage.agent.cancel()
    await asyncio.wait([stage.agent])
    assert (await stage.run())["failures"][0]["reason"] == "AGENT"
    (machine,) = (await stage.ecs("list_container_instances"))["containerInstanceArns"]
    shown = await stage.ecs("describe_container_instances", containerInstances=[machine])
    assert shown["containerInstances"][0]["agentConnected"] is False


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"launchType": "FARGATE"}, "launchType 'FARGATE': not supported here"),
        ({"count": 11}, "count 11: expected 1 to 10"),
        ({"enableExecuteCommand": True}, "enableExecuteCommand: not supported"),
        ({"platformVersion": "LATEST"}, "platformVersion: not supported"),
        ({"placementConstraints": [{"type": "distinctInstance"}]}, "placementConstraints: not supported"),
        (
            {"capacityProviderStrategy": [{"capacityProvider": "x"}]},
            "capacityProviderStrategy: not supported",
        ),
        ({"group": "service:x"}, "group 'service:x'"),
        ({"propagateTags": "SERVICE"}, "propagateTags 'SERVICE'"),
        ({"startedBy": "x" * 129}, "startedBy: expected at most 128"),
        ({"tags": [{"key": "aws:x", "value": ""}]}, "tags[0].key 'aws:x'"),
        (
            {"overrides": {"containerOverrides": [{"name": "x"}]}},
            "Override for container named x is not a container",
        ),
        ({"overrides": {"cpu": "lots"}}, "overrides.cpu 'lots'"),
        ({"overrides": {"ephemeralStorage": {"sizeInGiB": 30}}}, "overrides.ephemeralStorage: not supported"),
        (
            {"overrides": {"containerOverrides": [{"name": "nginx", "memory": 1}]}},
            "memory 1: expected at least 6",
        ),
        ({"networkConfiguration": {}}, "Network Configuration must be provided"),
        ({"networkConfiguration": in_subnet("subnet-x")}, "The subnet ID 'subnet-x' does not exist"),
        (
            {
                "networkConfiguration": {
                    "awsvpcConfiguration": {"subnets": [SUBNET], "assignPublicIp": "ENABLED"}
                }
            },
            "Assign public IP is not supported",
        ),
        (
            {
                "networkConfiguration": {
                    "awsvpcConfiguration": {"subnets": [SUBNET], "securityGroups": ["web"]}
                }
            },
            "securityGroups 'web'",
        ),
    ],
)
async def test_what_cannot_be_run_is_refused_by_name(stage, wanted, sentence):
    await stage.register()
    with pytest.raises(ClientError) as refused:
        await stage.ecs(
            "run_task", **{"taskDefinition": "nginx-awsvpc", "networkConfiguration": in_subnet(), **wanted}
        )
    assert refusal(refused)[0] == "InvalidParameterException"
    assert sentence in refusal(refused)[1]
    assert (await stage.ecs("list_tasks"))["taskArns"] == []


async def test_only_active_definitions_are_run_and_revisions_are_never_given_twice(stage):
    first, second = await stage.register(), await stage.register()
    await stage.ecs("deregister_task_definition", taskDefinition=second)
    task = await stage.run_one()
    assert task["taskDefinitionArn"] == first
    with pytest.raises(ClientError) as refused:
        await stage.run(second)
    assert refusal(refused)[0] == "ClientException"
    assert "inactive" in refusal(refused)[1]
    assert (await stage.register()).endswith(":3")
    described = await stage.ecs("describe_task_definition", taskDefinition="nginx-awsvpc:2")
    assert described["taskDefinition"]["status"] == "INACTIVE"
    assert described["taskDefinition"]["deregisteredAt"]
    inactive = await stage.ecs("list_task_definitions", status="INACTIVE")
    assert inactive["taskDefinitionArns"] == [second]
    with pytest.raises(ClientError, match="is inactive"):
        await stage.ecs("deregister_task_definition", taskDefinition=second)


async def test_families_are_listed_by_their_state(stage):
    await stage.register()
    await stage.ecs(
        "deregister_task_definition", taskDefinition=await stage.register({**NGINX, "family": "old"})
    )

    async def families(**wanted):
        return (await stage.ecs("list_task_definition_families", **wanted))["families"]

    assert await families() == ["nginx-awsvpc"]
    assert await families(status="INACTIVE") == ["old"]
    assert await families(status="ALL", familyPrefix="o") == ["old"]


async def test_the_machine_shows_its_resources_attributes_and_counts(stage):
    await stage.register()
    task = await stage.run_one()
    await stage.eventually(task["taskArn"], "PENDING")
    machine = task["containerInstanceArn"].rsplit("/", 1)[1]
    answer = await stage.ecs("describe_container_instances", containerInstances=[machine], include=["TAGS"])
    instance = answer["containerInstances"][0]
    left = {one["name"]: one["integerValue"] for one in instance["remainingResources"]}
    assert (left["CPU"], left["MEMORY"]) == (2048 - 100, 4096 - 512)
    attributes = {one["name"]: one.get("value") for one in instance["attributes"]}
    assert attributes["ecs.subnet-id"] == SUBNET
    assert attributes["ecs.availability-zone"] == "us-east-1a"
    assert attributes["ecs.vpc-id"].startswith("vpc-")
    assert attributes["ecs.os-type"] == "linux"
    assert "ecs.capability.task-eni" in attributes
    assert (instance["pendingTasksCount"], instance["runningTasksCount"]) == (1, 0)
    assert instance["status"] == "ACTIVE"
    assert instance["versionInfo"]["agentVersion"] == "0.0.1"
    cluster = (await stage.ecs("describe_clusters"))["clusters"][0]
    assert (cluster["pendingTasksCount"], cluster["registeredContainerInstancesCount"]) == (1, 1)


async def test_a_login_in_secrets_manager_needs_a_machine_whose_roles_have_credentials(tmp_path):
    credentials = {"repositoryCredentials": {"credentialsParameter": "registry/web"}}
    private = {
        **NGINX,
        "executionRoleArn": "arn:aws:iam::111122223333:role/pull",
        "containerDefinitions": [{**NGINX["containerDefinitions"][0], **credentials}],
    }
    async with running(tmp_path, SystemClock()) as stage:
        with pytest.raises(ClientError) as refused:
            await stage.register(private)
        assert refusal(refused)[0] == "ClientException"
        assert "BERTH_CREDENTIALS_SOURCE=sts" in refusal(refused)[1]
    async with running(tmp_path, SystemClock(), has_role_credentials=True) as stage:
        await stage.register(private)
        task = await stage.run_one()
        spec = (await stage.wanted(task["taskArn"])).spec
        assert spec.containers[0].registry.secret == "registry/web"
        assert spec.execution_role.arn == private["executionRoleArn"]
    async with running(tmp_path, SystemClock()) as stage:
        assert [one["reason"] for one in (await stage.run())["failures"]] == ["ATTRIBUTE"]
