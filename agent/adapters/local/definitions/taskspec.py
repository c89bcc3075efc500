"""From a definition, its overrides and an interface to the ``TaskSpec`` that the agent gets."""

from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Interface, IPv6Interface

from agent.adapters.local.definitions.overrides import applied
from agent.adapters.local.identity import Identity
from agent.adapters.local.records import AttachmentRecord, DefinitionRecord, Document, TaskRecord
from agent.adapters.local.vpc.plan import (
    SubnetPlan,
    VpcPlan,
    dns,
    domain_name,
    gateway,
    gateway_ipv6,
    private_dns_name,
)
from agent.model.ids import CredentialsId, MacAddress, RoleArn, TaskArn
from agent.model.spec import (
    Condition,
    ContainerSpec,
    Dependency,
    Device,
    HealthCheck,
    LinuxParameters,
    LogConfiguration,
    LoginSource,
    MountPoint,
    NetworkInterface,
    PortMapping,
    PullBehavior,
    RegistryAuthentication,
    TaskRole,
    TaskSpec,
    Tmpfs,
    Ulimit,
    Volume,
)

_EXECUTION_ENVIRONMENT = ("AWS_EXECUTION_ENV", "AWS_ECS_EC2")
_PERMISSIONS = {"read": "r", "write": "w", "mknod": "m"}


@dataclass(frozen=True, slots=True)
class Place:
    """What is the same for every task of this machine.

    ``mtu`` None: the interface's own. ``attach_limit``: how long an interface may take to appear.
    """

    identity: Identity
    vpc: VpcPlan
    pull_behavior: PullBehavior = PullBehavior.DEFAULT
    mtu: int | None = None
    attach_limit: timedelta = timedelta(minutes=5)


def task_spec(
    task: TaskRecord, definition: DefinitionRecord, attachment: AttachmentRecord, place: Place
) -> TaskSpec:
    """The spec. The records were checked when they were written, so nothing is refused here."""
    document = applied(definition.document, task.overrides)
    identity = place.identity
    cpu, memory = document.get("cpu"), document.get("memory")
    return TaskSpec(
        arn=TaskArn(identity.task_arn(task.cluster, task.id)),
        cluster=task.cluster,
        family=task.family,
        revision=str(task.revision),
        containers=tuple(_container(one) for one in document["containerDefinitions"]),
        network=network_interface(attachment, place),
        volumes=tuple(
            Volume(one["name"], one.get("host", {}).get("sourcePath") or None)
            for one in document.get("volumes", [])
        ),
        cpu=int(cpu) if cpu else None,
        memory=int(memory) if memory else None,
        task_role=_role(task.task_role_arn, task.task_credentials_id),
        execution_role=_role(task.execution_role_arn, task.execution_credentials_id),
        group=task.group,
        launch_type=task.launch_type,
        pull_behavior=place.pull_behavior,
    )


def network_interface(attachment: AttachmentRecord, place: Place) -> NetworkInterface:
    """The interface as the agent must find and address it."""
    subnet = place.vpc.subnet(attachment.subnet_id)
    prefix = subnet.ipv4_network.prefixlen
    return NetworkInterface(
        attachment_arn=place.identity.attachment_arn(attachment.id),
        eni_id=attachment.eni_id,
        subnet_id=attachment.subnet_id,
        mac_address=MacAddress(attachment.mac_address),
        ipv4_addresses=(IPv4Interface(f"{attachment.ipv4_address}/{prefix}"),),
        gateways=_gateways(subnet, attachment),
        expires_at=attachment.expires_at,
        ipv6_addresses=_ipv6(subnet, attachment),
        private_dns_name=private_dns_name(attachment.ipv4_address, place.identity.region),
        dns_servers=(str(dns(place.vpc)),),
        dns_search=(domain_name(place.identity.region),),
        mtu=place.mtu,
    )


def _gateways(subnet: SubnetPlan, attachment: AttachmentRecord) -> tuple[str, ...]:
    ipv6 = gateway_ipv6(subnet) if attachment.ipv6_address is not None else None
    return (str(gateway(subnet)), str(ipv6)) if ipv6 is not None else (str(gateway(subnet)),)


