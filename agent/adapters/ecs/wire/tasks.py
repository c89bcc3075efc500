"""A task of a payload to the ``TaskSpec`` that the agent runs (ecs-protocol 2.4). Pure.

What is not known is ignored. What is known and not supported is refused by name: a task that runs otherwise
than it was ordered is worse than one that does not run.
"""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from agent.adapters.ecs.wire.containers import (
    Contradiction,
    Unsupported,
    mount_path,
    overlaid,
    read_container,
)
from agent.adapters.ecs.wire.fields import BadField, Fields
from agent.adapters.ecs.wire.interfaces import AssociationProtocol, network_interface, read_interface
from agent.adapters.ecs.wire.messages import (
    RoleCredentials,
    credentials_id,
    has_secrets,
    read_credentials,
)
from agent.model.errors import AgentError
from agent.model.ids import CredentialsId, MacAddress, RoleArn, TaskArn
from agent.model.spec import (
    ContainerSpec,
    NetworkInterface,
    NetworkMode,
    PullBehavior,
    TaskRole,
    TaskSpec,
    Volume,
)

UNREADABLE = "UnrecogniedTaskError: Error loading task - "
"""How the reason of a task begins that cannot be begun. The misspelling is on the wire (ecs-protocol 2.4)."""

CPU_UNITS = 1024
"""Of one core."""

MOST_CORES = 100_000

_ROLES = ("roleCredentials", "executionRoleCredentials")
_KEPT = ("credentialsId", "roleArn")
_ARN = re.compile(r"arn:[^:\s]+:ecs:[^:\s]*:[^:\s]*:task/(?:[A-Za-z0-9_-]+/)?[A-Za-z0-9_-]+", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_.-]*", re.ASCII)
_VOLUME_TYPES = ("docker", "efs", "fsxWindowsFileServer", "amazonebs", "s3files", "attachment")
_ATTACHMENT_TYPES = {
    "serviceconnectdetail": "Service Connect",
    "amazonebs": "volumes of EBS",
    "s3files": "volumes of S3 Files",
}
_NOT_SUPPORTED = "this agent does not support that"


