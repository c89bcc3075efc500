"""What ecs-bridge is asked for, from JSON, and what an IPAM result must be like. Pure."""

from __future__ import annotations

from cni_plugins.skeleton.errors import DECODING_FAILURE, INVALID_CONFIG, CniError
from cni_plugins.skeleton.prefix import IPV4, IPV6, Address, Prefix
from cni_plugins.skeleton.record import Record
from cni_plugins.skeleton.result import Result, Route

DEFAULT_MTU = 1500
_SMALLEST_MTU, _LARGEST_MTU = 68, 65535
_LONGEST_NAME = 15


class BridgeConfig(Record):
    """A validated configuration: the bridge's name, the MTU of all three links, the IPAM section."""

    bridge: str
    mtu: int
    ipam: dict[str, object] | None

    @property
    def ipam_type(self) -> object:
        """The IPAM plugin's name as written, None if there is none."""
        return None if self.ipam is None else self.ipam.get("type")


class TaskAddress(Record):
    """One address of the task with its gateway, which is the bridge."""

    prefix: Prefix
    gateway: Address


class TaskAddresses(Record):
    """What IPAM gave: one or two addresses of different families, IPv4 first, and routes as given."""

    addresses: tuple[TaskAddress, ...]
    routes: tuple[Route, ...]


def parse_config(keys: dict[str, object]) -> BridgeConfig:
    """Read the configuration for any verb. Raises CniError 6 for wrong types, 7 for wrong values."""
    bridge, mtu, ipam = keys.get("bridge", ""), keys.get("mtu", 0), keys.get("ipam")
    wrong = [
        f"{key!r} is {value!r}, expected {expected}"
        for key, value, expected, fits in (
            ("bridge", bridge, "a string", isinstance(bridge, str)),
            ("mtu", mtu, "an integer", isinstance(mtu, int) and not isinstance(mtu, bool)),
            ("ipam", ipam, "an object", ipam is None or isinstance(ipam, dict)),
        )
        if not fits
    ]
    if wrong or not isinstance(bridge, str) or not isinstance(mtu, int):
        raise CniError(DECODING_FAILURE, "bridge parsing config: failed to parse config: " + "; ".join(wrong))
    if not bridge:
        raise _invalid("missing required parameter in config named: 'bridge'")
    if len(bridge.encode()) > _LONGEST_NAME or "/" in bridge or any(c.isspace() for c in bridge):
        raise _invalid(
            f"invalid bridge name: {bridge!r}, expected 1 to {_LONGEST_NAME} bytes without '/' and space"
        )
    if mtu and not _SMALLEST_MTU <= mtu <= _LARGEST_MTU:
        raise _invalid(f"invalid mtu: {mtu}, expected 0 or {_SMALLEST_MTU} to {_LARGEST_MTU}")
    return BridgeConfig(bridge, mtu or DEFAULT_MTU, ipam if isinstance(ipam, dict) else None)


def task_addresses(result: Result) -> TaskAddresses:
    """Check an IPAM result: 1 or 2 addresses, each with a gateway, one per family. Raises CniError 7."""
    families = [assigned.prefix.family for assigned in result.addresses]
    if not 1 <= len(families) <= 2:  # noqa: PLR2004
        raise CniError(
            INVALID_CONFIG, f"bridge ipam ADD: expected 1 or 2 addresses from ipam, got {len(families)}"
        )
    if len(set(families)) != len(families):
        raise CniError(INVALID_CONFIG, "bridge ipam ADD: got two addresses of the same family from ipam")
    addresses = []
    for assigned in sorted(result.addresses, key=lambda assigned: (IPV4, IPV6).index(assigned.prefix.family)):
        if assigned.gateway is None or assigned.gateway.family != assigned.prefix.family:
            raise CniError(
                INVALID_CONFIG, f"bridge ipam ADD: {assigned.prefix} came without a gateway from ipam"
            )
        addresses.append(TaskAddress(assigned.prefix, assigned.gateway))
    return TaskAddresses(tuple(addresses), result.routes)


def _invalid(problem: str) -> CniError:
    return CniError(INVALID_CONFIG, f"bridge parsing config: {problem}")
