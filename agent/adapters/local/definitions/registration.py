"""From what a user registers to what Amazon ECS shows: checked, completed, capabilities named."""

from typing import Any

from agent.adapters.local.definitions.checks import problems
from agent.adapters.local.definitions.quantities import cpu_units, memory_mib
from agent.adapters.local.definitions.unsupported import refusals
from agent.adapters.local.errors import ClientFault
from agent.adapters.local.records import Document

_OLD = "com.amazonaws.ecs.capability."
_NEW = "ecs.capability."
_NOT_SHOWN = frozenset({"tags"})


PRIVATE_REGISTRIES = f"{_NEW}private-registry-authentication.secretsmanager"
"""The capability of a machine that looks up registry logins in Secrets Manager (ecs-protocol 1.4)."""


def registered(wanted: Document, architecture: str, *, has_role_credentials: bool = False) -> Document:
    """The definition as describe-task-definition will show it, but for revision, ARN, status and times.

    ``wanted`` is a RegisterTaskDefinition request that its shape has accepted. ``has_role_credentials``:
    whether roles have credentials that AWS knows. Raise ``ClientFault`` that lists everything that is wrong
    or unsupported.
    """
    unsupported = refusals(wanted, architecture, has_role_credentials=has_role_credentials)
    found = [*unsupported, *problems(wanted)]
    if found:
        count = f"{len(found)} problems: " if len(found) > 1 else ""
        raise ClientFault(f"Cannot register the task definition. {count}{'; '.join(found)}")
    document = {key: value for key, value in wanted.items() if key not in _NOT_SHOWN}
    document["containerDefinitions"] = [_completed(one) for one in wanted["containerDefinitions"]]
    document["volumes"] = [{"host": {}, **volume} for volume in wanted.get("volumes", [])]
    document.setdefault("placementConstraints", [])
    # ECS shows sizes in plain units, whatever they were written in.
    if "cpu" in wanted:
        document["cpu"] = str(cpu_units(wanted["cpu"]))
    if "memory" in wanted:
        document["memory"] = str(memory_mib(wanted["memory"]))
    document["compatibilities"] = ["EC2"]
    document["requiresAttributes"] = [{"name": name} for name in required_attributes(document)]
    return document


def required_attributes(document: Document) -> tuple[str, ...]:
    """Which capabilities a machine must have to run it (ecs-protocol 1.4), sorted."""
    needed = {f"{_NEW}task-eni", f"{_OLD}docker-remote-api.1.18"}
    if document.get("taskRoleArn"):
        needed |= {f"{_OLD}task-iam-role", f"{_OLD}docker-remote-api.1.19"}
    if document.get("cpu") or document.get("memory"):
        needed |= {f"{_NEW}task-cpu-mem-limit", f"{_OLD}docker-remote-api.1.22"}
    for container in document["containerDefinitions"]:
        if container.get("privileged"):
            needed.add(f"{_OLD}privileged-container")
        if container.get("healthCheck"):
            needed |= {f"{_NEW}container-health-check", f"{_OLD}docker-remote-api.1.24"}
        if container.get("dependsOn"):
            needed.add(f"{_NEW}container-ordering")
        if container.get("repositoryCredentials"):
            needed.add(PRIVATE_REGISTRIES)
        if container.get("logConfiguration"):
            needed.add(f"{_OLD}logging-driver.{container['logConfiguration']['logDriver']}")
    return tuple(sorted(needed))


def _completed(container: Document) -> Document:
    """The defaults that ECS writes into a container definition."""
    completed: dict[str, Any] = {
        "cpu": 0,
        "essential": True,
        "environment": [],
        "mountPoints": [],
        "volumesFrom": [],
    }
    completed |= container
    completed["portMappings"] = [
        {"protocol": "tcp", **port, "hostPort": port["containerPort"]}
        for port in container.get("portMappings", [])
    ]
    if "healthCheck" in container:
        completed["healthCheck"] = {"interval": 30, "timeout": 5, "retries": 3, **container["healthCheck"]}
    completed.setdefault("systemControls", [])
    return completed
