"""What a backend asks for. The agent never changes a spec."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Interface, IPv6Interface

from agent.model.ids import CredentialsId, MacAddress, RoleArn, TaskArn, TaskId, task_id
from agent.model.pulling import PullBehavior as PullBehavior  # noqa: PLC0414 - a part of what a task is

Pairs = tuple[tuple[str, str], ...]
"""A mapping as sorted or ordered pairs, so that a spec stays immutable and hashable."""


class NetworkMode(StrEnum):
    """How a task is joined to the network. Only awsvpc has an elastic network interface of its own."""

    AWSVPC = "awsvpc"


class Condition(StrEnum):
    """What a container waits for before it starts (``dependsOn`` of a task definition)."""

    START = "START"
    COMPLETE = "COMPLETE"
    SUCCESS = "SUCCESS"
    HEALTHY = "HEALTHY"


@dataclass(frozen=True, slots=True)
class Dependency:
    """One entry of ``dependsOn``."""

    container: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A Docker health check. ``command`` starts with ``CMD`` or ``CMD-SHELL``; times are in seconds."""

    command: tuple[str, ...]
    interval: int = 30
    timeout: int = 5
    retries: int = 3
    start_period: int = 0


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port that a container serves. In awsvpc the host port equals the container port."""

    container_port: int
    host_port: int
    protocol: str = "tcp"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A volume as a container sees it."""

    volume: str
    container_path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of a task. ``host_path`` None: empty, made for the task and removed with it."""

    name: str
    host_path: str | None = None


@dataclass(frozen=True, slots=True)
class Ulimit:
    """A resource limit of a container's processes, by its Docker name (``nofile``, ``nproc`` …)."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class LogConfiguration:
    """Which Docker log driver takes a container's output, with its options."""

    driver: str
    options: Pairs = ()


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """A memory file system inside a container. ``size`` in MiB."""

    container_path: str
    size: int
    mount_options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the machine that a container may use. ``permissions`` as Docker writes them: ``rwm``."""

    host_path: str
    container_path: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class LinuxParameters:
    """``linuxParameters`` of a container definition. ``shared_memory_size`` in MiB."""

    init_process: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    shared_memory_size: int | None = None
    tmpfs: tuple[Tmpfs, ...] = ()
    devices: tuple[Device, ...] = ()


class LoginSource(StrEnum):
    """Who knows the login to a private registry (``registryAuthentication`` of a payload)."""

    ECR = "ecr"
    SECRETS_MANAGER = "asm"


@dataclass(frozen=True, slots=True)
class RegistryAuthentication:
    """Where a container's image gets its login from.

    ECR: ``account`` (of the registry), ``region``, perhaps another ``endpoint``, and whether the task's
    execution role asks instead of the machine. Secrets Manager: the ``secret`` (name or ARN) and ``region``;
    always the execution role asks.
    """

    source: LoginSource
    region: str = ""
    account: str = ""
    endpoint: str = ""
    uses_execution_role: bool = False
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class DockerOverlay:
    """Docker Engine JSON that the backend lays over what the agent computes; its keys win.

    ``config`` and ``host_config`` are the text of JSON objects as Docker's create call has them
    (``dockerConfig`` of a payload, ecs-protocol 2.4 and 5.2); empty: nothing.
    """

    config: str = ""
    host_config: str = ""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container of a task.

    ``cpu`` in CPU shares (1024 = one core), ``memory`` (hard) and ``memory_reservation`` (soft) in MiB.
    ``start_timeout`` and ``stop_timeout`` in seconds. ``command``/``entry_point`` None: the image's own.
    ``arn`` is empty where the backend gives containers none. ``registry`` None: the image's name and the
    machine's settings decide about a login.
    """

    name: str
    image: str
    essential: bool = True
    cpu: int = 0
    memory: int | None = None
    memory_reservation: int | None = None
    command: tuple[str, ...] | None = None
    entry_point: tuple[str, ...] | None = None
    environment: Pairs = ()
    working_directory: str | None = None
    user: str | None = None
    depends_on: tuple[Dependency, ...] = ()
    start_timeout: int | None = None
    stop_timeout: int | None = None
    health_check: HealthCheck | None = None
    port_mappings: tuple[PortMapping, ...] = ()
    mount_points: tuple[MountPoint, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    log_configuration: LogConfiguration | None = None
    linux: LinuxParameters = LinuxParameters()
    docker_labels: Pairs = ()
    security_options: tuple[str, ...] = ()
    system_controls: Pairs = ()
    privileged: bool = False
    read_only_root: bool = False
    interactive: bool = False
    pseudo_terminal: bool = False
    arn: str = ""
    registry: RegistryAuthentication | None = None
    overlay: DockerOverlay = DockerOverlay()


@dataclass(frozen=True, slots=True)
class NetworkInterface:
    """The elastic network interface (ENI) of an awsvpc task.

    Addresses carry the subnet's prefix (``10.0.1.5/24``), gateways are plain addresses. ``expires_at``: an
    interface that has not appeared by then never will, and the task is stopped with that reason.
    """

    attachment_arn: str
    eni_id: str
    subnet_id: str
    mac_address: MacAddress
    ipv4_addresses: tuple[IPv4Interface, ...]
    gateways: tuple[str, ...]
    expires_at: datetime
    ipv6_addresses: tuple[IPv6Interface, ...] = ()
    private_dns_name: str = ""
    dns_servers: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    mtu: int | None = None


@dataclass(frozen=True, slots=True)
class TaskRole:
    """A role that a task may use, and the id under which it asks for the role's credentials."""

    arn: RoleArn
    credentials_id: CredentialsId = field(repr=False)


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task as the backend assigned it to this machine.

    ``cpu`` in CPU units (1024 = one core) and ``memory`` in MiB are limits of the whole task; None: no limit.
    """

    arn: TaskArn
    cluster: str
    family: str
    revision: str
    containers: tuple[ContainerSpec, ...]
    network: NetworkInterface
    volumes: tuple[Volume, ...] = ()
    network_mode: NetworkMode = NetworkMode.AWSVPC
    cpu: int | None = None
    memory: int | None = None
    task_role: TaskRole | None = None
    execution_role: TaskRole | None = None
    group: str = ""
    launch_type: str = "EC2"
    pull_behavior: PullBehavior = PullBehavior.DEFAULT

    @property
    def task_id(self) -> TaskId:
        """The short id in the ARN."""
        return task_id(self.arn)

    def container(self, name: str) -> ContainerSpec:
        """The container of that name. Raise ``KeyError`` if there is none."""
        for container in self.containers:
            if container.name == name:
                return container
        raise KeyError(name)
