"""Builds every part from the settings. The only place that knows all of them by name."""

import json
import os
import platform
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from agent import __version__
from agent.adapters.aws.development import DevelopmentCredentials
from agent.adapters.aws.logins import Logins
from agent.adapters.aws.roles import StsRoles
from agent.adapters.clock import SystemClock
from agent.adapters.cni.conflist import TaskBridge
from agent.adapters.cni.provider import CniProvider, CniSettings
from agent.adapters.docker.runtime import DockerRuntime
from agent.adapters.docker.settings import CallLimits, DockerSettings, PauseImage
from agent.adapters.files.checkpoints import FileCheckpoints
from agent.adapters.files.pulls import FilePulls
from agent.adapters.host.plumbing import HostPlumbing
from agent.adapters.host.rules import FirewallPlan
from agent.adapters.interfaces import LinkWatcher
from agent.adapters.local.backend import LocalBackend, LocalOptions
from agent.adapters.local.vpc.errors import BadVpcPlan
from agent.adapters.local.vpc.plan import default_plan
from agent.adapters.local.vpc.vpc import SimulatedVpc
from agent.endpoints.health import HealthBoard
from agent.model.errors import CannotStart
from agent.settings import Settings
from agent.supervisor.janitor import Janitor
from agent.supervisor.node import Node
from agent.supervisor.perform import Performer

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""The kernel's names of the machines that berth supports, and Docker's."""

_ECS_ARCHITECTURES = {"amd64": "X86_64", "arm64": "ARM64"}


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that lives as long as the agent."""

    settings: Settings
    clock: SystemClock
    health: HealthBoard
    runtime: DockerRuntime
    network: CniProvider
    interfaces: LinkWatcher
    plumbing: HostPlumbing
    checkpoints: FileCheckpoints
    credentials: DevelopmentCredentials | StsRoles
    logins: Logins
    vpc: SimulatedVpc
    backend: LocalBackend
    node: Node
    janitor: Janitor


def build(settings: Settings) -> Parts:
    """Wire the parts; nothing is started yet. Raise ``CannotStart``."""
    clock = SystemClock()
    health = HealthBoard(clock)
    runtime = DockerRuntime(_docker_settings(settings), clock)
    network = CniProvider(_cni_settings(settings))
    interfaces = LinkWatcher()
    checkpoints = FileCheckpoints(settings.data_directory)
    credentials = _credentials(settings, clock)
    logins = _logins(settings, clock, credentials)
    vpc, backend = _local_backend(settings, clock)
    node = Node(
        backend=backend,
        performer=Performer(runtime, network, credentials, logins, FilePulls(settings.data_directory)),
        checkpoints=checkpoints,
        interfaces=interfaces,
        clock=clock,
        health=health,
        policy=settings.policy,
    )
    routes = tuple(ip_network(each) for each in settings.local_routes)
    return Parts(
        settings=settings,
        clock=clock,
        health=health,
        runtime=runtime,
        network=network,
        interfaces=interfaces,
        plumbing=HostPlumbing(FirewallPlan(port=settings.endpoint_port, local_routes=routes), health),
        checkpoints=checkpoints,
        credentials=credentials,
        logins=logins,
        vpc=vpc,
        backend=backend,
        node=node,
        janitor=Janitor(runtime, network, known=node.known, sandboxes=node.sandboxes),
    )


def memory_mib() -> int:
    """All memory of this machine, in MiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1024 * 1024)


def _docker_settings(settings: Settings) -> DockerSettings:
    return DockerSettings(
        cluster=settings.cluster,
        pause=_pause_image(settings.pause_path),
        host=settings.docker_host,
        region=settings.region,
        start_slots=settings.start_slots,
        pull_slots=settings.pull_slots,
        limits=CallLimits(
            create=settings.create_limit,
            start=settings.start_limit,
            remove=settings.remove_limit,
            pull=settings.pull_limit,
            pull_inactivity=settings.pull_idle_limit,
        ),
        task_limits=settings.task_limits,
        cgroup_root=settings.cgroup_path,
        cpu_period=settings.cgroup_cpu_period,
    )


def _pause_image(directory: Path) -> PauseImage:
    architecture = _architecture()
    description = directory / f"pause-{architecture}.json"
    try:
        content = json.loads(description.read_text(encoding="utf-8"))
        return PauseImage(content["image_id"], content["name"], directory / content["archive"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotStart(
            f"the pause image's description {description} cannot be read ({error}); build it with "
            "'make build' or point BERTH_PAUSE_PATH at its directory",
            is_final=True,
        ) from error


def _architecture() -> str:
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise CannotStart(
            f"this machine is a {machine}; berth runs on {' and '.join(ARCHITECTURES)}", is_final=True
        )
    return ARCHITECTURES[machine]


def _cni_settings(settings: Settings) -> CniSettings:
    return CniSettings(
        plugin_dir=settings.plugins_path,
        bridge=TaskBridge(additional_routes=settings.local_routes),
        block_imds=settings.block_imds,
        uses_plugin_host=settings.plugin_host,
        ipam_dir=settings.run_directory / "ipam",
        log_file=settings.data_directory / "cni-plugins.log",
        log_level=settings.log_level,
        # less than the step may take, so that a hanging plugin is named before the step is given up
        attach_limit=settings.attach_limit * 0.75,
        detach_limit=settings.detach_limit * 0.75,
    )


def _credentials(settings: Settings, clock: SystemClock) -> DevelopmentCredentials | StsRoles:
    if settings.credentials_source == "sts":
        return StsRoles(clock, region=settings.region, endpoint=settings.sts_endpoint)
    return DevelopmentCredentials(clock)


def _logins(settings: Settings, clock: SystemClock, roles: DevelopmentCredentials | StsRoles) -> Logins:
    return Logins(
        clock,
        region=settings.region,
        # what is made up for development opens nothing
        role_credentials=roles.for_role if isinstance(roles, StsRoles) else None,
    )


def _local_backend(settings: Settings, clock: SystemClock) -> tuple[SimulatedVpc, LocalBackend]:
    try:
        plan = default_plan(settings.region, seed=settings.account_id, ipv4_cidr=str(settings.vpc_network))
    except BadVpcPlan as error:
        raise CannotStart(f"BERTH_VPC_CIDR: {error}", is_final=True) from error
    vpc = SimulatedVpc(plan, namespace=settings.vpc_namespace)
    memory = memory_mib() - settings.reserved_memory
    if memory <= 0:
        raise CannotStart(
            f"ECS_RESERVED_MEMORY is {settings.reserved_memory} MiB, but this machine has "
            f"{memory_mib()} MiB; nothing would be left for tasks",
            is_final=True,
        )
    options = LocalOptions(
        data_dir=settings.data_directory,
        cpu=(os.cpu_count() or 1) * 1024,
        memory=memory,
        agent_version=__version__,
        cluster=settings.cluster,
        region=settings.region,
        account=settings.account_id,
        interfaces=settings.max_interfaces,
        architecture=_ECS_ARCHITECTURES[_architecture()],
        pull_behavior=settings.pull_behavior,
        interface_wait=settings.interface_wait_limit,
        has_instance_interface=settings.instance_interface,
        attributes=settings.instance_attributes,
    )
    return vpc, LocalBackend(options, plan, vpc, clock)
