"""Joining the cluster: registers this machine as a container instance, patiently, or says why it cannot."""

import asyncio
import random
from dataclasses import dataclass, replace
from typing import Any

import structlog

from agent.adapters.ecs.api import Api, ApiRefused, ApiUnreachable
from agent.adapters.ecs.wire.capabilities import Attribute
from agent.adapters.ecs.wire.registration import (
    AttributesNotEchoed,
    InstanceFacts,
    ReservedTooMuch,
    UnusableAnswer,
    advice,
    attributes,
    availability_zone,
    check_echo,
    container_instance,
    created_cluster,
    instance_arn,
    is_about_a_missing_cluster,
    is_final,
    registration,
)
from agent.model.errors import CannotStart

log = structlog.get_logger()

LIMIT = 3600.0
SHORTEST, LONGEST, FACTOR, JITTER = 3.0, 192.0, 2.0, 0.2
"""Pauses between attempts, in seconds (ecs-protocol 1.3.4)."""
_TRANSIENT = frozenset({"ThrottlingException", "ServerException", "LimitExceededException"})
_DEFAULT_CLUSTER = "default"


@dataclass(frozen=True, slots=True)
class Registered:
    """The instance as the cluster knows it. ``zone``: empty if unknown."""

    arn: str
    zone: str


async def register(api: Api, facts: InstanceFacts, capabilities: tuple[Attribute, ...]) -> Registered:
    """Register, anew or again (``facts.earlier_arn``), within an hour. Raise ``CannotStart``.

    ``is_final`` when the next start would fail the same way (ecs-protocol 1.3.4). Unlike the ECS agent, a
    machine that registers *again* also waits for an API that cannot be reached: its tasks are looked after
    meanwhile, and a restart would not bring the network back.
    """
    try:
        return await _register(api, facts, capabilities)
    except ApiRefused as refusal:
        hint = advice(refusal.message)
        problem = f"cannot register in cluster {facts.cluster}: {refusal}" + (f" ({hint})" if hint else "")
        raise CannotStart(problem, is_final=is_final(refusal.code, refusal.message)) from refusal
    except (AttributesNotEchoed, ReservedTooMuch) as error:
        raise CannotStart(str(error), is_final=True) from error
    except (ApiUnreachable, UnusableAnswer) as error:
        raise CannotStart(f"cannot register in cluster {facts.cluster}: {error}", is_final=False) from error


async def _register(api: Api, facts: InstanceFacts, capabilities: tuple[Attribute, ...]) -> Registered:
    sent = attributes(facts, capabilities)
    try:
        answer = await _patiently(api, facts, sent)
    except ApiRefused as refusal:
        is_missing = is_about_a_missing_cluster(refusal.code, refusal.message)
        if not (is_missing and facts.cluster == _DEFAULT_CLUSTER and facts.earlier_arn is None):
            raise
        facts = replace(facts, cluster=await _create_default(api))
        answer = await _patiently(api, facts, sent)
    check_echo(sent, container_instance(answer))
    done = Registered(instance_arn(answer), availability_zone(answer))
    log.info("instance.registered", arn=done.arn, zone=done.zone, again=facts.earlier_arn is not None)
    return done


async def _create_default(api: Api) -> str:
    name = created_cluster(await api.call("CreateCluster", {"clusterName": _DEFAULT_CLUSTER}))
    log.info("cluster.created", cluster=name)
    return name


async def _patiently(api: Api, facts: InstanceFacts, sent: tuple[Attribute, ...]) -> dict[str, Any]:
    body = registration(facts, sent)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LIMIT
    pause = SHORTEST
    while True:
        try:
            return await api.call("RegisterContainerInstance", body)
        except (ApiRefused, ApiUnreachable) as problem:
            delay = pause * (1 + JITTER * random.random())  # noqa: S311 no secret
            if not _is_transient(problem, facts) or loop.time() + delay > deadline:
                raise
            log.warning("registration.postponed", seconds=round(delay, 1), problem=str(problem))
        await asyncio.sleep(delay)
        pause = min(pause * FACTOR, LONGEST)


def _is_transient(problem: ApiRefused | ApiUnreachable, facts: InstanceFacts) -> bool:
    is_known_here = facts.earlier_arn is not None
    if isinstance(problem, ApiUnreachable):
        return is_known_here
    return problem.code in _TRANSIENT or (is_known_here and problem.status >= 500)  # noqa: PLR2004 HTTP
