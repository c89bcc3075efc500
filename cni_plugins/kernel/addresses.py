"""Addresses, routes, neighbours and FDB entries: what they look like, and the requests that change them."""

from __future__ import annotations

from _struct import Struct

from cni_plugins.kernel import rtnetlink as rt
from cni_plugins.kernel.rtnetlink import Message, Netlink
from cni_plugins.skeleton.prefix import BITS, IPV4, IPV6, Address, Prefix
from cni_plugins.skeleton.record import Record

PROTOCOL = 0xBE  # marks our routes and neighbours, see rt_protos; GC and repair touch no others
_ADDRESS, _LOCAL, _FLAGS = 1, 2, 8
_NODAD, _GLOBAL_SCOPE, _LINK_SCOPE = 2, 0, 253
_DST, _OIF, _GATEWAY, _TABLE = 1, 4, 5, 15
_MAIN_TABLE, _UNICAST, _BLACKHOLE = 254, 1, 6
_ND_DST, _ND_LLADDR, _ND_PROTOCOL = 1, 2, 12
_PERMANENT, _NOARP, _NTF_MASTER, _AF_BRIDGE = 0x80, 0x40, 4, 7
_CLONED = 0x200
_ADDRESS_HEADER = Struct("=BBBBI")
_ROUTE_HEADER = Struct("=BBBBBBBBI")
_NEIGHBOUR_HEADER = Struct("=BxxxiHBB")


class HeldAddress(Record):
    """An address on a link; `is_link_scope` for fe80 addresses, which the kernel may have made itself."""

    index: int
    prefix: Prefix
    is_link_scope: bool


class HeldRoute(Record):
    """A unicast or blackhole route; `index` 0 for a blackhole; `gateway` None if on link."""

    destination: Prefix
    gateway: Address | None
    index: int
    is_blackhole: bool
    protocol: int


class HeldNeighbour(Record):
    """A neighbour or FDB entry; `address` None for the latter. `protocol` is 0 where nobody set it."""

    index: int
    mac: bytes
    address: Address | None
    is_permanent: bool
    is_static: bool
    protocol: int


def list_addresses(netlink: Netlink) -> list[HeldAddress]:
    """All addresses of the socket's namespace, IPv4 first."""
    held = []
    for reply in netlink.dump(rt.GETADDR, _ADDRESS_HEADER.pack(0, 0, 0, 0, 0)):
        family, length, _, scope, index = _ADDRESS_HEADER.unpack_from(reply.body)
        if family not in BITS:
            continue
        found = rt.attributes(reply.body, _ADDRESS_HEADER.size)
        value = found.get(_LOCAL) or found[_ADDRESS]
        held.append(HeldAddress(index, Prefix(_address(family, value), length), scope == _LINK_SCOPE))
    return held


