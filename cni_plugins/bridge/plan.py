"""What a task's leg and its bridge must be like, and what they still lack. Pure."""

from __future__ import annotations

from binascii import crc32

from cni_plugins.bridge.config import TaskAddress, TaskAddresses
from cni_plugins.kernel import addresses, links
from cni_plugins.kernel.addresses import HeldAddress, HeldNeighbour, HeldRoute
from cni_plugins.kernel.errors import EAFNOSUPPORT, EEXIST, EINVAL, EOPNOTSUPP, ESRCH, GONE
from cni_plugins.kernel.links import Link
from cni_plugins.kernel.operations import Operation
from cni_plugins.skeleton.errors import FAILED, CniError
from cni_plugins.skeleton.prefix import IPV4, Address, Prefix
from cni_plugins.skeleton.record import Record
from cni_plugins.skeleton.result import Route

_MAC_PREFIX = b"\x0a\x58"
# kernels before 5.18 know no locked ports, and those without IPv6 make no addresses that could be turned off
_NO_SUCH_OPTION = (EINVAL, EOPNOTSUPP, EAFNOSUPPORT)


class Port(Record):
    """A task's connection as found: its leg (inside), the port (on the host), and the bridge."""

    leg: Link
    port: Link
    bridge: Link
    addresses: tuple[HeldAddress, ...]
    routes: tuple[HeldRoute, ...]


def task_mac(task: TaskAddresses, chance: bytes) -> bytes:
    """0a:58 and the four IPv4 bytes, as the agent and CNI's own bridge have it; by chance for IPv6 alone."""
    for address in task.addresses:
        if address.prefix.family == IPV4:
            return _MAC_PREFIX + address.prefix.address.packed
    return local_unicast(chance)


def bridge_mac(task: TaskAddresses) -> bytes:
    """The same for every bridge of that gateway: tasks pin it, so it must outlive the bridge."""
    gateway = task.addresses[0].gateway
    return _MAC_PREFIX + (
        gateway.packed if gateway.family == IPV4 else crc32(gateway.packed).to_bytes(4, "big")
    )


def local_unicast(chance: bytes) -> bytes:
    """Six random bytes as a MAC that no vendor owns."""
    return bytes([chance[0] & 0xFE | 0x02]) + chance[1:6]


def require_bridge(link: Link, name: str) -> None:
    """Raise CniError 100 if the link of that name is something else."""
    if link.kind != "bridge":
        raise CniError(
            FAILED,
            f"bridge create: interface named {name} already exists, but is not a bridge",
            f"it is {link.kind!r}",
        )


def require_matching(bridge: Link, held: list[HeldAddress], task: TaskAddresses) -> None:
    """Raise CniError 100 if the bridge serves another subnet of the same family already."""
    for address in task.addresses:
        others = [
            entry.prefix
            for entry in held
            if entry.index == bridge.index
            and entry.prefix.family == address.prefix.family
            and not entry.is_link_scope
        ]
        if others and _gateway_prefix(address) not in others:
            raise CniError(
                FAILED,
                f"bridge configure: mismatch in bridge {bridge.name} address "
                f"for family {address.prefix.family}",
                f"it has {others[0]}, ipam wants {_gateway_prefix(address)}",
            )


def serve(bridge: Link, held: list[HeldAddress], task: TaskAddresses) -> list[Operation]:
    """Make the bridge the gateway: up, with the gateway's addresses."""
    present = {entry.prefix for entry in held if entry.index == bridge.index}
    steps = [] if bridge.up else [Operation(f"set {bridge.name} up", links.set_up(bridge.index))]
    return steps + [
        Operation(
            f"add {prefix} to {bridge.name}", addresses.add_address(bridge.index, prefix), tolerated=(EEXIST,)
        )
        for prefix in map(_gateway_prefix, task.addresses)
        if prefix not in present
    ]


