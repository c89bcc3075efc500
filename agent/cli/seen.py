"""Tasks as this machine's agent sees them (its introspection API), in the words of the ECS API."""

from typing import Any

from agent.cli.connection import Connection
from agent.cli.failures import NOT_FOUND, USAGE, Failure
from agent.cli.output import moment


def tasks_seen(connection: Connection, cluster: str = "") -> list[dict[str, Any]]:
    """Every task that the agent knows, as the ECS API would describe it. ``cluster``: only of this one."""
    documents = full_tasks(connection)
    named = cluster.rsplit("/", 1)[-1]
    return [as_ecs(each) for each in documents if not named or _cluster_of(each) == named]


def full_tasks(connection: Connection) -> list[dict[str, Any]]:
    """Every task that the agent knows, with all that it tells of it."""
    documents: list[dict[str, Any]] = connection.get("/berth/v1/tasks").get("tasks") or []
    return documents


def containers_of(connection: Connection, named: str) -> list[str]:
    """The names of a task's containers. ``named``: ARN, id, or the beginning of an id. Raise ``Failure``."""
    identity = named.rsplit("/", 1)[-1].lower()
    found = [each for each in full_tasks(connection) if str(each["id"]).startswith(identity)]
    if not found:
        raise Failure(f"task {named!r} is not known to this agent; berth ps lists them", NOT_FOUND)
    if len(found) > 1:
        candidates = ", ".join(str(each["id"]) for each in found)
        raise Failure(f"task {named!r} is ambiguous; it could be {candidates}", USAGE)
    return [str(each["name"]) for each in found[0].get("containers") or []]


def as_ecs(seen: dict[str, Any]) -> dict[str, Any]:
    """A task of the introspection API in the form of DescribeTasks. What is not known is left out."""
    arn = str(seen["arn"])
    prefix, _, rest = arn.partition(":task/")
    network = seen.get("network") or {}
    addresses = network.get("ipv4_addresses") or []
    details = {
        "networkInterfaceId": network.get("eni_id"),
        "macAddress": network.get("mac_address"),
        "subnetId": network.get("subnet_id"),
        "privateIPv4Address": str(addresses[0]).partition("/")[0] if addresses else None,
    }
    task = {
        "taskArn": arn,
        "clusterArn": f"{prefix}:cluster/{rest.split('/')[0] if '/' in rest else _cluster_of(seen)}",
        "taskDefinitionArn": f"{prefix}:task-definition/{seen.get('family')}:{seen.get('revision')}",
        "group": seen.get("group"),
        "lastStatus": seen.get("status"),
        "desiredStatus": "RUNNING" if seen.get("goal") == "RUN" else "STOPPED",
        "healthStatus": _health(seen),
        "createdAt": _epoch(seen.get("accepted_at")),
        "startedAt": _epoch(seen.get("started_at")),
        "stoppingAt": _epoch(seen.get("stop_requested_at")),
        "executionStoppedAt": _epoch(seen.get("execution_stopped_at")),
        "stoppedAt": _epoch(seen.get("stopped_at")),
        "stoppedReason": seen.get("reason"),
        "containers": [_container(each) for each in seen.get("containers") or []],
        "attachments": [
            {
                "type": "ElasticNetworkInterface",
                "details": [{"name": name, "value": value} for name, value in details.items() if value],
            }
        ],
    }
    return {name: value for name, value in task.items() if value is not None}


def timeline(task: dict[str, Any], seen: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What has happened to a task, the oldest first: ``at`` (seconds since 1970), ``subject``, ``event``.

    ``task``: as DescribeTasks has it; ``seen``: as the agent that runs it tells it, if it does.
    """
    events: dict[tuple[str, str], float] = {}
    for name, text in _OF_ECS.items():
        if at := moment(task.get(name)):
            events["task", text] = at.timestamp()
    for container in (seen or {}).get("containers") or []:
        for name, text in _OF_CONTAINERS.items():
            if at := moment(container.get(name)):
                events[str(container["name"]), text.format(**container)] = at.timestamp()
        if container.get("health") in ("HEALTHY", "UNHEALTHY") and (at := moment(container["health_since"])):
            events[str(container["name"]), f"found {container['health']}"] = at.timestamp()
    if seen is not None:
        for name, text in _OF_AGENT.items():
            if at := moment(seen.get(name) or (seen.get("sandbox") or {}).get(name)):
                events["task", text] = at.timestamp()
    ordered = sorted(events.items(), key=lambda item: item[1])
    return [{"at": at, "subject": subject, "event": event} for (subject, event), at in ordered]


def _container(seen: dict[str, Any]) -> dict[str, Any]:
    status = str(seen.get("status"))
    container = {
        "name": seen.get("name"),
        "lastStatus": "PENDING" if status not in ("RUNNING", "STOPPED") else status,
        "healthStatus": seen.get("health"),
        "exitCode": seen.get("exit_code"),
        "image": seen.get("image"),
        "imageDigest": seen.get("image_digest"),
        "runtimeId": seen.get("container_id"),
        "reason": seen.get("reason"),
    }
    return {name: value for name, value in container.items() if value is not None}


def _health(seen: dict[str, Any]) -> str:
    healths = {each.get("health") for each in seen.get("containers") or [] if each.get("essential")}
    if "UNHEALTHY" in healths:
        return "UNHEALTHY"
    return "HEALTHY" if healths == {"HEALTHY"} else "UNKNOWN"


def _cluster_of(seen: dict[str, Any]) -> str:
    return str(seen.get("cluster") or "").rsplit("/", 1)[-1]


def _epoch(value: object) -> float | None:
    at = moment(value)
    return at.timestamp() if at else None


_OF_ECS = {
    "createdAt": "was created",
    "pullStartedAt": "began to pull images",
    "pullStoppedAt": "had pulled its images",
    "connectivityAt": "was connected",
    "startedAt": "was RUNNING",
    "stoppingAt": "was asked to stop",
    "executionStoppedAt": "had no essential container that runs any more",
    "stoppedAt": "was STOPPED",
}
_OF_AGENT = {
    "accepted_at": "was accepted by the agent",
    "interface_seen_at": "had its network interface on this machine",
    "started_at": "was RUNNING",
    "stop_requested_at": "was asked to stop",
    "execution_stopped_at": "had no essential container that runs any more",
    "stopped_at": "was STOPPED",
}
_OF_CONTAINERS = {
    "pull_started_at": "began to be pulled",
    "pull_stopped_at": "was pulled",
    "created_at": "was created",
    "started_at": "was started",
    "finished_at": "ended with exit code {exit_code}",
}
