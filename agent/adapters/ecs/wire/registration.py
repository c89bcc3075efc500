"""``RegisterContainerInstance``: what the instance says of itself, and what the answer must hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.adapters.ecs.wire.capabilities import Attribute
from agent.model.errors import AgentError, BackendUnavailable

MOST_TAGS = 50
ZONE = "ecs.availability-zone"
_TYPE_IS_FIXED = "Container instance type changes are not supported."
_NO_CLUSTER = "Cluster not found."


class AttributesNotEchoed(AgentError):
    """Amazon ECS did not take some of the attributes: the instance would be placed wrongly."""


class ReservedTooMuch(AgentError):
    """More memory is reserved than the machine has."""


class UnusableAnswer(BackendUnavailable):
    """The answer lacks what it must have."""


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """What the machine and its settings say. Memory in MiB, ``cpu_units`` 1024 for each logical CPU.

    ``client_token``: a fresh UUID for each start of the process. ``earlier_arn``: of a registration that
    this machine had before, None if there was none. ``identity_document`` and its signature are empty if
    they cannot be had; the signature proves the machine's identity, so neither shows. ``tags`` are the local
    ones, ``instance_tags`` those of EC2. ``reserved_tcp_ports``, ``reserved_udp_ports``: not for tasks.
    """

    cluster: str
    client_token: str = field(repr=False)
    cpu_units: int
    total_memory: int
    reserved_memory: int = 0
    reserved_tcp_ports: tuple[int, ...] = (22, 2375, 2376, 51678, 51679)
    reserved_udp_ports: tuple[int, ...] = ()
    identity_document: str = field(default="", repr=False)
    identity_signature: str = field(default="", repr=False)
    vpc_id: str = ""
    subnet_id: str = ""
    outpost_arn: str = ""
    detailed_os: str = "LINUX"
    custom_attributes: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    instance_tags: Mapping[str, str] = field(default_factory=dict)
    earlier_arn: str | None = None


def attributes(facts: InstanceFacts, capabilities: tuple[Attribute, ...]) -> tuple[Attribute, ...]:
    """Everything that is sent under ``attributes`` (ecs-protocol 1.3.2). Custom ones the first time only."""
    known = (
        ("ecs.vpc-id", facts.vpc_id),
        ("ecs.subnet-id", facts.subnet_id),
        ("ecs.outpost-arn", facts.outpost_arn),
        ("ecs.os-type", "linux"),
        ("ecs.os-family", "LINUX"),
        ("ecs.os-type-detailed", facts.detailed_os or "LINUX"),
    )
    custom = facts.custom_attributes if facts.earlier_arn is None else {}
    return (
        *capabilities,
        *(Attribute(name, value) for name, value in known if value),
        *(Attribute(name, value) for name, value in custom.items()),
    )


def registration(facts: InstanceFacts, sent: tuple[Attribute, ...]) -> dict[str, Any]:
    """The body of the call (ecs-protocol 1.3); versions are never part of it. Raise ``ReservedTooMuch``.

    ``sent``: from ``attributes``.
    """
    body: dict[str, Any] = {
        "cluster": facts.cluster,
        "clientToken": facts.client_token,
        "instanceIdentityDocument": facts.identity_document,
        "instanceIdentityDocumentSignature": facts.identity_signature,
        "totalResources": _resources(facts),
        "attributes": [attribute.document() for attribute in sent],
    }
    if facts.earlier_arn is not None:
        body["containerInstanceArn"] = facts.earlier_arn
    tags = merged_tags(facts.tags, facts.instance_tags)
    if tags:
        body["tags"] = [{"key": key, "value": value} for key, value in tags.items()]
    return body


def merged_tags(local: Mapping[str, str], instance: Mapping[str, str]) -> dict[str, str]:
    """At most 50 tags: the local ones, then those of EC2 with other keys.

    Those that AWS reserves are dropped.
    """
    merged = {**local, **{key: value for key, value in instance.items() if key not in local}}
    allowed = [
        (key, value) for key, value in merged.items() if not (_is_reserved(key) or _is_reserved(value))
    ]
    return dict(allowed[:MOST_TAGS])


def check_echo(sent: tuple[Attribute, ...], container_instance: Mapping[str, Any]) -> None:
    """Return if every attribute came back with its value (ecs-protocol 1.3.3).

    Raise ``AttributesNotEchoed``.
    """
    echoed = _echoed(container_instance)
    problems = []
    for attribute in sent:
        if attribute.name not in echoed:
            problems.append(f"{attribute.name} is missing")
        elif echoed[attribute.name] != (attribute.value or ""):
            problems.append(
                f"{attribute.name} is {echoed[attribute.name]!r}, expected {attribute.value or ''!r}"
            )
    if problems:
        raise AttributesNotEchoed(f"Attribute validation failed: {'; '.join(problems)}")


def container_instance(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The instance in an answer. Raise ``UnusableAnswer``."""
    instance = answer.get("containerInstance")
    if not isinstance(instance, dict):
        raise UnusableAnswer("RegisterContainerInstance: the answer has no containerInstance")
    return instance


