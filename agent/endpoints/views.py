"""What is shown of a task, as JSON. Pure. No credentials ids, no environment, no commands."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from agent.endpoints.health import IMPAIRED, OK, ComponentHealth
from agent.lifecycle.derive import task_status
from agent.model.channels import ChannelStatus
from agent.model.explanation import Explanation
from agent.model.spec import ContainerSpec, TaskSpec
from agent.model.state import Container, InFlight, Sandbox, TaskState, Trouble
from agent.model.status import Goal, TaskStatus

Json = dict[str, Any]

EMPTY_TASK: Json = {"Arn": "", "KnownStatus": "", "Family": "", "Version": "", "Containers": None}
"""What the ECS agent answers when no single task fits the question."""


def ecs_task(task: TaskState) -> Json:
    """A task as the ECS agent's ``/v1/tasks`` shows it (ecs-protocol 7.7)."""
    known = task_status(task)
    desired = TaskStatus.RUNNING if task.goal is Goal.RUN else TaskStatus.STOPPED
    view: Json = {"Arn": task.arn}
    if not (known is TaskStatus.STOPPED and desired is not TaskStatus.STOPPED):
        view["DesiredStatus"] = desired.value
    return view | {
        "KnownStatus": known.value,
        "Family": task.spec.family,
        "Version": task.spec.revision,
        "Containers": [_ecs_container(task.spec, *pair) for pair in task.with_specs()],
    }


def full_task(task: TaskState) -> Json:
    """Everything that the agent knows of a task and may show. Times are RFC 3339, absent things are null."""
    network = task.spec.network
    return {
        "arn": task.arn,
        "id": task.task_id,
        "cluster": task.spec.cluster,
        "family": task.spec.family,
        "revision": task.spec.revision,
        "group": task.spec.group,
        "status": task_status(task).value,
        "goal": task.goal.name,
        "reason": str(task.reason) if task.reason else None,
        "accepted_at": moment(task.accepted_at),
        "started_at": moment(task.started_at),
        "stop_requested_at": moment(task.stop_requested_at),
        "execution_stopped_at": moment(task.execution_stopped_at),
        "stopped_at": moment(task.stopped_at),
        "network": {
            "mode": task.spec.network_mode.value,
            "attachment_arn": network.attachment_arn,
            "eni_id": network.eni_id,
            "subnet_id": network.subnet_id,
            "mac_address": network.mac_address,
            "ipv4_addresses": [str(address) for address in network.ipv4_addresses],
            "ipv6_addresses": [str(address) for address in network.ipv6_addresses],
            "expires_at": moment(network.expires_at),
        },
        "sandbox": _sandbox(task.sandbox),
        "containers": [_container(*pair) for pair in task.with_specs()],
    }


def explanations(task: TaskState, waits: Sequence[Explanation], now: datetime) -> Json:
    """Why a task is not where it should be. Ages are in seconds."""
    return {
        "task": task.arn,
        "status": task_status(task).value,
        "goal": task.goal.name,
        "reason": str(task.reason) if task.reason else None,
        "waits": [
            {
                "subject": wait.subject,
                "status": wait.status,
                "goal": wait.goal,
                "waits_for": wait.waits_for,
                "cause": wait.cause,
                "since": moment(wait.since),
                "until": moment(wait.until),
                "then": wait.then,
                "age": max(0.0, round((now - wait.since).total_seconds(), 3)),
            }
            for wait in waits
        ],
    }


def health_document(
    components: Sequence[ComponentHealth], channels: Sequence[ChannelStatus], now: datetime
) -> Json:
    """What is wrong, or that nothing is; and the connections to the control plane, if there are any."""
    impaired = [component for component in components if component.status == IMPAIRED]
    document: Json = {
        "status": IMPAIRED if impaired else OK,
        "reasons": [
            {
                "component": component.component,
                "status": component.status,
                "since": moment(component.since),
                "reason": component.reason,
            }
            for component in impaired
        ],
    }
    return document | {"channels": [_channel(each, now) for each in channels]} if channels else document


