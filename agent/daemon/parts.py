"""Builds every part from the settings. The only place that knows all of them by name."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from agent.adapters.aws.logins import Logins
from agent.adapters.aws.static_logins import static_logins
from agent.adapters.clock import SystemClock
from agent.adapters.cni.conflist import TaskBridge
from agent.adapters.cni.provider import CniProvider, CniSettings
from agent.adapters.docker.runtime import DockerRuntime
from agent.adapters.docker.settings import CallLimits, DockerSettings, PauseImage
from agent.adapters.files.checkpoints import FileCheckpoints
from agent.adapters.files.pulls import FilePulls
from agent.adapters.host.notify import Notifier
from agent.adapters.host.plumbing import HostPlumbing
from agent.adapters.host.rules import FirewallPlan
from agent.adapters.interfaces import LinkWatcher
from agent.daemon.control import Control, Machine
from agent.daemon.hardware import architecture, cpu_units, memory_mib
from agent.daemon.keeping import keeper_of
from agent.endpoints.health import HealthBoard
from agent.lifecycle.admission import Resources
from agent.model.errors import CannotStart
from agent.model.progress import Progress
from agent.settings import Settings
from agent.supervisor.janitor import Janitor
from agent.supervisor.node import Node
from agent.supervisor.perform import Performer


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
    logins: Logins
    control: Control
    node: Node
    machine: Machine
    janitor: Janitor


def build(
    control: Control,
    interfaces: LinkWatcher,
    clock: SystemClock,
    health: HealthBoard,
    progress: Progress,
    *,
    notifier: Notifier | None = None,
    received: Sequence[tuple[str, int]] = (),
) -> Parts:
    """Wire the parts; nothing is started yet. ``received``: names and descriptors that came with the start.

    Raise ``CannotStart``.
    """
    settings = control.settings
    docker = _docker_settings(settings)
    runtime = DockerRuntime(docker, clock, progress)
    network = CniProvider(_cni_settings(settings))
    checkpoints = FileCheckpoints(settings.data_directory)
    logins = _logins(control, clock)
    pulls = FilePulls(settings.data_directory)
    node = Node(
        backend=control.backend,
        performer=Performer(runtime, network, control.credentials, logins, pulls),
        checkpoints=checkpoints,
        interfaces=interfaces,
        clock=clock,
        health=health,
        policy=settings.policy,
        # what the backends register (ecs-protocol 1.3.1): nobody may place more here than is granted
        capacity=Resources(cpu_units(), memory_mib() - settings.reserved_memory),
        progress=progress,
    )
    routes = tuple(ip_network(each) for each in settings.local_routes)
    return Parts(
        settings=settings,
        clock=clock,
        health=health,
        runtime=runtime,
        network=network,
        interfaces=interfaces,
        plumbing=HostPlumbing(
            FirewallPlan(port=settings.endpoint_port, local_routes=routes),
            health,
            keeper=keeper_of(
                settings, docker, notifier or Notifier(None, health), received, health, image_in=_image
            ),
            progress=progress,
        ),
        checkpoints=checkpoints,
        logins=logins,
        control=control,
        node=node,
        machine=Machine(node, runtime, network, asyncio.Event()),
        janitor=Janitor(runtime, network, known=node.known, sandboxes=node.sandboxes, progress=progress),
    )


def _docker_settings(settings: Settings) -> DockerSettings:
    return DockerSettings(
        cluster=settings.cluster,
        pause=_image(settings.pause_path, "pause"),
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


def _image(directory: Path, program: str) -> PauseImage:
    description = directory / f"{program}-{architecture()}.json"
    try:
        content = json.loads(description.read_text(encoding="utf-8"))
        return PauseImage(content["image_id"], content["name"], directory / content["archive"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotStart(
            f"the {program} image's description {description} cannot be read ({error}); build it with "
            "'make build' or point BERTH_PAUSE_PATH at its directory",
            is_final=True,
        ) from error


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


def _logins(control: Control, clock: SystemClock) -> Logins:
    settings = control.settings
    return Logins(
        clock,
        region=settings.region,
        role_credentials=control.role_credentials,
        static=static_logins(settings.registry_auth_type, settings.registry_auth_data),
    )