def instance_arn(answer: Mapping[str, Any]) -> str:
    """The ARN of the instance. Raise ``UnusableAnswer``."""
    arn = container_instance(answer).get("containerInstanceArn")
    if not isinstance(arn, str) or not arn.startswith("arn:"):
        raise UnusableAnswer(f"RegisterContainerInstance: containerInstanceArn is {arn!r}, expected an ARN")
    return arn


def availability_zone(answer: Mapping[str, Any]) -> str:
    """The instance's availability zone, empty if the answer does not say. Raise ``UnusableAnswer``."""
    return _echoed(container_instance(answer)).get(ZONE, "")


def created_cluster(answer: Mapping[str, Any]) -> str:
    """The name in an answer of ``CreateCluster`` (ecs-protocol 1.2). Raise ``UnusableAnswer``."""
    cluster = answer.get("cluster")
    name = cluster.get("clusterName") if isinstance(cluster, dict) else None
    if not isinstance(name, str) or not name:
        raise UnusableAnswer("CreateCluster: the answer has no cluster.clusterName")
    return name


def is_about_a_missing_cluster(code: str, message: str) -> bool:
    """Whether an error says that the cluster does not exist (ecs-protocol 1.2)."""
    return code == "ClusterNotFoundException" or _NO_CLUSTER in message


def is_final(code: str, message: str) -> bool:
    """Whether an error of the API will be the same at the next start (ecs-protocol 1.3.4)."""
    return code in ("InvalidParameterException", "ClientException") or _TYPE_IS_FIXED in message


def advice(message: str) -> str:
    """What an operator can do about an error's message; empty if nothing is known."""
    if _TYPE_IS_FIXED in message:
        return (
            "restore the old instance type, or remove the agent's saved state to register as a new instance"
        )
    return ""


def offered_memory(total: int, reserved: int) -> int:
    """MiB that tasks may use. Raise ``ReservedTooMuch`` in the words of ecs-protocol 1.3.1."""
    if reserved > total:
        raise ReservedTooMuch(
            "api register-container-instance: reserved memory is higher than available memory on the host, "
            f"total memory: {total}, reserved: {reserved}"
        )
    return total - reserved


def _resources(facts: InstanceFacts) -> list[dict[str, Any]]:
    memory = offered_memory(facts.total_memory, facts.reserved_memory)
    return [
        {"name": "CPU", "type": "INTEGER", "integerValue": facts.cpu_units},
        {"name": "MEMORY", "type": "INTEGER", "integerValue": memory},
        {
            "name": "PORTS",
            "type": "STRINGSET",
            "stringSetValue": [str(port) for port in facts.reserved_tcp_ports],
        },
        {
            "name": "PORTS_UDP",
            "type": "STRINGSET",
            "stringSetValue": [str(port) for port in facts.reserved_udp_ports],
        },
    ]


def _is_reserved(text: str) -> bool:
    return text.lower().startswith("aws:")


def _echoed(instance: Mapping[str, Any]) -> dict[str, str]:
    listed = instance.get("attributes")
    found = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return {str(one.get("name")): str(one.get("value") or "") for one in found}
