"""A cluster of Amazon ECS with everything that belongs to it: identity, registration, channels, telemetry."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import aiohttp
import structlog

from agent import __version__
from agent.adapters.aws.imds import InstanceMetadata
from agent.adapters.aws.logins import RoleCredentials
from agent.adapters.aws.notices import in_service, watch_spot
from agent.adapters.ecs.acs import ControlSession, control_url
from agent.adapters.ecs.acs import Conversation as ControlConversation
from agent.adapters.ecs.api import ApiRefused, ApiUnreachable, EcsApi
from agent.adapters.ecs.assignments import Assignments
from agent.adapters.ecs.attachments import Attachments
from agent.adapters.ecs.backend import EcsBackend
from agent.adapters.ecs.change import Change
from agent.adapters.ecs.channel import Channel
from agent.adapters.ecs.channel_times import CONTROL_TIMES, TELEMETRY_TIMES
from agent.adapters.ecs.credentials import DeliveredCredentials
from agent.adapters.ecs.endpoint import endpoint_url, tls_context, user_agent
from agent.adapters.ecs.identity import Identity, identify, settle_in
from agent.adapters.ecs.keys import InstanceKeys
from agent.adapters.ecs.outbox import Outbox
from agent.adapters.ecs.poll import PollEndpoints
from agent.adapters.ecs.registering import register
from agent.adapters.ecs.signing import Signer
from agent.adapters.ecs.store import Store
from agent.adapters.ecs.tcs import Telemetry, TelemetrySettings
from agent.adapters.ecs.wire.capabilities import capabilities
from agent.adapters.ecs.wire.registration import ReservedTooMuch, offered_memory
from agent.adapters.ecs.wire.telemetry import Instance, telemetry_url
from agent.adapters.files.documents import FileDocuments
from agent.adapters.host.usage import KernelUsage
from agent.daemon.control import Machine, Site, Surroundings
from agent.daemon.hardware import memory_mib
from agent.daemon.joining import abilities, check_cloud_init, cloud_init_file, cloud_init_result, gather_facts
from agent.model.channels import ChannelStatus
from agent.model.errors import CannotStart, CredentialsUnavailable
from agent.settings import Settings

log = structlog.get_logger()

REVISION_LENGTH = 8
"""Digits of the agent's commit in the addresses of the channels (ecs-protocol 2.1)."""

SPOT_RETRY = 1.0
"""Seconds between tries to tell the cluster that this machine is about to end (ecs-protocol 1.9)."""


@dataclass(frozen=True, slots=True)
class Found:
    """What ``prepare`` has opened and learnt."""

    store: Store
    documents: FileDocuments
    tasks_changed: Change
    metadata: InstanceMetadata
    http: aiohttp.ClientSession
    identity: Identity