def guard(port: int, bridge: int, mac: bytes, task: TaskAddresses, alias: str) -> list[Operation]:
    """Host side of a fresh port: marked, isolated, and no way to speak for another task. Comes up last.

    Isolation keeps tasks apart; without learning and with a static entry, frames for a MAC leave by its port;
    a locked port drops frames from any other MAC; the pinned neighbour makes forged ARP and ND pointless.
    """
    return [
        Operation("mark the port", links.set_alias(port, alias)),
        Operation("isolate the port", links.guard_port(port, locked=False)),
        Operation("lock the port", links.guard_port(port, locked=True), tolerated=_NO_SUCH_OPTION),
        Operation(
            "turn off generated addresses", links.without_generated_addresses(port), tolerated=_NO_SUCH_OPTION
        ),
        Operation("pin the forwarding entry", addresses.pin_forwarding(port, mac)),
        *(
            Operation(
                f"pin the neighbour {address.prefix.address}",
                addresses.pin_neighbour(bridge, address.prefix.address, mac),
            )
            for address in task.addresses
        ),
        Operation("set the port up", links.set_up(port)),
    ]


def connect(leg: int, gateway_mac: bytes, task: TaskAddresses) -> list[Operation]:
    """Task side: addresses and routes, but none on link, so that no neighbour is reached by a shortcut."""
    steps = [
        # before it comes up, or the kernel makes a fe80 address and route that can only be removed too late
        Operation(
            "turn off generated addresses", links.without_generated_addresses(leg), tolerated=_NO_SUCH_OPTION
        ),
        Operation("set the link up", links.set_up(leg)),
    ]
    steps += [
        Operation(f"add the IP address {address.prefix}", addresses.add_address(leg, address.prefix))
        for address in task.addresses
    ]
    steps += [
        Operation(
            f"add the route {route.destination}",
            addresses.add_route(route.destination, route.gateway, leg),
            tolerated=(EEXIST,),
        )
        for route in all_routes(task)
    ]
    steps += [
        Operation(
            f"remove the connected route {address.prefix.masked()}",
            addresses.delete_connected_route(address.prefix, leg),
            tolerated=(ESRCH,),
        )
        for address in task.addresses
    ]
    return steps + [
        Operation(
            f"pin the neighbour {address.gateway}", addresses.pin_neighbour(leg, address.gateway, gateway_mac)
        )
        for address in task.addresses
    ]


def all_routes(task: TaskAddresses) -> tuple[Route, ...]:
    """IPAM's routes, those without a gateway via their family's; then the gateways, each via itself.

    In this order: IPv6 refuses a gateway that is itself reached by a gatewayed route.
    """
    gateways = {address.prefix.family: address.gateway for address in task.addresses}
    own = tuple(Route(gateway.host_prefix(), gateway) for gateway in gateways.values())
    given = tuple(
        Route(route.destination, route.gateway or gateways.get(route.destination.family))
        for route in task.routes
    )
    return given + own


def deviations(found: Port, mac: str, expected: tuple[Prefix, ...], routes: tuple[Route, ...]) -> list[str]:
    """Everything that is not as ADD left it, in words. Extra routes and addresses are nobody's business."""
    wrong = []
    if mac and found.leg.mac.hex(":") != mac.lower():
        wrong.append(f"the MAC of {found.leg.name} is {found.leg.mac.hex(':')}, expected {mac}")
    if found.port.master != found.bridge.index:
        wrong.append(f"{found.port.name} is not plugged into {found.bridge.name}")
    if not found.port.is_guarded:
        wrong.append(f"{found.port.name} is not isolated")
    wrong += [f"{link.name} is down" for link in (found.leg, found.port, found.bridge) if not link.up]
    held = {address.prefix for address in found.addresses if address.index == found.leg.index}
    wrong += [f"{found.leg.name} lacks the address {prefix}" for prefix in expected if prefix not in held]
    present = {route.destination for route in found.routes}
    return wrong + [
        f"the route {route.destination} is missing" for route in routes if route.destination not in present
    ]


def orphaned_neighbours(pinned: list[HeldNeighbour], forwarding: list[HeldNeighbour]) -> tuple[Address, ...]:
    """Addresses that we pinned on the bridge for a MAC that no port has any more."""
    alive = {entry.mac for entry in forwarding if entry.is_static}
    return tuple(
        entry.address
        for entry in pinned
        if entry.address is not None
        and entry.is_permanent
        and entry.protocol == addresses.PROTOCOL
        and entry.mac not in alive
    )


def unpin(bridge: int, gone: tuple[Address, ...]) -> list[Operation]:
    """Drop the neighbour entries of addresses whose task has left."""
    return [
        Operation(
            f"unpin the neighbour {address}", addresses.delete_neighbour(bridge, address), tolerated=GONE
        )
        for address in gone
    ]


def _gateway_prefix(address: TaskAddress) -> Prefix:
    return Prefix(address.gateway, address.prefix.length)
