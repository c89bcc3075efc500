"""Payloads shaped exactly as the recorded ones, from a short description of a task."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

ACCOUNT = "111122223333"
REGION = "us-west-2"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Names:
    """The ARNs of one account, region and cluster."""

    cluster: str
    region: str = REGION
    account: str = ACCOUNT

    def arn(self, rest: str) -> str:
        """``arn:aws:ecs:<region>:<account>:<rest>``."""
        return f"arn:aws:ecs:{self.region}:{self.account}:{rest}"

    @property
    def cluster_arn(self) -> str:
        """The cluster's ARN."""
        return self.arn(f"cluster/{self.cluster}")

    def new_task_arn(self) -> str:
        """A task's ARN that was never given before."""
        return self.arn(f"task/{self.cluster}/{uuid.uuid4().hex}")

    def new_instance_arn(self) -> str:
        """A container instance's ARN that was never given before."""
        return self.arn(f"container-instance/{self.cluster}/{uuid.uuid4().hex}")

    def new_attachment_arn(self) -> str:
        """An attachment's ARN that was never given before."""
        return self.arn(f"attachment/{uuid.uuid4()}")

    def container_arn(self, task_arn: str, name: str) -> str:
        """The same for the same container of the same task, always."""
        task_id = task_arn.rpartition("/")[2]
        return self.arn(f"container/{self.cluster}/{task_id}/{uuid.uuid5(uuid.UUID(task_id), name)}")

    def role_arn(self, role: str) -> str:
        """The ARN of an IAM role of the account."""
        return f"arn:aws:iam::{self.account}:role/{role}"