class EcsControl:
    """``Control`` of a machine that is a container instance of a cluster. Made by ``prepare``."""

    def __init__(self, settings: Settings, found: Found, around: Surroundings) -> None:
        self.settings = settings
        self.is_new_machine = found.identity.is_new
        self._identity = found.identity
        store, clock = found.store, around.clock
        self._store = store
        self._documents = found.documents
        self._metadata = found.metadata
        self._http = found.http
        self._clock = clock
        self._health = around.health
        self._progress = around.progress
        keys = InstanceKeys(clock, region=settings.region)
        self._signer = Signer(keys, settings.region, clock)
        self._keys = keys
        self._api = EcsApi(
            endpoint=endpoint_url(settings.backend_host, settings.region),
            region=settings.region,
            signer=self._signer,
            http=found.http,
            user_agent=user_agent(__version__, "", settings.os_family),
        )
        self._endpoints = PollEndpoints(self._api, settings.cluster, clock)
        outbox = Outbox(self._api, store, clock, cluster=settings.cluster)
        attachments = Attachments(store, around.interfaces, outbox, clock, settings.interface_wait_limit)
        self.credentials = DeliveredCredentials(clock)
        assignments = Assignments(
            store,
            self.credentials,
            attachments,
            outbox,
            tasks_changed=found.tasks_changed,
            cluster=settings.cluster,
            pull_behavior=settings.pull_behavior,
        )
        self.backend = EcsBackend(assignments, outbox, self.credentials, found.tasks_changed)
        self._outbox = outbox
        self._attachments = attachments
        self._assignments = assignments
        self._channels: tuple[Channel, ...] = ()
        self._has_connected = False

    @classmethod
    async def prepare(
        cls, settings: Settings, around: Surroundings, with_user_data: Callable[[str], Settings]
    ) -> "EcsControl":
        """Find out who this machine is, before anything is touched.

        The settings are completed with what the machine was started with (``with_user_data``), its region and
        its cluster. A machine that is not the one whose records it has forgets them (ecs-protocol 0.4). Raise
        ``CannotStart``, ``BadSettings`` or ``CheckpointFailed``.
        """
        async with AsyncExitStack() as undo:
            metadata = InstanceMetadata(settings.metadata_endpoint, is_disabled=settings.metadata_disabled)
            undo.push_async_callback(metadata.aclose)
            user_data = await metadata.user_data()
            result = cloud_init_result(cloud_init_file(in_container=settings.in_container))
            check_cloud_init(result, user_data)
            if user_data is not None:
                settings = _kept_in_place(with_user_data(user_data), settings)
            # aiohttp has loaded the machine's certificates already; to load them again takes memory and time.
            connector = aiohttp.TCPConnector(ssl=True if settings.tls_verify else tls_context(verify=False))
            http = await undo.enter_async_context(
                aiohttp.ClientSession(
                    connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=True
                )
            )
            documents = FileDocuments(settings.data_directory / "ecs", "records of the cluster")
            undo.push_async_callback(documents.aclose)
            _check_reserved(settings)
            tasks_changed = Change()
            store = Store(documents, around.clock, tasks_changed)
            await store.open()
            machine = await metadata.identity()
            if machine is None and store.instance is not None and store.instance.ec2_instance:
                # It has told before who this machine is: to go on without it would be to guess.
                metadata.look_again()
                machine = await metadata.identity()
            region = settings.region or (machine.region if machine is not None else None)
            if not region:
                raise CannotStart(
                    "Missing required fields: AWSRegion. Set AWS_DEFAULT_REGION, since the instance metadata "
                    "service does not say in which region this machine is",
                    is_final=False,
                )
            ec2_instance = machine.instance_id if machine is not None else None
            identity = identify(store, configured_cluster=settings.cluster, ec2_instance=ec2_instance or "")
            found = Found(store, documents, tasks_changed, metadata, http, identity)
            made = cls(replace(settings, cluster=identity.cluster, region=region), found, around)
            undo.pop_all()
        return made

    @property
    def role_credentials(self) -> RoleCredentials | None:
        """What the cluster has delivered."""
        return self.credentials.for_role

    @property
    def container_instance(self) -> str | None:
        """This machine's ARN, from an earlier start until it has registered again."""
        return (self._store.instance.container_instance or None) if self._store.instance else None

    async def start(self) -> None:
        """Remember who this machine is, and say it."""
        await settle_in(self._store, self._identity)
        log.info(
            "instance.identified",
            cluster=self.settings.cluster,
            region=self.settings.region,
            container_instance=self.container_instance,
            api=self._api.endpoint,
        )

    async def run(self, machine: Machine) -> None:
        """Register, then stay connected. Raise ``CannotStart`` if the cluster does not take this machine."""
        async with asyncio.TaskGroup() as group:
            # What was assigned before a restart goes on, and is reported, whether or not we are registered.
            group.create_task(self._outbox.run())
            group.create_task(self._attachments.run())
            # Loading the SDK's part takes as long as reaching Docker: side by side.
            group.create_task(self._find_keys())
            await machine.is_reached.wait()
            if self.settings.warm_pools_check:
                await in_service(self._metadata)
            await self._join(machine)
            for each in self._connect(machine, group):
                group.create_task(each.run())
            if self.settings.spot_draining:
                group.create_task(self._drain_when_told())

    def sites(self) -> Sequence[Site]:
        """None: the API is the cluster's."""
        return ()

    def channels(self) -> tuple[ChannelStatus, ...]:
        """Control and telemetry, once this machine has registered."""
        return tuple(each.status() for each in self._channels)

    async def orphans(self) -> tuple[str, ...]:
        """None that we could tell: an interface belongs to the cluster until it takes it away."""
        return ()

    async def aclose(self) -> None:
        """Close connections and records."""
        async with AsyncExitStack() as ends:
            ends.push_async_callback(self._documents.aclose)
            ends.push_async_callback(self._metadata.aclose)
            ends.push_async_callback(self._http.close)

    # -- joining -------------------------------------------------------------------------------

    async def _find_keys(self) -> None:
        try:
            await self._keys.current()
        except CredentialsUnavailable as error:
            # The first call that needs keys asks again, and fails with this very sentence.
            log.debug("keys.awaited", reason=str(error))

    async def _join(self, machine: Machine) -> None:
        saved = self._store.instance
        assert saved is not None  # noqa: S101  # start() has saved one
        facts = await gather_facts(self.settings, self._metadata, saved)
        if not facts.identity_document:
            # A role that was attached to the machine since then would be found now (ecs-protocol 1.10).
            self._keys.invalidate()
        self._api.present_as(user_agent(__version__, _revision(machine), self.settings.os_family))
        registered = await register(self._api, facts, capabilities(abilities(self.settings, machine)))
        await self._store.update_instance(
            lambda known: replace(known or saved, container_instance=registered.arn, zone=registered.zone)
        )

    # -- channels ------------------------------------------------------------------------------

    def _connect(self, machine: Machine, group: asyncio.TaskGroup) -> tuple[Channel, ...]:
        settings = self.settings
        wanted = TelemetrySettings(
            metrics=not settings.metrics_disabled, health=not settings.health_check_disabled
        )
        telemetry = Telemetry(
            directory=machine.tasks,
            probe=KernelUsage(cgroup_root=settings.cgroup_path),
            signer=self._signer,
            instance=self._instance,
            clock=self._clock,
            is_runtime_well=lambda: _answers(machine),
            cores=os.cpu_count() or 1,
            settings=wanted,
        )
        session = ControlSession(
            self._assignments, self._attachments, self._clock, heartbeat=telemetry.note_heartbeat
        )

        async def converse(conversation: ControlConversation) -> None:
            self._has_connected = True
            await session.converse(conversation)

        telemetry_channel = Channel(
            "telemetry",
            url=lambda: self._telemetry_url(machine),
            signer=self._signer,
            http=self._http,
            converse=telemetry.converse,
            on_inactive=_stay_away,
            times=TELEMETRY_TIMES,
            clock=self._clock,
            health=self._health,
            progress=self._progress,
        )
        control_channel = Channel(
            "control",
            url=lambda: self._control_url(machine),
            signer=self._signer,
            http=self._http,
            converse=converse,
            on_inactive=lambda: telemetry_channel.disconnect("the cluster has deregistered this machine"),
            times=CONTROL_TIMES,
            clock=self._clock,
            health=self._health,
            progress=self._progress,
        )
        self._channels = (control_channel,)
        if wanted.is_needed:
            self._channels = (control_channel, telemetry_channel)
            group.create_task(telemetry.sample())
        return self._channels

    def _instance(self) -> Instance:
        return Instance(self.settings.cluster, self.container_instance or "")

    async def _control_url(self, machine: Machine) -> str:
        endpoints = await self._endpoints.get(self.container_instance or "")
        versions = machine.runtime.versions
        return control_url(
            endpoints.control,
            cluster=self.settings.cluster,
            instance_arn=self.container_instance or "",
            agent_version=__version__,
            agent_hash=_revision(machine),
            docker_version=versions.server if versions is not None else "",
            send_credentials=not self._has_connected,
        )

    async def _telemetry_url(self, machine: Machine) -> str:
        endpoints = await self._endpoints.get(self.container_instance or "")
        versions = machine.runtime.versions
        return telemetry_url(
            endpoints.for_telemetry(),
            self._instance(),
            agent_version=__version__,
            agent_hash=_revision(machine),
            docker_version=versions.server if versions is not None else "",
        )

    # -- the end of the machine ----------------------------------------------------------------

    async def _drain_when_told(self) -> None:
        await watch_spot(self._metadata, self._clock)
        while True:
            try:
                await self._api.call(
                    "UpdateContainerInstancesState",
                    {
                        "cluster": self.settings.cluster,
                        "containerInstances": [self.container_instance],
                        "status": "DRAINING",
                    },
                )
            except (ApiRefused, ApiUnreachable) as error:
                log.warning("draining.delayed", reason=str(error), retry_in=SPOT_RETRY)
                await asyncio.sleep(SPOT_RETRY)
            else:
                log.info("instance.draining")
                return


