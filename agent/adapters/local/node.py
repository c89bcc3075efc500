"""What this machine is to the control plane: resources, attributes, capabilities that are true of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address

from agent.adapters.local.definitions.taskspec import Place
from agent.adapters.local.definitions.unsupported import LOG_DRIVERS
from agent.adapters.local.identity import Identity
from agent.adapters.local.ledger import Ledger, Usage
from agent.adapters.local.records import AttachmentRecord, Document, InstanceRecord, TaskRecord
from agent.adapters.local.vpc.addresses import choose_ipv4, choose_ipv6, eni_id, mac_address
from agent.adapters.local.vpc.plan import InterfacePlan, SubnetPlan, VpcPlan, aws_id
from agent.model.spec import Pairs

_OLD = "com.amazonaws.ecs.capability."
_NEW = "ecs.capability."
_DOCKER_VERSIONS = (17, 18, 19, 20, 21, 22, 23, 24, 25, 28, 29, 30, 32)  # ecs-protocol 1.4

CAPABILITIES = (
    *(f"{_OLD}docker-remote-api.1.{minor}" for minor in _DOCKER_VERSIONS),
    *(f"{_OLD}logging-driver.{driver}" for driver in LOG_DRIVERS),
    f"{_OLD}privileged-container",
    f"{_OLD}task-iam-role",
    f"{_NEW}container-health-check",
    f"{_NEW}container-ordering",
    f"{_NEW}task-cpu-mem-limit",
    f"{_NEW}task-eni",
    f"{_NEW}task-eni-block-instance-metadata",
)
"""What the agent can do for a task of this backend, in the words of ecs-protocol 1.4."""

_ARCHITECTURES = {"X86_64": "x86_64", "ARM64": "arm64"}


@dataclass(frozen=True, slots=True)
class Resources:
    """What tasks may take: CPU units (1024 per core), MiB, and how many network interfaces."""

    cpu: int
    memory: int
    interfaces: int = 120


@dataclass(frozen=True, slots=True)
class Versions:
    """What describe-container-instances shows. Empty: unknown."""

    agent: str
    agent_hash: str = ""
    docker: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """The facts that never change while the agent runs. ``architecture``: ``X86_64`` or ``ARM64``."""

    place: Place
    resources: Resources
    versions: Versions
    architecture: str = "X86_64"
    capabilities: tuple[str, ...] = CAPABILITIES
    own_attributes: Pairs = ()

    @property
    def identity(self) -> Identity:
        """Who the control plane is."""
        return self.place.identity

    @property
    def vpc(self) -> VpcPlan:
        """The network that tasks join."""
        return self.place.vpc

    @property
    def subnet(self) -> SubnetPlan:
        """The machine's own subnet: the first one."""
        return self.vpc.subnets[0]

    @property
    def interface(self) -> InterfacePlan:
        """The machine's own interface: the first usable address of its subnet."""
        return _machine_interface(self.vpc)

    @property
    def attributes(self) -> tuple[tuple[str, str | None], ...]:
        """Names and values of the instance's attributes."""
        return (
            ("ecs.availability-zone", self.subnet.availability_zone),
            ("ecs.cpu-architecture", _ARCHITECTURES[self.architecture]),
            ("ecs.os-family", "LINUX"),
            ("ecs.os-type", "linux"),
            ("ecs.subnet-id", self.subnet.subnet_id),
            ("ecs.vpc-id", self.vpc.vpc_id),
            *((name, None) for name in self.capabilities),
            *self.own_attributes,
        )


