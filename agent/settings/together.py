"""What values must be together: rules between variables, looked at when each is understood."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from agent.settings.kinds import BadValue
from agent.settings.logins import check_logins

SHORTEST_WATCHDOG = timedelta(seconds=10)


def settled(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the chosen backend means them.

    A cluster of Amazon ECS is named as it was written, because the wire wants it so (ecs-protocol 2.1); the
    local backend knows its clusters by name alone.
    """
    cluster: str = values["cluster"]
    if values["backend"] == "local":
        cluster = cluster.rsplit(":cluster/", 1)[-1]
    return {**values, "cluster": cluster}


def problems_among(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Fields whose values contradict others, each with a whole sentence that has no secret in it."""
    limit: timedelta = values["watchdog_limit"]
    if timedelta() < limit < SHORTEST_WATCHDOG:
        # a busy machine would be taken for a stuck agent
        return [("watchdog_limit", "expected 0, or at least 10s")]
    kind, data = values["registry_auth_type"], values["registry_auth_data"]
    if kind is None and data is not None:
        return [("registry_auth_data", "expected ECS_ENGINE_AUTH_TYPE beside it: docker or dockercfg")]
    if kind is not None and data is None:
        return [("registry_auth_type", "expected ECS_ENGINE_AUTH_DATA beside it, with the logins")]
    if data is not None:
        try:
            check_logins(kind, data)
        except BadValue as error:
            return [("registry_auth_data", f"expected {error}")]
    return []


def doubts_about(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Fields whose values are allowed and seldom meant, each with a sentence for the log."""
    if values["backend"] != "ecs":
        return []
    doubts = []
    if not values["tls_verify"]:
        doubts.append(("tls_verify", _NOT_VERIFIED))
    cluster, region = values["cluster"], values["region"]
    if cluster.startswith("arn:") and region and cluster.split(":")[3] != region:
        doubts.append(("cluster", f"this cluster is not in the region {region}, where it will be looked for"))
    return doubts


_NOT_VERIFIED = (
    "the certificates of Amazon ECS are not verified: whoever is on the way there can give orders to this "
    "machine"
)