def _check_reserved(settings: Settings) -> None:
    """Before anything begins, not at the registration: tasks of before a restart do not wait for that."""
    try:
        offered_memory(memory_mib(), settings.reserved_memory)
    except ReservedTooMuch as error:
        raise CannotStart(f"ECS_RESERVED_MEMORY: {error}", is_final=True) from error


def _kept_in_place(changed: Settings, settings: Settings) -> Settings:
    """The changed settings, but with what this process has chosen and locked by now."""
    for warning in changed.warnings:
        if warning not in settings.warnings:
            log.warning("settings.doubted", problem=warning)
    return replace(
        changed,
        backend=settings.backend,
        data_directory=settings.data_directory,
        in_container=settings.in_container,
        host_data_directory=settings.host_data_directory,
        run_directory=settings.run_directory,
        audit_file=settings.audit_file,
    )


def _revision(machine: Machine) -> str:
    """From which commit this agent was built: its plugins were built with it, and say so.

    Eight digits on the wire; zeros where a build outside of a repository does not know it.
    """
    said = next((each.git_hash for each in machine.network.versions()), "")
    return said[:REVISION_LENGTH].ljust(REVISION_LENGTH, "0")


async def _answers(machine: Machine) -> bool:
    """Whether the container runtime answers. Raise ``RuntimeUnavailable``, which says why it does not."""
    await machine.runtime.check()
    return True


def _stay_away() -> None:
    log.warning("telemetry.inactive", problem="the cluster says that this machine is not registered")
