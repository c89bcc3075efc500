"""RunTask and StartTask: choose the place, the address and the names; write the task; answer at once."""

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta

from agent.adapters.local.definitions.overrides import applied, checked
from agent.adapters.local.errors import ClientFault, Conflict, InvalidParameter
from agent.adapters.local.identity import new_credentials_id, new_task_id, new_uuid
from agent.adapters.local.node import shortage
from agent.adapters.local.operations.desk import Desk, at_most, checked_tags
from agent.adapters.local.operations.network_choice import chosen_subnets
from agent.adapters.local.records import (
    AttachmentRecord,
    ContainerRecord,
    DefinitionRecord,
    Document,
    InstanceRecord,
    TaskRecord,
)
from agent.adapters.local.vpc.addresses import choose_ipv4, choose_ipv6, eni_id, mac_address
from agent.adapters.local.vpc.errors import SubnetExhausted

ADDRESS_REST = timedelta(seconds=30)
"""How long a released address is not given again: peers still remember whose it was."""

_MOST_AT_ONCE = 10
_LONGEST_NAME = 255
_LONGEST_STARTED_BY = 128
_NO_INSTANCES = "No Container Instances were found in your cluster."
_REFUSED = {
    "capacityProviderStrategy": "there are no capacity providers; say launchType EC2 or nothing",
    "enableExecuteCommand": "ECS Exec is not there; use docker exec on this machine",
    "placementConstraints": "there is one machine, and no expression language to choose it by",
    "platformVersion": "it exists on Fargate only",
    "volumeConfigurations": "EBS volumes are not made",
}


@dataclass(frozen=True, slots=True)
class _Order:
    """What every copy of the task has in common."""

    cluster: str
    definition: DefinitionRecord
    overrides: Document
    subnets: tuple[str, ...]
    group: str
    started_by: str | None
    tags: dict[str, str]
    cpu: int
    memory: int
    task_role_arn: str | None
    execution_role_arn: str | None


def run_task(desk: Desk, wanted: Document) -> Document:
    """Place ``count`` copies on this machine. Those that do not fit are named in ``failures``."""
    launch_type = wanted.get("launchType", "EC2")
    if launch_type != "EC2":
        raise InvalidParameter(
            f"launchType {launch_type!r}: not supported here; tasks run on this machine, as EC2"
        )
    count = wanted.get("count", 1)
    if not 1 <= count <= _MOST_AT_ONCE:
        raise InvalidParameter(f"count {count}: expected 1 to {_MOST_AT_ONCE}")
    cluster = desk.cluster(wanted)
    token = wanted.get("clientToken")
    fingerprint = _fingerprint(wanted)
    if token:
        known = desk.ledger.token(cluster, token)
        if known is not None:
            return _repeated(desk, cluster, fingerprint, known)
    order = _order(desk, cluster, wanted)
    instance = desk.instance(cluster)
    if instance is None or instance.status != "ACTIVE":
        raise InvalidParameter(_NO_INSTANCES)
    tasks, failures = _place(desk, order, instance, count)
    # When nothing was placed, the same request may be made again, and must say again why.
    if token and tasks:
        desk.ledger.save_token(cluster, token, fingerprint, [task.id for task in tasks])
    return {"tasks": [desk.show_task(task, with_tags=True) for task in tasks], "failures": failures}


def start_task(desk: Desk, wanted: Document) -> Document:
    """Place one copy on each named container instance; only this machine can be one."""
    cluster = desk.cluster(wanted)
    named = at_most("containerInstances", wanted["containerInstances"], _MOST_AT_ONCE)
    order = _order(desk, cluster, wanted)
    tasks: list[TaskRecord] = []
    failures: list[Document] = []
    for text in named:
        instance = desk.instance(cluster)
        if instance is None or desk.node.identity.short_id("container-instance", text) != instance.id:
            arn = text if text.startswith("arn:") else desk.node.identity.instance_arn(cluster, text)
            failures.append({"arn": arn, "reason": "MISSING"})
        elif instance.status != "ACTIVE":
            failures.append({"arn": desk.instance_arn(cluster), "reason": "INACTIVE"})
        else:
            placed, failed = _place(desk, order, instance, 1)
            tasks += placed
            failures += failed
    return {"tasks": [desk.show_task(task, with_tags=True) for task in tasks], "failures": failures}


