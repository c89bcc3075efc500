"""The local backend with its simulated VPC and its credentials."""

import asyncio
from collections.abc import Sequence

from agent import __version__
from agent.adapters.aws.development import DevelopmentCredentials
from agent.adapters.aws.logins import RoleCredentials
from agent.adapters.aws.roles import StsRoles
from agent.adapters.local.backend import LocalBackend, LocalOptions
from agent.adapters.local.vpc.errors import BadVpcPlan
from agent.adapters.local.vpc.plan import default_plan
from agent.adapters.local.vpc.vpc import SimulatedVpc
from agent.daemon.control import Machine, Site
from agent.daemon.hardware import architecture, cpu_units, memory_mib
from agent.model.channels import ChannelStatus
from agent.model.errors import CannotStart
from agent.model.progress import Progress
from agent.ports.clock import Clock
from agent.settings import Settings

_ECS_ARCHITECTURES = {"amd64": "X86_64", "arm64": "ARM64"}


class LocalControl:
    """``Control`` of a machine that is its own control plane. Raise ``CannotStart`` if it cannot be."""

    def __init__(self, settings: Settings, clock: Clock, progress: Progress | None = None) -> None:
        self.settings = settings
        self.is_new_machine = False
        self.credentials = _credentials(settings, clock)
        try:
            plan = default_plan(
                settings.region, seed=settings.account_id, ipv4_cidr=str(settings.vpc_network)
            )
        except BadVpcPlan as error:
            raise CannotStart(f"BERTH_VPC_CIDR: {error}", is_final=True) from error
        self._vpc = SimulatedVpc(plan, namespace=settings.vpc_namespace)
        self.backend = LocalBackend(_options(settings), plan, self._vpc, clock, progress)

    @property
    def role_credentials(self) -> RoleCredentials | None:
        """STS, unless credentials are made up for development."""
        return self.credentials.for_role if isinstance(self.credentials, StsRoles) else None

    @property
    def container_instance(self) -> str | None:
        """This machine's ARN, once the backend has started."""
        return self.backend.container_instance_arn

    async def start(self) -> None:
        """Open the store, register this machine, make the VPC."""
        await self.backend.start()

    async def run(self, machine: Machine) -> None:  # noqa: ARG002 - the port's
        """Keep the tasks' interfaces, the store and the credentials in order."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.backend.run())
            group.create_task(self.credentials.keep_renewed())

    def sites(self) -> Sequence[Site]:
        """The ECS API."""
        return (Site(self.backend.application(), self.settings.api_address, "BERTH_API_ADDRESS"),)

    def channels(self) -> tuple[ChannelStatus, ...]:
        """None: orders come from this very process."""
        return ()

    async def orphans(self) -> tuple[str, ...]:
        """Interfaces of the VPC that belong to no task."""
        return await self.backend.orphans()

    async def aclose(self) -> None:
        """Close the store and the VPC's handles."""
        if isinstance(self.credentials, StsRoles):
            self.credentials.close()
        await self.backend.aclose()
        await self._vpc.aclose()


def _credentials(settings: Settings, clock: Clock) -> DevelopmentCredentials | StsRoles:
    if settings.credentials_source == "sts":
        return StsRoles(clock, region=settings.region, endpoint=settings.sts_endpoint)
    return DevelopmentCredentials(clock)


def _options(settings: Settings) -> LocalOptions:
    memory = memory_mib() - settings.reserved_memory
    if memory <= 0:
        raise CannotStart(
            f"ECS_RESERVED_MEMORY is {settings.reserved_memory} MiB, but this machine has "
            f"{memory_mib()} MiB; nothing would be left for tasks",
            is_final=True,
        )
    return LocalOptions(
        data_dir=settings.data_directory,
        cpu=cpu_units(),
        memory=memory,
        agent_version=__version__,
        cluster=settings.cluster,
        region=settings.region,
        account=settings.account_id,
        interfaces=settings.max_interfaces,
        architecture=_ECS_ARCHITECTURES[architecture()],
        pull_behavior=settings.pull_behavior,
        interface_wait=settings.interface_wait_limit,
        has_instance_interface=settings.instance_interface,
        attributes=settings.instance_attributes,
        has_role_credentials=settings.credentials_source == "sts",
    )