def _ipv6(subnet: SubnetPlan, attachment: AttachmentRecord) -> tuple[IPv6Interface, ...]:
    network = subnet.ipv6_network
    if attachment.ipv6_address is None or network is None:
        return ()
    return (IPv6Interface(f"{attachment.ipv6_address}/{network.prefixlen}"),)


def _role(arn: str | None, credentials_id: str | None) -> TaskRole | None:
    if arn is None or credentials_id is None:
        return None
    return TaskRole(RoleArn(arn), CredentialsId(credentials_id))


def _container(one: Document) -> ContainerSpec:
    environment = {item["name"]: item.get("value", "") for item in one.get("environment", [])}
    environment.update((_EXECUTION_ENVIRONMENT,))
    return ContainerSpec(
        name=one["name"],
        image=one["image"],
        essential=one.get("essential", True),
        cpu=one.get("cpu", 0),
        memory=one.get("memory"),
        memory_reservation=one.get("memoryReservation"),
        # An empty list means the same as none: the image's own.
        command=tuple(one["command"]) if one.get("command") else None,
        entry_point=tuple(one["entryPoint"]) if one.get("entryPoint") else None,
        environment=tuple(environment.items()),
        working_directory=one.get("workingDirectory") or None,
        user=one.get("user") or None,
        depends_on=tuple(
            Dependency(item["containerName"], Condition(item["condition"]))
            for item in one.get("dependsOn", [])
        ),
        start_timeout=one.get("startTimeout"),
        stop_timeout=one.get("stopTimeout"),
        health_check=_health_check(one.get("healthCheck")),
        port_mappings=tuple(
            PortMapping(
                item["containerPort"], item["containerPort"], item.get("protocol", "tcp"), item.get("name")
            )
            for item in one.get("portMappings", [])
        ),
        mount_points=tuple(
            MountPoint(item["sourceVolume"], item["containerPath"], item.get("readOnly", False))
            for item in one.get("mountPoints", [])
        ),
        ulimits=tuple(
            Ulimit(item["name"], item["softLimit"], item["hardLimit"]) for item in one.get("ulimits", [])
        ),
        log_configuration=_log_configuration(one.get("logConfiguration")),
        linux=_linux(one.get("linuxParameters", {})),
        docker_labels=tuple(sorted(one.get("dockerLabels", {}).items())),
        security_options=tuple(one.get("dockerSecurityOptions", [])),
        system_controls=tuple(
            (item["namespace"], item.get("value", "")) for item in one.get("systemControls", [])
        ),
        privileged=one.get("privileged", False),
        read_only_root=one.get("readonlyRootFilesystem", False),
        interactive=one.get("interactive", False),
        pseudo_terminal=one.get("pseudoTerminal", False),
        registry=_registry(one.get("repositoryCredentials")),
    )


def _registry(credentials: Document | None) -> RegistryAuthentication | None:
    if not credentials:
        return None
    return RegistryAuthentication(LoginSource.SECRETS_MANAGER, secret=credentials["credentialsParameter"])


def _health_check(check: Document | None) -> HealthCheck | None:
    if check is None:
        return None
    return HealthCheck(
        command=tuple(check["command"]),
        interval=check["interval"],
        timeout=check["timeout"],
        retries=check["retries"],
        start_period=check.get("startPeriod", 0),
    )


def _log_configuration(logging: Document | None) -> LogConfiguration | None:
    if logging is None:
        return None
    return LogConfiguration(logging["logDriver"], tuple(sorted(logging.get("options", {}).items())))


def _linux(linux: Document) -> LinuxParameters:
    capabilities = linux.get("capabilities", {})
    return LinuxParameters(
        init_process=linux.get("initProcessEnabled", False),
        add_capabilities=tuple(capabilities.get("add", [])),
        drop_capabilities=tuple(capabilities.get("drop", [])),
        shared_memory_size=linux.get("sharedMemorySize"),
        tmpfs=tuple(
            Tmpfs(one["containerPath"], one["size"], tuple(one.get("mountOptions", [])))
            for one in linux.get("tmpfs", [])
        ),
        devices=tuple(_device(one) for one in linux.get("devices", [])),
    )


def _device(one: Document) -> Device:
    permissions = "".join(_PERMISSIONS[word] for word in one.get("permissions") or ("read", "write", "mknod"))
    return Device(one["hostPath"], one.get("containerPath") or one["hostPath"], permissions)