class InvalidTask(AgentError):
    """A task that cannot be run. ``arn`` None: it cannot even be told which.

    ``is_understood``: the payload is well formed, and ECS would take it and then stop the task by itself;
    ``detail`` has the name of the error then.
    """

    def __init__(self, detail: str, arn: str | None, *, is_understood: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.arn = arn
        self.is_understood = is_understood

    @property
    def reason(self) -> str:
        """The reason to report with STOPPED."""
        return self.detail if self.is_understood else UNREADABLE + self.detail


@dataclass(frozen=True, slots=True)
class TaskPlace:
    """What a payload does not say. ``expires_at``: until when an interface, by its MAC address, may come."""

    cluster: str
    pull_behavior: PullBehavior
    expires_at: Callable[[MacAddress], datetime]


@dataclass(frozen=True, slots=True)
class ReadTask:
    """A task that can be run. Credentials are None where the payload has none, or only their id."""

    spec: TaskSpec
    stop: bool
    task_credentials: RoleCredentials | None
    execution_credentials: RoleCredentials | None


def read_task(raw: Mapping[str, Any], place: TaskPlace) -> ReadTask:
    """Read one entry of ``tasks``. Raise ``InvalidTask``, whose text has no secrets."""
    arn = task_arn(raw)
    try:
        return _read(Fields(raw), place)
    except (BadField, Unsupported) as error:
        raise InvalidTask(str(error), arn) from error
    except Contradiction as error:
        raise InvalidTask(str(error), arn, is_understood=True) from error


def task_arn(raw: Mapping[str, Any]) -> str | None:
    """The task's ARN, if that much is readable."""
    arn = raw.get("arn")
    return arn if isinstance(arn, str) and _ARN.fullmatch(arn) else None


def desired_stop(raw: Mapping[str, Any]) -> bool:
    """Whether the task shall stop; false where that is not readable."""
    return raw.get("desiredStatus") == "STOPPED"


def without_secrets(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which the roles have kept their ids and names alone; ``read_task`` takes it as well."""
    kept = copy.deepcopy(dict(raw))
    for name in _ROLES:
        role = kept.pop(name, None)
        if isinstance(role, dict):
            kept[name] = {key: role[key] for key in _KEPT if isinstance(role.get(key), str)}
    return kept


def _read(task: Fields, place: TaskPlace) -> ReadTask:
    arn = task_arn(task.document)
    if arn is None:
        raise BadField("arn", "arn:<partition>:ecs:<region>:<account>:task/<cluster>/<id>", task.get("arn"))
    stop = _stop(task)
    _refuse_unsupported(task)
    volumes = _volumes(task)
    containers = _containers(task)
    network = _network(task, place)
    cpu, memory = _cpu(task), task.whole("memory") or None
    task_role, task_credentials = _role(task, "roleCredentials")
    execution_role, execution_credentials = _role(task, "executionRoleCredentials")
    _check_mounts(containers, volumes)
    _check_order(arn, containers)
    _check_memory(arn, containers, memory)
    spec = TaskSpec(
        arn=TaskArn(arn),
        cluster=place.cluster,
        family=_part_of_a_name(task, "family"),
        revision=_part_of_a_name(task, "version"),
        containers=containers,
        network=network,
        volumes=volumes,
        cpu=cpu,
        memory=memory,
        task_role=task_role,
        execution_role=execution_role,
        group=task.text("group"),
        launch_type=task.text("launchType") or "EC2",
        pull_behavior=place.pull_behavior,
    )
    return ReadTask(spec, stop, task_credentials, execution_credentials)


def _stop(task: Fields) -> bool:
    value = task.needed_text("desiredStatus")
    if value not in ("RUNNING", "STOPPED"):
        raise BadField("desiredStatus", "RUNNING or STOPPED", value)
    return desired_stop(task.document)


def _refuse_unsupported(task: Fields) -> None:
    mode = task.text("networkMode") or "bridge"
    if mode != NetworkMode.AWSVPC:
        raise Unsupported(f"the task asks for network mode {mode}; this agent supports only awsvpc")
    wishes = {
        "associations": "associations (GPUs, Elastic Inference)",
        "proxyConfiguration": "a proxy (App Mesh)",
        "pidMode": f"pidMode {task.text('pidMode')}",
        "ipcMode": f"ipcMode {task.text('ipcMode')}" if task.text("ipcMode") != "none" else "",
        "enableFaultInjection": "fault injection" if task.flag("enableFaultInjection") else "",
    }
    for name, wish in wishes.items():
        if wish and task.is_set(name):
            raise Unsupported(f"the task asks for {wish}; {_NOT_SUPPORTED}")
    isolation = task.object("trustedExecutionConfiguration")
    if isolation is not None and isolation.text("isolationMode") not in ("", "SHARED"):
        mode = isolation.text("isolationMode")
        raise Unsupported(f"the task asks for isolationMode {mode}; this agent supports only SHARED")
    for attachment in task.objects("attachments"):
        wish = _ATTACHMENT_TYPES.get(attachment.text("attachmentType").lower(), "")
        if wish:
            raise Unsupported(f"the task asks for {wish}; {_NOT_SUPPORTED}")


def _containers(task: Fields) -> tuple[ContainerSpec, ...]:
    containers = tuple(read_container(each) for each in task.objects("containers"))
    if not containers:
        raise BadField("containers", "at least one container")
    names = [each.name for each in containers]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise BadField(f"containers[{number}].name", "a name that no other container has", name)
    if task.text("ipcMode") == "none":
        # The agent itself sets this, after what the payload has for Docker (ecs-protocol 5.2 and 5.7).
        return tuple(replace(each, overlay=overlaid(each.overlay, IpcMode="none")) for each in containers)
    return containers


def _network(task: Fields, place: TaskPlace) -> NetworkInterface:
    interfaces = task.objects("elasticNetworkInterfaces")
    if len(interfaces) != 1:
        raise Unsupported(
            f"the task has {len(interfaces)} elastic network interfaces; this agent supports exactly one"
        )
    eni = read_interface(interfaces[0])
    if eni.protocol is not AssociationProtocol.DEFAULT:
        raise Unsupported(
            f"the task's network interface {eni.ec2_id} is connected by {eni.protocol} (a trunk's branch); "
            f"{_NOT_SUPPORTED}"
        )
    return network_interface(eni, place.expires_at(eni.mac_address))


def _cpu(task: Fields) -> int | None:
    cores = task.number("cpu", most=MOST_CORES)
    return round(cores * CPU_UNITS) or None if cores else None


def _role(task: Fields, name: str) -> tuple[TaskRole | None, RoleCredentials | None]:
    role = task.object(name)
    if role is None:
        return None, None
    task_role = TaskRole(RoleArn(role.text("roleArn")), CredentialsId(credentials_id(role)))
    return task_role, read_credentials(role) if has_secrets(role) else None


def _part_of_a_name(task: Fields, name: str) -> str:
    """A text that becomes part of Docker's names for containers and volumes."""
    value = task.text(name)
    if not _NAME.fullmatch(value):
        raise BadField(name, "letters, digits, dots, dashes and underscores", value)
    return value


def _volumes(task: Fields) -> tuple[Volume, ...]:
    volumes: dict[str, Volume] = {}
    for fields in task.objects("volumes"):
        name = fields.text("name")
        if not name:
            raise Unsupported("invalid Volume; must include a name")
        if name in volumes:
            raise BadField(fields.at("name"), "a name that no other volume has", name)
        kind = fields.text("type") or "host"
        if kind in _VOLUME_TYPES:
            raise Unsupported(f"volume {name} is of type {kind}; this agent supports only type host")
        if kind != "host":
            raise Unsupported(f'unrecognized volume type: "{kind}"')
        host = fields.object("host")
        path = "" if host is None else host.text("sourcePath")
        if host is not None and path:
            path = mount_path(host, "sourcePath", path)
        volumes[name] = Volume(name, path or None)
    return tuple(volumes.values())


def _check_mounts(containers: tuple[ContainerSpec, ...], volumes: tuple[Volume, ...]) -> None:
    known = {each.name for each in volumes}
    for container in containers:
        for mount in container.mount_points:
            if mount.volume not in known:
                raise Contradiction(f"HostConfigError: Invalid volume referenced: {mount.volume}")


def _check_order(arn: str, containers: tuple[ContainerSpec, ...]) -> None:
    """Start what can be started until nothing is left; what stays waits for itself, or for nobody."""
    waiting = {each.name: {other.container for other in each.depends_on} for each in containers}
    while waiting:
        ready = {name for name, others in waiting.items() if not others}
        if not ready:
            raise Contradiction(f"TaskDependencyError: Task dependencies cannot be resolved, taskArn: {arn}")
        waiting = {name: others - ready for name, others in waiting.items() if name not in ready}


def _check_memory(arn: str, containers: tuple[ContainerSpec, ...], limit: int | None) -> None:
    for container in containers:
        if limit is not None and container.memory is not None and container.memory > limit:
            raise Contradiction(
                f"ResourceInitializationError: resource cannot be initialized for task {arn}: task memory "
                f"spec builder: container memory limit({container.memory}) greater than task memory "
                f"limit({limit})"
            )
