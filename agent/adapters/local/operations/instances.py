"""Container instances: there is one, this machine."""

from dataclasses import replace

from agent.adapters.local.errors import InvalidParameter
from agent.adapters.local.operations.desk import Desk, at_most, wants_tags
from agent.adapters.local.operations.paging import paged
from agent.adapters.local.records import Document, InstanceRecord

_MOST_DESCRIBED, _MOST_UPDATED = 100, 10
_STATUSES = ("ACTIVE", "DRAINING", "REGISTERING", "DEREGISTERING", "REGISTRATION_FAILED")


def list_container_instances(desk: Desk, wanted: Document) -> Document:
    """The ARN of this machine, if it belongs to the cluster and has the wanted status."""
    cluster = desk.cluster(wanted)
    if wanted.get("filter"):
        raise InvalidParameter(f"filter {wanted['filter']!r}: not supported; there is one machine")
    status = wanted.get("status")
    if status is not None and status not in _STATUSES:
        raise InvalidParameter(f"status {status!r}: expected one of {', '.join(_STATUSES)}")
    instance = desk.instance(cluster)
    entries = (
        [((instance.id, 0), desk.instance_arn(cluster))]
        if instance is not None and status in {None, instance.status}
        else []
    )
    return paged("containerInstanceArns", entries, wanted)


def describe_container_instances(desk: Desk, wanted: Document) -> Document:
    """This machine: resources, attributes, counts."""
    cluster = desk.cluster(wanted)
    named = at_most("containerInstances", wanted["containerInstances"], _MOST_DESCRIBED)
    found, failures = _found(desk, cluster, named)
    shown = [desk.show_instance(one, with_tags=wants_tags(wanted)) for one in found]
    return {"containerInstances": shown, "failures": failures}


def update_container_instances_state(desk: Desk, wanted: Document) -> Document:
    """DRAINING: no new tasks are placed, those that run stay. ACTIVE: as before."""
    cluster = desk.cluster(wanted)
    status = wanted["status"]
    if status not in {"ACTIVE", "DRAINING"}:
        raise InvalidParameter(
            f"status {status!r}: Container instance status should be one of [ACTIVE, DRAINING]"
        )
    named = at_most("containerInstances", wanted["containerInstances"], _MOST_UPDATED)
    found, failures = _found(desk, cluster, named)
    shown: list[Document] = []
    for instance in found:
        changed = (
            replace(instance, status=status, version=instance.version + 1)
            if instance.status != status
            else instance
        )
        desk.ledger.save_instance(changed)
        shown.append(desk.show_instance(changed))
    return {"containerInstances": shown, "failures": failures}


def _found(desk: Desk, cluster: str, named: list[str]) -> tuple[list[InstanceRecord], list[Document]]:
    instance = desk.instance(cluster)
    identity = desk.node.identity
    found: list[InstanceRecord] = []
    failures: list[Document] = []
    for text in named:
        if instance is not None and identity.short_id("container-instance", text) == instance.id:
            found.append(instance)
        else:
            arn = text if text.startswith("arn:") else identity.instance_arn(cluster, text)
            failures.append({"arn": arn, "reason": "MISSING"})
    return found, failures
