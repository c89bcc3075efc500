"""Which cluster this machine belongs to, and whether it is still the same machine (ecs-protocol 0.4)."""

from dataclasses import dataclass

import structlog

from agent.adapters.ecs.records import InstanceRecord
from agent.adapters.ecs.store import Store
from agent.model.errors import CannotStart

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this machine is. ``is_new``: what was saved belongs to another machine, and was forgotten."""

    cluster: str
    is_new: bool


async def identify(store: Store, *, configured_cluster: str, ec2_instance: str) -> Identity:
    """Compare what was saved with what is configured, and remember the outcome.

    ``configured_cluster`` empty: the saved one is taken. ``ec2_instance`` empty: the machine cannot say.
    Raise ``CannotStart``.
    """
    saved = store.instance
    is_new = False
    if saved is not None and saved.ec2_instance and ec2_instance and saved.ec2_instance != ec2_instance:
        log.warning("instance.replaced", saved=saved.ec2_instance, current=ec2_instance)
        await store.forget_everything()
        saved, is_new = None, True
    if saved is None:
        if not configured_cluster:
            raise CannotStart(
                "no cluster is configured: set ECS_CLUSTER to the name or ARN of the cluster to join. "
                "The cluster 'default' is joined only when it is named (ECS_CLUSTER=default)",
                is_final=False,
            )
        await store.save_instance(InstanceRecord(configured_cluster, ec2_instance=ec2_instance))
        return Identity(configured_cluster, is_new)
    if configured_cluster and configured_cluster != saved.cluster:
        raise CannotStart(
            f"Data mismatch; saved cluster '{saved.cluster}' does not match configured cluster "
            f"'{configured_cluster}'. Perhaps you want to delete the configured checkpoint file?",
            is_final=True,
        )
    if ec2_instance and not saved.ec2_instance:
        await store.save_instance(
            InstanceRecord(
                saved.cluster, saved.container_instance, ec2_instance, saved.zone, saved.manifest_sequence
            )
        )
    return Identity(saved.cluster, is_new)
