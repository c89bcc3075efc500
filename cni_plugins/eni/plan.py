"""What an ENI's namespace still lacks, and where an ENI goes when it leaves. Pure."""

from __future__ import annotations

from cni_plugins.eni.config import EniConfig
from cni_plugins.kernel import addresses, links
from cni_plugins.kernel.addresses import HeldAddress, HeldRoute
from cni_plugins.kernel.errors import EAFNOSUPPORT, EEXIST, EOPNOTSUPP, ESRCH
from cni_plugins.kernel.links import Link
from cni_plugins.kernel.operations import Operation
from cni_plugins.skeleton.prefix import IPV4, Address, Prefix, parse_prefix
from cni_plugins.skeleton.record import Record

_METADATA_PREFIXES = tuple(
    prefix for text in ("169.254.169.254/32", "fd00:ec2::254/128") if (prefix := parse_prefix(text))
)
# Links that carry another link's MAC: never the ENI itself, if something else has it too.
_STACKED_KINDS = ("vlan", "macvlan", "macvtap", "ipvlan", "bridge", "bond", "team")
_NO_IPV6 = (EAFNOSUPPORT, EOPNOTSUPP)


class Held(Record):
    """What the kernel has in the ENI's namespace: the link itself, and all addresses and routes there."""

    link: Link
    addresses: tuple[HeldAddress, ...] = ()
    routes: tuple[HeldRoute, ...] = ()


def choose_device(candidates: list[Link], mac: bytes) -> Link | None:
    """The link with that MAC. If several have it: the one that is not stacked on another, then the oldest."""
    same = [link for link in candidates if link.mac == mac]
    return min(same, key=lambda link: (link.kind in _STACKED_KINDS, link.index)) if same else None


def converge(config: EniConfig, held: Held) -> list[Operation]:
    """What is to be done in the namespace so that it is as configured; empty if it is."""
    if config.stays_down:
        return []
    index = held.link.index
    steps = []
    if config.mtu and held.link.mtu != config.mtu:
        steps.append(Operation(f"set the mtu {config.mtu}", links.set_mtu(index, config.mtu)))
    if not held.link.up:
        steps.append(Operation("set the link up", links.set_up(index)))
    present = {address.prefix for address in held.addresses if address.index == index}
    steps += [
        Operation(f"add the IP address {prefix}", addresses.add_address(index, prefix))
        for prefix in config.addresses
        if prefix not in present
    ]
    steps += [
        # the first ENI's default route wins, so a taken one is fine
        Operation(
            "add the route for the gateway",
            addresses.add_route(_default(gateway), gateway, index),
            tolerated=(EEXIST,),
            subject=str(gateway),
        )
        for gateway in config.gateways
        if not _has_default(held, gateway)
    ]
    if config.blocks_metadata:
        steps += [_blackhole(prefix) for prefix in _METADATA_PREFIXES if not _has_blackhole(held, prefix)]
    return steps


def remove_blackholes(routes: tuple[HeldRoute, ...]) -> list[Operation]:
    """Undo the only thing that converge leaves in a namespace when the ENI goes; foreign routes stay."""
    return [
        Operation(
            f"drop the blackhole route {route.destination}",
            addresses.delete_blackhole(route.destination),
            tolerated=(ESRCH, *_NO_IPV6),
        )
        for route in routes
        if route.is_blackhole
        and route.protocol == addresses.PROTOCOL
        and route.destination in _METADATA_PREFIXES
    ]


def host_names(mac: bytes, former: str) -> tuple[str, ...]:
    """Names for an ENI that returns to the host, best first.

    The last lets the kernel count; the one before comes from the whole MAC, so two ENIs never compete for it.
    """
    return (*([former] if former else []), f"eni{mac.hex()}", "eni%d")


def _has_default(held: Held, gateway: Address) -> bool:
    """Whether a default route over this gateway, or over another link, is there."""
    default = _default(gateway)
    return any(
        route.destination == default and (route.gateway == gateway or route.index != held.link.index)
        for route in held.routes
    )


def _has_blackhole(held: Held, prefix: Prefix) -> bool:
    return any(route.is_blackhole and route.destination == prefix for route in held.routes)


def _blackhole(prefix: Prefix) -> Operation:
    tolerated = (
        () if prefix.family == IPV4 else _NO_IPV6
    )  # a host without IPv6 cannot reach the address anyway
    return Operation(f"add the blackhole route {prefix}", addresses.add_blackhole(prefix), tolerated)


def _default(gateway: Address) -> Prefix:
    return Prefix(Address(gateway.family, 0), 0)
