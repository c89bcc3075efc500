"""A task as describe-tasks shows it. Pure."""

from agent.adapters.local.identity import Identity
from agent.adapters.local.node import Node
from agent.adapters.local.progress import health_of
from agent.adapters.local.records import AttachmentRecord, ContainerRecord, Document, TaskRecord
from agent.adapters.local.vpc.plan import private_dns_name

_TIMES = (
    ("pullStartedAt", "pull_started_at"),
    ("pullStoppedAt", "pull_stopped_at"),
    ("startedAt", "started_at"),
    ("stoppingAt", "stopping_at"),
    ("executionStoppedAt", "execution_stopped_at"),
    ("stoppedAt", "stopped_at"),
)


def task_view(
    node: Node,
    task: TaskRecord,
    definition: Document,
    attachment: AttachmentRecord | None,
    *,
    instance_arn: str,
    tags: dict[str, str],
) -> Document:
    """The task in ECS's words. ``definition``: the document with the task's overrides applied."""
    identity = node.identity
    arn = identity.task_arn(task.cluster, task.id)
    wanted = {one["name"]: one for one in definition["containerDefinitions"]}
    view: Document = {
        "attachments": [attachment_view(attachment, identity)] if attachment is not None else [],
        "attributes": [
            {"name": name, "value": value}
            for name, value in node.attributes
            if name == "ecs.cpu-architecture"
        ],
        "availabilityZone": task.availability_zone,
        "clusterArn": identity.cluster_arn(task.cluster),
        "connectivity": "CONNECTED",
        "connectivityAt": task.created_at,
        "containers": [
            _container(one, wanted[one.name], identity, task, attachment) for one in task.containers
        ],
        "cpu": str(task.cpu),
        "createdAt": task.created_at,
        "desiredStatus": task.desired_status,
        "enableExecuteCommand": False,
        "group": task.group,
        "healthStatus": health_of(task, definition),
        "lastStatus": task.last_status,
        "launchType": task.launch_type,
        "memory": str(task.memory),
        "overrides": task.overrides,
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
        "taskArn": arn,
        "taskDefinitionArn": identity.definition_arn(task.family, task.revision),
        "version": task.version,
    }
    for name, field in _TIMES:
        if getattr(task, field) is not None:
            view[name] = getattr(task, field)
    for name, text in (
        ("containerInstanceArn", instance_arn or None),
        ("startedBy", task.started_by),
        ("stopCode", task.stop_code),
        ("stoppedReason", task.stopped_reason),
    ):
        if text is not None:
            view[name] = text
    return view


def attachment_view(attachment: AttachmentRecord, identity: Identity) -> Document:
    """The network interface, as an attachment of the task."""
    details = [
        ("subnetId", attachment.subnet_id),
        ("networkInterfaceId", attachment.eni_id),
        ("macAddress", attachment.mac_address),
        ("privateDnsName", private_dns_name(attachment.ipv4_address, identity.region)),
        ("privateIPv4Address", attachment.ipv4_address),
    ]
    if attachment.ipv6_address is not None:
        details.append(("ipv6Address", attachment.ipv6_address))
    return {
        "id": attachment.id,
        "type": "ElasticNetworkInterface",
        "status": attachment.status,
        "details": [{"name": name, "value": value} for name, value in details],
    }


def _container(
    record: ContainerRecord,
    wanted: Document,
    identity: Identity,
    task: TaskRecord,
    attachment: AttachmentRecord | None,
) -> Document:
    view: Document = {
        "containerArn": identity.container_arn(task.cluster, task.id, record.id),
        "taskArn": identity.task_arn(task.cluster, task.id),
        "name": record.name,
        "image": wanted["image"],
        "lastStatus": record.last_status,
        "networkBindings": [],
        "networkInterfaces": [],
        "healthStatus": record.health,
        "cpu": str(wanted.get("cpu", 0)),
    }
    if attachment is not None:
        interface = {"attachmentId": attachment.id, "privateIpv4Address": attachment.ipv4_address}
        if attachment.ipv6_address is not None:
            interface["ipv6Address"] = attachment.ipv6_address
        view["networkInterfaces"] = [interface]
    for name, value in (
        ("imageDigest", record.image_digest or None),
        ("runtimeId", record.runtime_id),
        ("exitCode", record.exit_code),
        ("reason", record.reason or None),
        ("memory", _text(wanted.get("memory"))),
        ("memoryReservation", _text(wanted.get("memoryReservation"))),
    ):
        if value is not None:
            view[name] = value
    return view


def _text(number: int | None) -> str | None:
    return str(number) if number is not None else None