def _order(desk: Desk, cluster: str, wanted: Document) -> _Order:
    for field, why in _REFUSED.items():
        if wanted.get(field):
            raise InvalidParameter(f"{field}: not supported; {why}")
    definition = _active(desk, wanted["taskDefinition"])
    overrides = checked(wanted.get("overrides", {}), definition.document)
    document = applied(definition.document, overrides)
    group = wanted.get("group") or f"family:{definition.family}"
    if len(group) > _LONGEST_NAME or (wanted.get("group") or "").startswith(("family:", "service:")):
        raise InvalidParameter(
            f"group {group!r}: expected at most {_LONGEST_NAME} characters, not family: or service:"
        )
    if len(wanted.get("startedBy") or "") > _LONGEST_STARTED_BY:
        raise InvalidParameter(f"startedBy: expected at most {_LONGEST_STARTED_BY} characters")
    cpu, memory = demand(document)
    return _Order(
        cluster=cluster,
        definition=definition,
        overrides=overrides,
        subnets=chosen_subnets(desk.node.vpc, wanted.get("networkConfiguration")),
        group=group,
        started_by=wanted.get("startedBy"),
        tags=_tags(desk, cluster, definition, wanted),
        cpu=cpu,
        memory=memory,
        task_role_arn=_role_arn(desk, document.get("taskRoleArn")),
        execution_role_arn=_role_arn(desk, document.get("executionRoleArn")),
    )


def demand(document: Document) -> tuple[int, int]:
    """CPU units and MiB that a task takes (ecs-protocol 4.11): its limits, else its containers' sum."""
    containers = document["containerDefinitions"]
    cpu = document.get("cpu") or sum(one.get("cpu", 0) for one in containers)
    memory = document.get("memory") or sum(
        one.get("memoryReservation") or one.get("memory") or 0 for one in containers
    )
    return int(cpu), int(memory)


def _active(desk: Desk, text: str) -> DefinitionRecord:
    family, revision = desk.node.identity.family_and_revision(text)
    definition = desk.ledger.definition(family, revision)
    if definition is None:
        raise ClientFault(f"TaskDefinition not found. ({text})")
    if not definition.is_active:
        raise ClientFault(f"TaskDefinition is inactive. ({text})")
    return definition


def _place(
    desk: Desk, order: _Order, instance: InstanceRecord, count: int
) -> tuple[list[TaskRecord], list[Document]]:
    arn = desk.node.identity.instance_arn(order.cluster, instance.id)
    tasks: list[TaskRecord] = []
    failures: list[Document] = []
    for _ in range(count):
        obstacle = _obstacle(desk, order)
        attachment = None
        if obstacle is None:
            task_id = new_task_id()
            attachment = _interface(desk, order, task_id)
            obstacle = "RESOURCE:ENI" if attachment is None else None
        if attachment is None:
            failures.append({"arn": arn, "reason": obstacle})
        else:
            tasks.append(_written(desk, order, attachment))
    return tasks, failures


def _obstacle(desk: Desk, order: _Order) -> str | None:
    if not desk.is_connected and not desk.is_starting:
        return "AGENT"
    needed = {one["name"] for one in order.definition.document["requiresAttributes"]}
    if needed - set(desk.node.capabilities):
        return "ATTRIBUTE"
    return shortage(desk.node, desk.ledger.usage(), order.cpu, order.memory)