@dataclass(frozen=True, slots=True)
class RoleCredentials:
    """Temporary keys of a role, as payloads carry them. All of it is made up."""

    credentials_id: str
    role_arn: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: datetime

    def document(self) -> Json:
        """As on the wire."""
        return {
            "credentialsId": self.credentials_id,
            "roleArn": self.role_arn,
            "accessKeyId": self.access_key_id,
            "secretAccessKey": self.secret_access_key,
            "sessionToken": self.session_token,
            "expiration": self.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


def role_credentials(
    role_arn: str, now: datetime, seconds: float = 3600.0, credentials_id: str | None = None
) -> RoleCredentials:
    """New keys of that role; with a ``credentials_id`` they replace older ones."""
    secret = uuid.uuid4().hex
    return RoleCredentials(
        credentials_id or str(uuid.uuid4()),
        role_arn,
        f"EXAMPLEKEYID{uuid.uuid4().hex[:14].upper()}",
        f"fake-secret-{secret}",
        f"fake-token-{secret * 8}",
        (now.astimezone(UTC) + timedelta(seconds=seconds)).replace(microsecond=0),
    )


@dataclass(frozen=True, slots=True)
class Eni:
    """A task's network interface as messages describe it. ``gateway`` with its prefix, such as 10.77.0.1/16."""

    mac: str
    ipv4: str
    gateway: str = "10.77.0.1/16"
    attachment_arn: str = ""
    ec2_id: str = "eni-0fk00000000000000"
    ipv6: str | None = None
    ipv6_gateway: str | None = None
    dns: tuple[str, ...] = ("10.77.0.2",)
    search: tuple[str, ...] = (f"{REGION}.compute.internal",)

    def document(self) -> Json:
        """As on the wire."""
        host = f"ip-{self.ipv4.replace('.', '-')}"
        made: Json = {
            "attachmentArn": self.attachment_arn,
            "ec2Id": self.ec2_id,
            "macAddress": self.mac,
            "interfaceAssociationProtocol": "default",
            "ipv4Addresses": [{"primary": True, "privateAddress": self.ipv4}],
            "ipv6Addresses": [],
            "domainName": list(self.search),
            "domainNameServers": list(self.dns),
            "privateDnsName": f"{host}.{self.search[0]}" if self.search else host,
            "subnetGatewayIpv4Address": self.gateway,
        }
        if self.ipv6 is not None:
            made["ipv6Addresses"] = [{"primary": True, "address": self.ipv6}]
        if self.ipv6_gateway is not None:
            made["subnetGatewayIpv6Address"] = self.ipv6_gateway
        return made


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """One container. ``more`` are further members of the wire's container, or others instead of those made here.

    ``depends_on``: name to condition. ``mounts``: volume, path, whether read-only. ``command_override`` comes in
    the encoded ``overrides``. ``config`` and ``host_config``: Docker's casing, encoded into ``dockerConfig``.
    """

    name: str
    image: str
    command: tuple[str, ...] | None = None
    entry_point: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    cpu: int = 10
    memory: int = 16
    is_essential: bool = True
    ports: tuple[int, ...] = ()
    mounts: tuple[tuple[str, str, bool], ...] = ()
    depends_on: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    host_config: Mapping[str, Any] = field(default_factory=dict)
    command_override: tuple[str, ...] | None = None
    start_timeout: int | None = None
    stop_timeout: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """A task. ``host_volumes``: name to path on the host, or None for an empty one of the task's own.

    ``role`` and ``execution_role``: names of IAM roles whose keys come with the payload, or None.
    ``more`` as for containers.
    """

    containers: tuple[ContainerPlan, ...]
    family: str = "fkone"
    version: str = "1"
    network_mode: str = "awsvpc"
    cpu: float | None = None
    memory: int | None = 32
    host_volumes: Mapping[str, str | None] = field(default_factory=dict)
    role: str | None = "fkTaskRole"
    execution_role: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def one_container(image: str, *command: str, name: str = "app", **more: Any) -> TaskPlan:
    """A task of one container; ``more`` are fields of ``TaskPlan``."""
    return TaskPlan((ContainerPlan(name, image, command=command or None),), **more)


def task_document(
    plan: TaskPlan,
    names: Names,
    task_arn: str,
    *,
    desired_status: str = "RUNNING",
    enis: tuple[Eni, ...] = (),
    credentials: RoleCredentials | None = None,
    execution_credentials: RoleCredentials | None = None,
) -> Json:
    """The task as an element of a payload's ``tasks``."""
    made: Json = {
        "arn": task_arn,
        "taskClusterArn": names.cluster_arn,
        "desiredStatus": desired_status,
        "family": plan.family,
        "version": plan.version,
        "overrides": "{}",
        "taskDefinitionAccountId": names.account,
        "launchType": "EC2",
        "networkMode": plan.network_mode,
        "volumes": [
            {"name": name, "type": "host", "host": {"sourcePath": path} if path else {}}
            for name, path in plan.host_volumes.items()
        ],
        "elasticNetworkInterfaces": [eni.document() for eni in enis],
        "associations": [],
        "containers": [
            _container(each, plan, names.container_arn(task_arn, each.name)) for each in plan.containers
        ],
    }
    if plan.cpu is not None:
        made["cpu"] = plan.cpu
    if plan.memory is not None:
        made["memory"] = plan.memory
    if credentials is not None:
        made["roleCredentials"] = credentials.document()
    if execution_credentials is not None:
        made["executionRoleCredentials"] = execution_credentials.document()
    return {**made, **plan.more}


def _container(plan: ContainerPlan, task: TaskPlan, arn: str) -> Json:
    mode = {} if task.network_mode == "awsvpc" else {"NetworkMode": task.network_mode}
    overrides = {} if plan.command_override is None else {"command": list(plan.command_override)}
    made: Json = {
        "name": plan.name,
        "image": plan.image,
        "cpu": plan.cpu,
        "memory": plan.memory,
        "essential": plan.is_essential,
        "environment": dict(plan.environment),
        "portMappings": [{"containerPort": port, "hostPort": port, "protocol": "tcp"} for port in plan.ports],
        "mountPoints": [
            {"sourceVolume": volume, "containerPath": path, "readOnly": is_read_only}
            for volume, path, is_read_only in plan.mounts
        ],
        "volumesFrom": [],
        "links": [],
        "overrides": json.dumps(overrides),
        "dependsOn": [
            {"containerName": name, "condition": condition} for name, condition in plan.depends_on.items()
        ],
        "dockerConfig": {
            "version": "1.19",
            "config": json.dumps(dict(plan.config)),
            "hostConfig": json.dumps({"CapAdd": [], "CapDrop": [], **mode, **plan.host_config}),
        },
        "containerArn": arn,
    }
    optional = {
        "command": list(plan.command) if plan.command is not None else None,
        "entryPoint": list(plan.entry_point) if plan.entry_point is not None else None,
        "startTimeout": plan.start_timeout,
        "stopTimeout": plan.stop_timeout,
    }
    return {**made, **{name: value for name, value in optional.items() if value is not None}, **plan.more}
