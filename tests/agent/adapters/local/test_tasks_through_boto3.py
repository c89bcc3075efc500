"""Register, run, describe, list and stop, as a user of boto3 sees it."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from agent.model.report import ContainerReport
from agent.model.status import Health, TaskStatus
from tests.agent.adapters.local.stage import NGINX, OTHER_SUBNET, PLAN, SUBNET, in_subnet, report


async def test_a_task_runs_from_register_to_stopped_as_on_amazon_ecs(stage):
    registered = await stage.ecs("register_task_definition", **NGINX)
    definition = registered["taskDefinition"]
    assert definition["revision"] == 1
    assert definition["status"] == "ACTIVE"
    assert definition["compatibilities"] == ["EC2"]
    assert {"name": "ecs.capability.task-eni"} in definition["requiresAttributes"]
    assert definition["taskDefinitionArn"].endswith("task-definition/nginx-awsvpc:1")

    task = await stage.run_one()
    assert task["lastStatus"] == "PROVISIONING"
    assert task["group"] == "family:nginx-awsvpc"
    assert (task["cpu"], task["memory"]) == ("100", "512")
    arn = task["taskArn"]

    pending = await stage.eventually(arn, "PENDING")
    attachment = pending["attachments"][0]
    details = {one["name"]: one["value"] for one in attachment["details"]}
    assert attachment["type"] == "ElasticNetworkInterface"
    assert details["subnetId"] == SUBNET
    made = stage.vpc.made[details["networkInterfaceId"]]
    assert (made.mac_address, made.ipv4_address) == (details["macAddress"], details["privateIPv4Address"])
    assert pending["containers"][0]["networkInterfaces"] == [
        {"attachmentId": attachment["id"], "privateIpv4Address": details["privateIPv4Address"]}
    ]

    await stage.report(arn, TaskStatus.RUNNING)
    running = await stage.describe(arn)
    assert (running["lastStatus"], running["desiredStatus"]) == ("RUNNING", "RUNNING")
    assert running["containers"][0]["runtimeId"] == "nginx-id"
    assert running["attachments"][0]["status"] == "ATTACHED"
    assert running["startedAt"] >= running["createdAt"]
    assert (await stage.ecs("list_tasks"))["taskArns"] == [arn]

    stopping = (await stage.ecs("stop_task", task=arn, reason="enough"))["task"]
    assert (stopping["lastStatus"], stopping["desiredStatus"]) == ("STOPPING", "STOPPED")
    assert (await stage.wanted(arn)).stop == "enough"
    await stage.report(arn, TaskStatus.STOPPED, exit_code=143)
    stopped = await stage.eventually(arn, "STOPPED")
    assert stopped["stopCode"] == "UserInitiated"
    assert stopped["stoppedReason"] == "enough"
    assert stopped["containers"][0]["exitCode"] == 143
    assert stopped["attachments"][0]["status"] == "DELETED"
    assert stage.vpc.made == {}
    assert (await stage.ecs("list_tasks"))["taskArns"] == []
    assert (await stage.ecs("list_tasks", desiredStatus="STOPPED"))["taskArns"] == [arn]


async def test_two_copies_get_two_addresses_and_the_waiter_of_boto3_is_satisfied(stage):
    await stage.register()
    tasks = (await stage.run(count=2))["tasks"]
    arns = [task["taskArn"] for task in tasks]
    addresses = {task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"] for task in tasks}
    assert len(addresses) == 2
    for arn in arns:
        await stage.report(arn, TaskStatus.RUNNING)
    waiter = stage.client.get_waiter("tasks_running")
    await asyncio.to_thread(waiter.wait, cluster="default", tasks=arns, WaiterConfig={"MaxAttempts": 1})


async def test_the_answer_to_run_task_does_not_wait_for_the_interface(stage):
    await stage.register()
    stage.vpc.gate.clear()
    task = await stage.run_one()
    await asyncio.sleep(0.05)
    assert (await stage.describe(task["taskArn"]))["lastStatus"] == "PROVISIONING"
    assert (await stage.wanted(task["taskArn"])).spec.network.mac_address
    stage.vpc.gate.set()
    await stage.eventually(task["taskArn"], "PENDING")


async def test_an_interface_that_cannot_be_made_is_tried_again(stage):
    await stage.register()
    stage.vpc.refusals = 2
    task = await stage.run_one()
    await stage.eventually(task["taskArn"], "PENDING")
    assert stage.vpc.refusals == 0


async def test_an_interface_that_cannot_be_removed_keeps_the_task_in_deprovisioning_until_it_is_gone(stage):
    await stage.register()
    task = await stage.run_one()
    await stage.eventually(task["taskArn"], "PENDING")
    stage.vpc.gate.clear()
    await stage.report(task["taskArn"], TaskStatus.STOPPED, exit_code=0)
    seen = await stage.describe(task["taskArn"])
    assert (seen["lastStatus"], seen["desiredStatus"]) == ("DEPROVISIONING", "STOPPED")
    stage.vpc.refusals = 1
    stage.vpc.gate.set()
    await stage.eventually(task["taskArn"], "STOPPED")


async def test_an_essential_container_that_exits_is_the_reason(stage):
    await stage.register()
    task = await stage.run_one()
    await stage.report(task["taskArn"], TaskStatus.RUNNING)
    await stage.report(task["taskArn"], TaskStatus.STOPPED, exit_code=1, reason="something else")
    stopped = await stage.eventually(task["taskArn"], "STOPPED")
    assert stopped["stopCode"] == "EssentialContainerExited"
    assert stopped["stoppedReason"] == "Essential container in task exited"


async def test_a_task_that_never_started_says_what_the_agent_said(stage):
    await stage.register()
    task = await stage.run_one()
    reason = "CannotPullContainerError: nginx:latest: not found"
    await stage.report(task["taskArn"], TaskStatus.STOPPED, reason=reason)
    stopped = await stage.eventually(task["taskArn"], "STOPPED")
    assert stopped["stopCode"] == "TaskFailedToStart"
    assert stopped["stoppedReason"] == reason
    assert "startedAt" not in stopped


async def test_a_stopped_task_stays_stopped_and_stopping_it_again_changes_nothing(stage):
    await stage.register()
    task = await stage.run_one()
    wanted = await stage.wanted(task["taskArn"])
    await stage.backend.report(report(wanted, TaskStatus.STOPPED, exit_code=3))
    before = await stage.eventually(task["taskArn"], "STOPPED")
    await stage.backend.report(report(wanted, TaskStatus.RUNNING))
    await stage.ecs("stop_task", task=task["taskArn"], reason="late")
    after = await stage.describe(task["taskArn"])
    assert after == before


async def test_health_times_and_digests_are_shown(stage):
    check = {"command": ["CMD-SHELL", "true"]}
    containers = [{**NGINX["containerDefinitions"][0], "healthCheck": check}]
    await stage.register(containerDefinitions=containers)
    task = await stage.run_one()
    assert task["healthStatus"] == "UNKNOWN"
    at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    wanted = await stage.wanted(task["taskArn"])
    told = report(wanted, TaskStatus.RUNNING, pull_started_at=at, pull_stopped_at=at + timedelta(seconds=2))
    healthy = ContainerReport(
        "nginx", TaskStatus.RUNNING, health=Health.HEALTHY, image_digest="sha256:" + "a" * 64
    )
    await stage.backend.report(replace(told, containers=(healthy,)))
    seen = await stage.describe(task["taskArn"])
    assert seen["healthStatus"] == seen["containers"][0]["healthStatus"] == "HEALTHY"
    assert seen["containers"][0]["imageDigest"] == "sha256:" + "a" * 64
    assert seen["pullStoppedAt"] - seen["pullStartedAt"] == timedelta(seconds=2)


async def test_overrides_reach_the_agent_and_are_shown(stage):
    await stage.register()
    overrides = {
        "containerOverrides": [
            {
                "name": "nginx",
                "command": ["sleep", "1"],
                "environment": [{"name": "A", "value": "2"}],
                "memory": 256,
                "memoryReservation": 64,
                "cpu": 7,
            }
        ],
        "cpu": ".5 vCPU",
        "memory": "1 GB",
        "taskRoleArn": "arn:aws:iam::111122223333:role/other",
        "executionRoleArn": "execution",
    }
    task = await stage.run_one(overrides=overrides)
    spec = (await stage.wanted(task["taskArn"])).spec
    (container,) = spec.containers
    assert container.command == ("sleep", "1")
    assert dict(container.environment) == {"A": "2", "AWS_EXECUTION_ENV": "AWS_ECS_EC2"}
    assert (container.cpu, container.memory, container.memory_reservation) == (7, 256, 64)
    assert (spec.cpu, spec.memory) == (512, 1024)
    assert spec.task_role.arn == "arn:aws:iam::111122223333:role/other"
    assert spec.execution_role.arn == "arn:aws:iam::000000000000:role/execution"
    assert len(spec.task_role.credentials_id) >= 43
    assert spec.task_role.credentials_id != spec.execution_role.credentials_id
    assert task["overrides"]["cpu"] == "512"


async def test_a_task_in_the_second_subnet_has_its_addresses(stage):
    await stage.register()
    answer = await stage.ecs(
        "run_task", taskDefinition="nginx-awsvpc", networkConfiguration=in_subnet(OTHER_SUBNET)
    )
    task = answer["tasks"][0]
    assert task["availabilityZone"] == PLAN.subnets[1].availability_zone
    network = (await stage.wanted(task["taskArn"])).spec.network
    assert network.subnet_id == OTHER_SUBNET
    assert network.ipv4_addresses[0].network == PLAN.subnets[1].ipv4_network
    assert network.private_dns_name.endswith(".ec2.internal")
    assert network.gateways == (str(PLAN.subnets[1].ipv4_network[1]),)


async def test_the_same_client_token_gives_the_same_tasks_and_never_others(stage):
    await stage.register()
    first = await stage.run(clientToken="once", count=2)
    again = await stage.run(clientToken="once", count=2)
    assert {task["taskArn"] for task in first["tasks"]} == {task["taskArn"] for task in again["tasks"]}
    with pytest.raises(ClientError) as refused:
        await stage.run(clientToken="once", count=1)
    assert refused.value.response["Error"]["Code"] == "ConflictException"
    assert len((await stage.ecs("list_tasks"))["taskArns"]) == 2


async def test_tags_are_kept_propagated_changed_and_removed(stage):
    arn = await stage.register(tags=[{"key": "team", "value": "blue"}])
    task = await stage.run_one(
        propagateTags="TASK_DEFINITION", tags=[{"key": "own", "value": "1"}], enableECSManagedTags=True
    )
    tags = {one["key"]: one["value"] for one in (await stage.describe(task["taskArn"]))["tags"]}
    assert tags == {"team": "blue", "own": "1", "aws:ecs:clusterName": "default"}
    await stage.ecs("tag_resource", resourceArn=arn, tags=[{"key": "team", "value": "red"}])
    await stage.ecs("untag_resource", resourceArn=task["taskArn"], tagKeys=["own", "missing"])
    assert (await stage.ecs("list_tags_for_resource", resourceArn=arn))["tags"] == [
        {"key": "team", "value": "red"}
    ]
    described = await stage.ecs("describe_task_definition", taskDefinition=arn, include=["TAGS"])
    assert described["tags"] == [{"key": "team", "value": "red"}]
    left = (await stage.ecs("list_tags_for_resource", resourceArn=task["taskArn"]))["tags"]
    assert "own" not in {one["key"] for one in left}


async def test_short_ids_and_arns_mean_the_same_task_and_unknown_ones_are_missing(stage):
    await stage.register()
    task = await stage.run_one()
    short = task["taskArn"].rsplit("/", 1)[1]
    unknown = "0" * 32
    answer = await stage.ecs("describe_tasks", tasks=[short, unknown])
    assert answer["tasks"][0]["taskArn"] == task["taskArn"]
    assert answer["failures"] == [
        {"arn": task["taskArn"].replace(short, unknown), "reason": "MISSING"},
    ]


async def test_lists_come_in_pages(stage):
    for _ in range(5):
        await stage.register()
    paginator = stage.client.get_paginator("list_task_definitions")

    def collect(**wanted):
        pages = list(paginator.paginate(PaginationConfig={"PageSize": 2}, **wanted))
        return [len(page["taskDefinitionArns"]) for page in pages], [
            arn.rsplit(":", 1)[1] for page in pages for arn in page["taskDefinitionArns"]
        ]

    assert await asyncio.to_thread(collect) == ([2, 2, 1], ["1", "2", "3", "4", "5"])
    assert (await asyncio.to_thread(collect, sort="DESC"))[1] == ["5", "4", "3", "2", "1"]


async def test_tasks_may_be_listed_by_family_starter_and_machine(stage):
    await stage.register()
    await stage.register(family="other")
    first = await stage.run_one(startedBy="me")
    second = await stage.run_one("other")
    assert (await stage.ecs("list_tasks", family="other"))["taskArns"] == [second["taskArn"]]
    assert (await stage.ecs("list_tasks", startedBy="me"))["taskArns"] == [first["taskArn"]]
    machine = first["containerInstanceArn"]
    assert len((await stage.ecs("list_tasks", containerInstance=machine))["taskArns"]) == 2
    assert (await stage.ecs("list_tasks", containerInstance="0" * 32))["taskArns"] == []


async def test_the_history_of_a_task_is_kept(stage):
    await stage.register()
    task = await stage.run_one()
    await stage.eventually(task["taskArn"], "PENDING")
    await stage.report(task["taskArn"], TaskStatus.STOPPED, exit_code=0)
    await stage.eventually(task["taskArn"], "STOPPED")
    names = [one.name for one in await stage.backend.events(task["taskArn"].rsplit("/", 1)[1])]
    assert names == [
        "task.created",
        "interface.made",
        "status.deprovisioning",
        "interface.removed",
        "task.stopped",
    ]
