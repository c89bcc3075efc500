"""The local backend places by the sums by which the agent admits: what it has placed always finds room."""

from datetime import timedelta

import pytest

from agent.adapters.local.definitions.overrides import applied, checked
from agent.adapters.local.definitions.registration import registered
from agent.adapters.local.definitions.taskspec import Place, task_spec
from agent.adapters.local.identity import Identity
from agent.adapters.local.operations.launch import demand as placed
from agent.adapters.local.records import (
    AttachmentRecord,
    ContainerRecord,
    DefinitionRecord,
    Document,
    TaskRecord,
)
from agent.adapters.local.vpc.plan import default_plan
from agent.lifecycle.admission import Resources, demand
from agent.model.spec import PullBehavior
from tests.fakes.clock import NOON

PLAN = default_plan("eu-west-1", seed="sums")
SUBNET = PLAN.subnets[0]
LIMITS = [{}, {"cpu": "512"}, {"memory": "1 GB"}, {"cpu": "1 vCPU", "memory": "2048"}]
CONTAINERS = [
    [{"memory": 64}],
    [{"memory": 64, "memoryReservation": 32, "cpu": 128}],
    [{"memoryReservation": 32}, {"memory": 100, "cpu": 10}, {"memory": 7, "memoryReservation": 7}],
]
OVERRIDES = [
    {},
    {"cpu": "256", "memory": "512"},
    {"containerOverrides": [{"name": "c0", "cpu": 5, "memory": 300, "memoryReservation": 200}]},
]


@pytest.mark.parametrize("overrides", OVERRIDES)
@pytest.mark.parametrize("containers", CONTAINERS)
@pytest.mark.parametrize("limits", LIMITS)
def test_placement_and_admission_count_the_same(
    limits: Document, containers: list[Document], overrides: Document
) -> None:
    named = [{"name": f"c{number}", "image": "i:1", **one} for number, one in enumerate(containers)]
    wanted = {"family": "sums", "networkMode": "awsvpc", **limits, "containerDefinitions": named}
    document = registered(wanted, "X86_64", has_role_credentials=False)
    checked_overrides = checked(overrides, document)
    task = TaskRecord(
        id="1" * 32,
        cluster="default",
        family="sums",
        revision=1,
        containers=tuple(ContainerRecord(one["name"], one["name"]) for one in named),
        created_at=NOON,
        availability_zone="eu-west-1a",
        group="family:sums",
        overrides=checked_overrides,
    )
    attachment = AttachmentRecord(
        id="a1",
        task_id=task.id,
        eni_id="eni-1",
        subnet_id=SUBNET.subnet_id,
        mac_address="0e:00:00:00:00:01",
        ipv4_address=str(SUBNET.ipv4_network[9]),
        ipv6_address=None,
        created_at=NOON,
        expires_at=NOON + timedelta(minutes=5),
    )
    place = Place(Identity("eu-west-1", "000000000000"), PLAN, PullBehavior.DEFAULT)
    spec = task_spec(task, DefinitionRecord("sums", 1, document, registered_at=NOON), attachment, place)
    assert demand(spec) == Resources(*placed(applied(document, checked_overrides)))
