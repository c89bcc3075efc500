"""Clusters: one is this machine's; others may be made, and stay without machines."""

from agent.adapters.local.errors import InvalidParameter
from agent.adapters.local.identity import CLUSTER_NAME
from agent.adapters.local.operations.desk import Desk, checked_tags, wants_tags
from agent.adapters.local.operations.paging import paged
from agent.adapters.local.records import Document

_REFUSED = (
    "capacityProviders",
    "configuration",
    "defaultCapacityProviderStrategy",
    "serviceConnectDefaults",
    "settings",
)


def create_cluster(desk: Desk, wanted: Document) -> Document:
    """Make a cluster; one that exists is returned as it is."""
    name = wanted.get("clusterName", "default")
    if not CLUSTER_NAME.fullmatch(name):
        raise InvalidParameter(
            f"clusterName {name!r}: expected a letter, then at most 254 letters, digits, '-' and '_'"
        )
    for field in _REFUSED:
        if wanted.get(field):
            raise InvalidParameter(f"{field}: not supported")
    tags = checked_tags(wanted.get("tags", []))
    desk.ledger.add_cluster(name)
    desk.ledger.save_tags(desk.node.identity.cluster_arn(name), tags)
    return {"cluster": _view(desk, name, with_tags=True)}


def describe_clusters(desk: Desk, wanted: Document) -> Document:
    """Clusters by name or ARN; without names, ``default``."""
    known = desk.ledger.clusters()
    clusters: list[Document] = []
    failures: list[Document] = []
    for text in wanted.get("clusters") or ["default"]:
        name = text.removeprefix(desk.node.identity.cluster_arn(""))
        if name in known:
            clusters.append(_view(desk, name, with_tags=wants_tags(wanted)))
        else:
            arn = text if text.startswith("arn:") else desk.node.identity.cluster_arn(name)
            failures.append({"arn": arn, "reason": "MISSING"})
    return {"clusters": clusters, "failures": failures}


def list_clusters(desk: Desk, wanted: Document) -> Document:
    """ARNs of all clusters."""
    entries = [((name, 0), desk.node.identity.cluster_arn(name)) for name in desk.ledger.clusters()]
    return paged("clusterArns", entries, wanted)


def _view(desk: Desk, name: str, *, with_tags: bool) -> Document:
    arn = desk.node.identity.cluster_arn(name)
    running, pending = desk.ledger.task_counts(name)
    return {
        "clusterArn": arn,
        "clusterName": name,
        "status": "ACTIVE",
        "registeredContainerInstancesCount": 1 if desk.instance(name) is not None else 0,
        "runningTasksCount": running,
        "pendingTasksCount": pending,
        "activeServicesCount": 0,
        "statistics": [],
        "tags": desk.show_tags(arn) if with_tags else [],
        "settings": [],
        "capacityProviders": [],
        "defaultCapacityProviderStrategy": [],
    }