def moment(at: datetime | None) -> str | None:
    """A time as Go writes it: RFC 3339 in UTC, with no more digits than there are."""
    if at is None:
        return None
    fraction = f".{at.microsecond:06d}".rstrip("0") if at.microsecond else ""
    return f"{at:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _channel(channel: ChannelStatus, now: datetime) -> Json:
    """``age_seconds``: of the last message that was understood; null: there was none."""
    last = channel.last_message_at
    return {
        "name": channel.name,
        "state": channel.state.value,
        "since": moment(channel.since),
        "last_message_at": moment(last),
        "age_seconds": None if last is None else max(0.0, round((now - last).total_seconds(), 3)),
        "problem": channel.problem,
    }


def _ecs_container(task: TaskSpec, container: Container, spec: ContainerSpec) -> Json:
    network = task.network
    view: Json = {
        "DockerId": container.container_id or "",
        "DockerName": container.docker_name,
        "Name": container.name,
        "Image": spec.image,
        "ImageID": container.image_id,
    }
    addresses = {
        "IPv4Addresses": [str(address.ip) for address in network.ipv4_addresses],
        "IPv6Addresses": [str(address.ip) for address in network.ipv6_addresses],
    }
    optional = {
        "CreatedAt": moment(container.created_at),
        "StartedAt": moment(container.started_at),
        "Ports": [
            {"ContainerPort": port.container_port, "Protocol": port.protocol, "HostPort": port.host_port}
            for port in spec.port_mappings
        ],
        "Networks": [
            {"NetworkMode": task.network_mode.value}
            | {key: found for key, found in addresses.items() if found}
        ],
        "Volumes": _volumes(task, spec),
    }
    return view | {key: value for key, value in optional.items() if value}


def _volumes(task: TaskSpec, spec: ContainerSpec) -> list[Json]:
    sources = {volume.name: volume.host_path for volume in task.volumes}
    return [
        {"DockerName": mount.volume, "Destination": mount.container_path}
        if sources.get(mount.volume) is None
        else {
            "DockerName": mount.volume,
            "Source": sources[mount.volume],
            "Destination": mount.container_path,
        }
        for mount in spec.mount_points
    ]


def _sandbox(sandbox: Sandbox) -> Json:
    return {
        "status": sandbox.status.name,
        "goal": sandbox.goal.name,
        "since": moment(sandbox.since),
        "docker_name": sandbox.docker_name,
        "container_id": sandbox.container_id,
        "pid": sandbox.pid,
        "local_ipv4": sandbox.attachment.local_ipv4 if sandbox.attachment else None,
        "interface_seen_at": moment(sandbox.interface_seen_at),
        "in_flight": _in_flight(sandbox.in_flight),
        "trouble": _trouble(sandbox.trouble),
    }


def _container(container: Container, spec: ContainerSpec) -> Json:
    return {
        "name": container.name,
        "essential": spec.essential,
        "image": spec.image,
        "status": container.status.name,
        "goal": container.goal.name,
        "since": moment(container.since),
        "docker_name": container.docker_name,
        "container_id": container.container_id,
        "image_id": container.image_id or None,
        "image_digest": container.image_digest or None,
        "pid": container.pid,
        "pull_started_at": moment(container.pull_started_at),
        "pull_stopped_at": moment(container.pull_stopped_at),
        "created_at": moment(container.created_at),
        "started_at": moment(container.started_at),
        "finished_at": moment(container.finished_at),
        "exit_code": container.exit_code,
        "health": container.health.value,
        "health_since": moment(container.health_since),
        "reason": str(container.reason) if container.reason else None,
        "ports": [
            {"container_port": port.container_port, "host_port": port.host_port, "protocol": port.protocol}
            for port in spec.port_mappings
        ],
        "in_flight": _in_flight(container.in_flight),
        "trouble": _trouble(container.trouble),
    }


def _in_flight(flight: InFlight | None) -> Json | None:
    if flight is None:
        return None
    return {
        "step": flight.step.name.value,
        "number": flight.step.number,
        "since": moment(flight.since),
        "until": moment(flight.until),
    }


def _trouble(trouble: Trouble | None) -> Json | None:
    if trouble is None:
        return None
    return {
        "reason": str(trouble.reason),
        "failures": trouble.failures,
        "since": moment(trouble.since),
        "retry_at": moment(trouble.retry_at),
    }