def _interface(desk: Desk, order: _Order, task_id: str) -> AttachmentRecord | None:
    """An interface in the first subnet that has an address left; None: none has."""
    now = desk.ledger.now
    own = desk.node.interface
    for subnet_id in order.subnets:
        subnet = desk.node.vpc.subnet(subnet_id)
        taken = desk.ledger.addresses(subnet_id, now - ADDRESS_REST)
        unavailable = {
            one for one in (*taken.used, *taken.resting, own.ipv4_address, own.ipv6_address) if one
        }
        ipv6 = {one for one in unavailable if ":" in one}
        try:
            address = choose_ipv4(subnet, used=unavailable - ipv6, last=taken.newest_ipv4)
            address_v6 = choose_ipv6(subnet, used=ipv6, last=taken.newest_ipv6)
        except SubnetExhausted:
            continue
        attachment_id = new_uuid()
        eni = eni_id(attachment_id)
        return AttachmentRecord(
            id=attachment_id,
            task_id=task_id,
            eni_id=eni,
            subnet_id=subnet_id,
            mac_address=mac_address(eni),
            ipv4_address=address,
            ipv6_address=address_v6,
            created_at=now,
            expires_at=now + desk.node.place.attach_limit,
        )
    return None


def _written(desk: Desk, order: _Order, attachment: AttachmentRecord) -> TaskRecord:
    task = TaskRecord(
        id=attachment.task_id,
        cluster=order.cluster,
        family=order.definition.family,
        revision=order.definition.revision,
        containers=tuple(
            ContainerRecord(one["name"], new_uuid())
            for one in order.definition.document["containerDefinitions"]
        ),
        created_at=desk.ledger.now,
        availability_zone=desk.node.vpc.subnet(attachment.subnet_id).availability_zone,
        group=order.group,
        cpu=order.cpu,
        memory=order.memory,
        overrides=order.overrides,
        started_by=order.started_by,
        task_role_arn=order.task_role_arn,
        execution_role_arn=order.execution_role_arn,
        task_credentials_id=new_credentials_id() if order.task_role_arn else None,
        execution_credentials_id=new_credentials_id() if order.execution_role_arn else None,
    )
    desk.ledger.add_task(task, order.definition, attachment)
    desk.ledger.save_tags(desk.node.identity.task_arn(task.cluster, task.id), order.tags)
    desk.ledger.note(task.id, "task.created", f"{task.family}:{task.revision} at {attachment.ipv4_address}")
    return task


def _role_arn(desk: Desk, role: str | None) -> str | None:
    """A role's ARN; definitions may name it shortly."""
    if not role or role.startswith("arn:"):
        return role or None
    identity = desk.node.identity
    return f"arn:{identity.partition}:iam::{identity.account}:role/{role}"


def _tags(desk: Desk, cluster: str, definition: DefinitionRecord, wanted: Document) -> dict[str, str]:
    tags = checked_tags(wanted.get("tags", []))
    propagate = wanted.get("propagateTags", "NONE")
    if propagate not in {"NONE", "TASK_DEFINITION"}:
        raise InvalidParameter(
            f"propagateTags {propagate!r}: expected TASK_DEFINITION or NONE; there are no services"
        )
    if propagate == "TASK_DEFINITION":
        arn = desk.node.identity.definition_arn(definition.family, definition.revision)
        tags = desk.ledger.tags(arn) | tags
    if wanted.get("enableECSManagedTags"):
        tags["aws:ecs:clusterName"] = cluster
    return tags


def _fingerprint(wanted: Document) -> str:
    rest = {key: value for key, value in wanted.items() if key != "clientToken"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _repeated(desk: Desk, cluster: str, fingerprint: str, known: tuple[str, tuple[str, ...]]) -> Document:
    if known[0] != fingerprint:
        raise Conflict("The provided clientToken is already in use with a different RunTask request.")
    tasks = [desk.ledger.task(cluster, task_id) for task_id in known[1]]
    shown = [desk.show_task(task, with_tags=True) for task in tasks if task is not None]
    return {"tasks": shown, "failures": []}