def instance_view(
    node: Node, ledger: Ledger, instance: InstanceRecord, *, is_connected: bool, with_tags: bool
) -> Document:
    """The container instance as describe-container-instances shows it."""
    arn = node.identity.instance_arn(instance.cluster, instance.id)
    running, pending = ledger.task_counts(instance.cluster)
    usage = ledger.usage()
    versions = {
        "agentVersion": node.versions.agent,
        "agentHash": node.versions.agent_hash,
        "dockerVersion": f"DockerVersion: {node.versions.docker}" if node.versions.docker else "",
    }
    view: Document = {
        "containerInstanceArn": arn,
        "ec2InstanceId": aws_id("i", instance.id),
        "version": instance.version,
        "versionInfo": {key: value for key, value in versions.items() if value},
        "remainingResources": _resources(
            node.resources.cpu - usage.cpu, node.resources.memory - usage.memory
        ),
        "registeredResources": _resources(node.resources.cpu, node.resources.memory),
        "status": instance.status,
        "agentConnected": is_connected,
        "runningTasksCount": running,
        "pendingTasksCount": pending,
        "attributes": [
            {"name": name} if value is None else {"name": name, "value": value}
            for name, value in node.attributes
        ],
        "registeredAt": instance.registered_at,
        "attachments": [],
        "tags": _tags(ledger, arn) if with_tags else [],
    }
    return view


def shortage(node: Node, usage: Usage, cpu: int, memory: int) -> str | None:
    """Why one more task of that size does not fit, in ECS's words; None: it fits."""
    if usage.memory + memory > node.resources.memory:
        return "RESOURCE:MEMORY"
    if usage.cpu + cpu > node.resources.cpu:
        return "RESOURCE:CPU"
    if usage.interfaces + 1 > node.resources.interfaces:
        return "RESOURCE:ENI"
    return None


def misfit(vpc: VpcPlan, placed: Iterable[tuple[TaskRecord, AttachmentRecord]]) -> str | None:
    """Why tasks that were placed before cannot go on in this VPC; None: they can.

    With another region, account or range they would get another name, or a gateway that they cannot reach.
    """
    subnets = {subnet.subnet_id: subnet for subnet in vpc.subnets}
    strangers = [
        f"{attachment.ipv4_address} in {attachment.subnet_id}, {task.availability_zone}"
        for task, attachment in placed
        if (subnet := subnets.get(attachment.subnet_id)) is None
        or subnet.availability_zone != task.availability_zone
        or IPv4Address(attachment.ipv4_address) not in subnet.ipv4_network
    ]
    if not strangers:
        return None
    return (
        "tasks were placed with another AWS_DEFAULT_REGION, BERTH_ACCOUNT_ID or BERTH_VPC_CIDR "
        f"({len(strangers)} of them, the first at {strangers[0]}); start with the settings as they were and "
        "stop the tasks, or choose another ECS_DATADIR"
    )


@lru_cache(maxsize=4)
def _machine_interface(vpc: VpcPlan) -> InterfacePlan:
    subnet = vpc.subnets[0]
    eni = eni_id(f"instance/{vpc.vpc_id}")
    return InterfacePlan(
        eni_id=eni,
        subnet_id=subnet.subnet_id,
        mac_address=mac_address(eni),
        ipv4_address=choose_ipv4(subnet, used=()),
        ipv6_address=choose_ipv6(subnet, used=()),
    )


def _resources(cpu: int, memory: int) -> list[Document]:
    return [
        {"name": "CPU", "type": "INTEGER", "doubleValue": 0.0, "longValue": 0, "integerValue": cpu},
        {"name": "MEMORY", "type": "INTEGER", "doubleValue": 0.0, "longValue": 0, "integerValue": memory},
        {
            "name": "PORTS",
            "type": "STRINGSET",
            "doubleValue": 0.0,
            "longValue": 0,
            "integerValue": 0,
            "stringSetValue": [],
        },
        {
            "name": "PORTS_UDP",
            "type": "STRINGSET",
            "doubleValue": 0.0,
            "longValue": 0,
            "integerValue": 0,
            "stringSetValue": [],
        },
    ]


def _tags(ledger: Ledger, arn: str) -> list[Document]:
    return [{"key": key, "value": value} for key, value in ledger.tags(arn).items()]