def list_routes(netlink: Netlink) -> list[HeldRoute]:
    """The main table of both families, without the kernel's cloned and multicast entries."""
    held = []
    for reply in netlink.dump(rt.GETROUTE, _ROUTE_HEADER.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
        family, length, _, _, table, protocol, _, kind, flags = _ROUTE_HEADER.unpack_from(reply.body)
        if family not in BITS or kind not in (_UNICAST, _BLACKHOLE) or flags & _CLONED:
            continue
        found = rt.attributes(reply.body, _ROUTE_HEADER.size)
        if int.from_bytes(found.get(_TABLE, bytes([table])), "little") != _MAIN_TABLE:
            continue
        destination = _address(family, found[_DST]) if _DST in found else Address(family, 0)
        gateway = _address(family, found[_GATEWAY]) if _GATEWAY in found else None
        blackhole = kind == _BLACKHOLE
        index = 0 if blackhole else int.from_bytes(found.get(_OIF, b""), "little")
        held.append(HeldRoute(Prefix(destination, length), gateway, index, blackhole, protocol))
    return held


def list_neighbours(netlink: Netlink, index: int) -> list[HeldNeighbour]:
    """The neighbour entries of one link."""
    request = _NEIGHBOUR_HEADER.pack(0, 0, 0, 0, 0) + rt.number(8, index)  # NDA_IFINDEX filters in the kernel
    return [entry for entry in _neighbours(netlink, request) if entry.index == index]


def list_forwarding(netlink: Netlink, bridge: int) -> list[HeldNeighbour]:
    """The forwarding database of one bridge; `index` is the port's."""
    request = _NEIGHBOUR_HEADER.pack(_AF_BRIDGE, 0, 0, 0, 0) + rt.number(9, bridge)  # NDA_MASTER
    return _neighbours(netlink, request)


def add_address(index: int, prefix: Prefix) -> Message:
    """Give a link an address, IPv6 without duplicate detection.

    Whoever assigned it guarantees that it is free, and an address under detection cannot be bound for 1.7 s.
    """
    return Message(rt.NEWADDR, rt.CREATE | rt.EXCLUSIVE, _address_body(index, prefix, _NODAD))


def delete_address(index: int, prefix: Prefix) -> Message:
    """Take an address away."""
    return Message(rt.DELADDR, 0, _address_body(index, prefix, 0))


def add_route(destination: Prefix, gateway: Address | None, index: int) -> Message:
    """A unicast route over a link, marked as ours."""
    scope = _GLOBAL_SCOPE if gateway is not None or destination.family == IPV6 else _LINK_SCOPE
    body = _route_body(destination, scope, _UNICAST, PROTOCOL) + rt.number(_OIF, index)
    if gateway is not None:
        body += rt.attribute(_GATEWAY, gateway.packed)
    return Message(rt.NEWROUTE, rt.CREATE | rt.EXCLUSIVE, body)


def add_blackhole(destination: Prefix) -> Message:
    """Refuse a destination at once, marked as ours."""
    body = _route_body(destination, _GLOBAL_SCOPE, _BLACKHOLE, PROTOCOL)
    return Message(rt.NEWROUTE, rt.CREATE | rt.EXCLUSIVE, body)


def delete_blackhole(destination: Prefix) -> Message:
    """Undo add_blackhole."""
    return Message(rt.DELROUTE, 0, _route_body(destination, _GLOBAL_SCOPE, _BLACKHOLE, PROTOCOL))


def delete_connected_route(prefix: Prefix, index: int) -> Message:
    """Drop the on-link route that the kernel made for an address."""
    scope = _LINK_SCOPE if prefix.family == IPV4 else _GLOBAL_SCOPE
    kernels = 2  # RTPROT_KERNEL
    body = _route_body(prefix.masked(), scope, _UNICAST, kernels) + rt.number(_OIF, index)
    return Message(rt.DELROUTE, 0, body)


def pin_neighbour(index: int, address: Address, mac: bytes) -> Message:
    """A neighbour entry that no ARP or ND message can change."""
    return Message(rt.NEWNEIGH, rt.CREATE | rt.REPLACE, _neighbour_body(index, address, mac))


def delete_neighbour(index: int, address: Address) -> Message:
    """Undo pin_neighbour."""
    body = _NEIGHBOUR_HEADER.pack(address.family, index, 0, 0, 0) + rt.attribute(_ND_DST, address.packed)
    return Message(rt.DELNEIGH, 0, body)


def pin_forwarding(port: int, mac: bytes) -> Message:
    """A static FDB entry: frames for this MAC leave by this port and no other, whatever anybody sends."""
    header = _NEIGHBOUR_HEADER.pack(_AF_BRIDGE, port, _NOARP, _NTF_MASTER, 0)
    return Message(rt.NEWNEIGH, rt.CREATE | rt.REPLACE, header + rt.attribute(_ND_LLADDR, mac))


def _neighbours(netlink: Netlink, request: bytes) -> list[HeldNeighbour]:
    held = []
    for reply in netlink.dump(rt.GETNEIGH, request):
        family, index, state, _, _ = _NEIGHBOUR_HEADER.unpack_from(reply.body)
        found = rt.attributes(reply.body, _NEIGHBOUR_HEADER.size)
        address = _address(family, found[_ND_DST]) if family in BITS and _ND_DST in found else None
        held.append(
            HeldNeighbour(
                index=index,
                mac=found.get(_ND_LLADDR, b""),
                address=address,
                is_permanent=bool(state & _PERMANENT),
                is_static=bool(state & _NOARP),
                protocol=int.from_bytes(found.get(_ND_PROTOCOL, b""), "little"),
            )
        )
    return held


def _address_body(index: int, prefix: Prefix, flags: int) -> bytes:
    packed = prefix.address.packed
    scope = _LINK_SCOPE if prefix.address.is_link_local else _GLOBAL_SCOPE
    header = _ADDRESS_HEADER.pack(prefix.family, prefix.length, flags, scope, index)
    body = header + rt.attribute(_LOCAL, packed) + rt.attribute(_ADDRESS, packed)
    return body + rt.number(_FLAGS, flags) if flags else body


def _route_body(destination: Prefix, scope: int, kind: int, protocol: int) -> bytes:
    header = _ROUTE_HEADER.pack(
        destination.family, destination.length, 0, 0, _MAIN_TABLE, protocol, scope, kind, 0
    )
    return header + rt.attribute(_DST, destination.address.packed)


def _neighbour_body(index: int, address: Address, mac: bytes) -> bytes:
    header = _NEIGHBOUR_HEADER.pack(address.family, index, _PERMANENT, 0, 0)
    body = header + rt.attribute(_ND_DST, address.packed) + rt.attribute(_ND_LLADDR, mac)
    return body + rt.attribute(_ND_PROTOCOL, bytes([PROTOCOL]))


def _address(family: int, packed: bytes) -> Address:
    return Address(family, int.from_bytes(packed, "big"))
