"""Which cluster this machine belongs to, and whether it is still the same machine (ecs-protocol 0.4)."""

from dataclasses import dataclass, replace

import structlog

from agent.adapters.ecs.records import InstanceRecord
from agent.adapters.ecs.store import Store
from agent.model.errors import CannotStart

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this machine is. ``is_new``: what was saved belongs to another machine."""

    cluster: str
    ec2_instance: str
    is_new: bool


def identify(store: Store, *, configured_cluster: str, ec2_instance: str) -> Identity:
    """Compare what was saved with what is configured; nothing is changed.

    ``configured_cluster`` empty: the saved one is taken. ``ec2_instance`` empty: the machine cannot say. A
    machine made from an image of another one is new, whatever cluster that one was in. Raise ``CannotStart``.
    """
    saved = store.instance
    is_new = bool(saved and saved.ec2_instance and ec2_instance and saved.ec2_instance != ec2_instance)
    if saved is None or is_new:
        if not configured_cluster:
            raise CannotStart(
                "no cluster is configured: set ECS_CLUSTER to the name or ARN of the cluster to join. "
                "The cluster 'default' is joined only when it is named (ECS_CLUSTER=default)",
                is_final=False,
            )
        return Identity(configured_cluster, ec2_instance, is_new)
    if configured_cluster and configured_cluster != saved.cluster:
        raise CannotStart(
            f"Data mismatch; saved cluster '{saved.cluster}' does not match configured cluster "
            f"'{configured_cluster}'. Perhaps you want to delete the configured checkpoint file?",
            is_final=True,
        )
    return Identity(saved.cluster, ec2_instance or saved.ec2_instance, is_new)


async def settle_in(store: Store, identity: Identity) -> None:
    """Remember who this machine is. A new one forgets what was saved. Raise ``CheckpointFailed``."""
    if identity.is_new:
        saved = store.instance.ec2_instance if store.instance is not None else ""
        log.warning("instance.replaced", saved=saved, current=identity.ec2_instance)
        await store.forget_everything()

    def remembered(saved: InstanceRecord | None) -> InstanceRecord:
        if saved is None:
            return InstanceRecord(identity.cluster, ec2_instance=identity.ec2_instance)
        return replace(saved, ec2_instance=identity.ec2_instance)

    await store.update_instance(remembered)
