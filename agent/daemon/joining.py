"""What this machine tells the cluster that it joins: what it is, what it has, what it can do."""

import asyncio
import json
import uuid
from pathlib import Path

import structlog

from agent.adapters.aws.imds import InstanceMetadata
from agent.adapters.aws.sdk import Sdk
from agent.adapters.aws.tags import instance_tags
from agent.adapters.docker.settings import MACHINE
from agent.adapters.ecs.records import InstanceRecord
from agent.adapters.ecs.wire.capabilities import Abilities, api_version
from agent.adapters.ecs.wire.registration import InstanceFacts
from agent.daemon.control import Machine
from agent.daemon.hardware import cpu_units, memory_mib
from agent.model.errors import CannotStart, PortUnavailable
from agent.model.spec import Pairs
from agent.settings import Settings

log = structlog.get_logger()

CLOUD_INIT_RESULT = Path("/run/cloud-init/result.json")
"""Where cloud-init writes down where it has found what the machine was started with."""

NO_DATASOURCE = "DataSourceNone"
"""The word of cloud-init for: nothing was found."""

TAGS_OF_THE_INSTANCE = "ec2_instance"
"""The value of ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM that asks for them."""


def cloud_init_file(*, in_container: bool) -> Path:
    """Where this process finds it: from a container, by the root of the machine's first process."""
    return MACHINE / CLOUD_INIT_RESULT.relative_to("/") if in_container else CLOUD_INIT_RESULT


def cloud_init_result(path: Path = CLOUD_INIT_RESULT) -> str | None:
    """What cloud-init says of its work; None where it says nothing, or nothing that can be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("cloud_init.doubted", path=str(path), problem=error.strerror or type(error).__name__)
        return None


def check_cloud_init(result: str | None, user_data: str | None) -> None:
    """Refuse a machine that was started with instructions which cloud-init has missed (ecs-protocol 0.1).

    Raise ``CannotStart``: it would join as something else than it was meant to be.
    """
    if result is None or not user_data:
        return
    try:
        source = json.loads(result)["v1"]["datasource"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # half written, or not cloud-init's (ecs-protocol 0.1: go on)
    if source == NO_DATASOURCE:
        raise CannotStart(
            "this machine was started with user data, but cloud-init found none of it "
            f"({CLOUD_INIT_RESULT} says {NO_DATASOURCE}): it is not configured as it was meant to be. Start "
            "it anew, or run cloud-init again",
            is_final=True,
        )


async def gather_facts(
    settings: Settings, metadata: InstanceMetadata, saved: InstanceRecord
) -> InstanceFacts:
    """What this machine is and has. Whatever the metadata service does not say is left out."""
    document, signature, mac, outpost = await asyncio.gather(
        metadata.identity_document(), metadata.identity_signature(), metadata.mac(), metadata.outpost_arn()
    )
    vpc, subnet = await asyncio.gather(metadata.vpc_id(mac), metadata.subnet_id(mac)) if mac else (None, None)
    return InstanceFacts(
        cluster=settings.cluster,
        client_token=str(uuid.uuid4()),
        cpu_units=cpu_units(),
        total_memory=memory_mib(),
        reserved_memory=settings.reserved_memory,
        reserved_tcp_ports=settings.reserved_ports,
        reserved_udp_ports=settings.reserved_ports_udp,
        identity_document=document or "",
        identity_signature=signature or "",
        vpc_id=vpc or "",
        subnet_id=subnet or "",
        outpost_arn=outpost or "",
        detailed_os=settings.os_family,
        custom_attributes=dict(settings.instance_attributes),
        tags=dict(settings.instance_tags),
        instance_tags=dict(await _tags_of_the_instance(settings, saved)),
        earlier_arn=saved.container_instance or None,
    )


def abilities(settings: Settings, machine: Machine) -> Abilities:
    """What this agent can do here. Raise ``CannotStart`` if Docker does not say which API it speaks."""
    versions = machine.runtime.versions
    plugin = next((each for each in machine.network.versions() if each.plugin == "ecs-eni"), None)
    try:
        newest = api_version(versions.api if versions is not None else "")
        oldest = api_version(versions.least_api) if versions is not None and versions.least_api else newest
    except ValueError as error:
        raise CannotStart(f"the Docker daemon at {settings.docker_host}: {error}", is_final=False) from error
    return Abilities(
        docker_oldest=oldest,
        docker_newest=newest,
        cni_version="-" if plugin is None else f"{plugin.git_hash}-{plugin.version}",
        logging_drivers=settings.logging_drivers,
        is_privileged_allowed=not settings.privileged_disabled,
        has_selinux=settings.selinux_capable,
        has_apparmor=settings.apparmor_capable,
        has_task_limits=settings.task_limits,
        has_health_checks=not settings.health_check_disabled,
        blocks_metadata=settings.block_imds,
    )


async def _tags_of_the_instance(settings: Settings, saved: InstanceRecord) -> Pairs:
    if settings.propagate_tags_from != TAGS_OF_THE_INSTANCE or not saved.ec2_instance:
        return ()
    sdk = Sdk(settings.region)
    try:
        return await instance_tags(sdk, saved.ec2_instance)
    except PortUnavailable as error:
        log.warning("instance_tags.missed", reason=str(error))
        return ()
    finally:
        sdk.close()
