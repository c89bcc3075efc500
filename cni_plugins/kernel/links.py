"""Links: what they look like, and the requests that make, change, move and delete them."""

from __future__ import annotations

from _struct import Struct

from cni_plugins.kernel import rtnetlink as rt
from cni_plugins.kernel.errors import GONE, KernelRefused
from cni_plugins.kernel.rtnetlink import Message, Netlink
from cni_plugins.skeleton.record import Record

UP = 1
_ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _LINKINFO = 1, 3, 4, 5, 10, 18
_IFALIAS, _AF_SPEC, _NET_NS_FD, _EXT_MASK = 20, 26, 28, 29
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_PEER = 1
_INET6, _ADDR_GEN_MODE = 10, 8
_ADDR_GEN_NONE = 1
_PORT_LEARNING, _PORT_ISOLATED, _PORT_LOCKED = 8, 33, 39  # IFLA_BRPORT_*
_SKIP_STATISTICS = 1 << 3
_HEADER = Struct("=BxHiII")  # family, type, index, flags, change


class Link(Record):
    """A link as the kernel tells it.

    `lower` is the index of the link it sits on or, for a veth, of its peer (0: none); `master` that of its
    bridge (0: none); `port` holds the bridge port's attributes, raw.
    """

    index: int
    name: str
    mac: bytes
    kind: str
    up: bool
    mtu: int
    lower: int
    master: int
    alias: str
    port: dict[int, bytes]

    @property
    def is_guarded(self) -> bool:
        """Whether this bridge port is isolated and does not learn."""
        return self.port.get(_PORT_ISOLATED) == b"\1" and self.port.get(_PORT_LEARNING) == b"\0"


class End(Record):
    """One end of a veth pair that is to be made."""

    name: str
    mac: bytes


def list_links(netlink: Netlink) -> list[Link]:
    """All links of the socket's namespace, in the kernel's order."""
    request = _header() + rt.number(_EXT_MASK, _SKIP_STATISTICS)
    return [_parse(reply.body) for reply in netlink.dump(rt.GETLINK, request) if reply.kind == rt.NEWLINK]


def find_link(netlink: Netlink, name: str) -> Link | None:
    """The link of that name, or None."""
    return _get(netlink, _header() + rt.text(_IFNAME, name))


def find_link_at(netlink: Netlink, index: int) -> Link | None:
    """The link of that index, or None."""
    return _get(netlink, _header(index))


def parse_notification(reply: rt.Reply) -> Link | None:
    """The link that a notification tells of, or None if it tells of something else."""
    return _parse(reply.body) if reply.kind == rt.NEWLINK else None


def deleted_index(reply: rt.Reply) -> int:
    """The index of the link whose end a notification tells, or 0.

    A port that leaves its bridge is told with the same kind in the bridge's family; that is not its end.
    """
    family, _, index, _, _ = _HEADER.unpack_from(reply.body) if reply.kind == rt.DELLINK else (0, 0, 0, 0, 0)
    return int(index) if family == 0 else 0


def new_bridge(name: str, mac: bytes, mtu: int) -> Message:
    """Make a bridge, down. The MAC comes with it: a bridge without one takes its lowest port's, and flaps."""
    body = _header() + rt.text(_IFNAME, name) + rt.number(_MTU, mtu) + rt.attribute(_ADDRESS, mac)
    return Message(
        rt.NEWLINK, rt.CREATE | rt.EXCLUSIVE, body + rt.nested(_LINKINFO, rt.text(_INFO_KIND, "bridge"))
    )


def new_veth(port: End, master: int, leg: End, netns: int, mtu: int) -> Message:
    """Make a veth pair in its final place: one end a port of `master`, one in the netns (a descriptor).

    One message costs 0.7 ms; making the pair in one place and moving an end costs 15 to 20 ms of waiting.
    """
    peer = _end(leg, mtu) + rt.number(_NET_NS_FD, netns)
    data = rt.nested(_INFO_DATA, rt.attribute(_VETH_PEER | rt.NESTED, peer))
    info = rt.nested(_LINKINFO, rt.text(_INFO_KIND, "veth"), data)
    return Message(rt.NEWLINK, rt.CREATE | rt.EXCLUSIVE, _end(port, mtu) + rt.number(_MASTER, master) + info)


def guard_port(index: int, *, locked: bool) -> Message:
    """Isolate a bridge port and stop it from learning; `locked` also drops frames from foreign MACs."""
    options = [(_PORT_ISOLATED, 1), (_PORT_LEARNING, 0), *([(_PORT_LOCKED, 1)] if locked else [])]
    data = [rt.attribute(kind, bytes([value])) for kind, value in options]
    info = rt.nested(_LINKINFO, rt.text(_INFO_SLAVE_KIND, "bridge"), rt.nested(_INFO_SLAVE_DATA, *data))
    return Message(rt.NEWLINK, 0, _header(index) + info)


def set_alias(index: int, alias: str) -> Message:
    """Write the ownership mark; empty removes it."""
    return Message(rt.SETLINK, 0, _header(index) + rt.attribute(_IFALIAS, alias.encode()))


def set_name(index: int, name: str) -> Message:
    """Rename a link that is down. EEXIST if the name is taken."""
    return Message(rt.SETLINK, 0, _header(index) + rt.text(_IFNAME, name))


def set_mtu(index: int, mtu: int) -> Message:
    """Change the MTU."""
    return Message(rt.SETLINK, 0, _header(index) + rt.number(_MTU, mtu))


def set_up(index: int) -> Message:
    """Bring the link up."""
    return Message(rt.SETLINK, 0, _header(index, UP, UP))


def set_down(index: int) -> Message:
    """Take the link down; the kernel drops its routes and IPv6 addresses with it."""
    return Message(rt.SETLINK, 0, _header(index, 0, UP))


def without_generated_addresses(index: int) -> Message:
    """Let the kernel make no fe80 address, hence no fe80 route either."""
    mode = rt.nested(_AF_SPEC, rt.nested(_INET6, rt.attribute(_ADDR_GEN_MODE, bytes([_ADDR_GEN_NONE]))))
    return Message(rt.SETLINK, 0, _header(index) + mode)


def move_link(index: int, netns: int, name: str, alias: str) -> Message:
    """Move a link to a namespace (a descriptor), rename it there and mark it, in one message.

    The kernel takes it down and drops its addresses. It renames after the move: EEXIST can mean that the link
    has arrived under its old name.
    """
    body = _header(index) + rt.number(_NET_NS_FD, netns) + rt.text(_IFNAME, name)
    return Message(rt.SETLINK, 0, body + rt.attribute(_IFALIAS, alias.encode()))


def delete_link(index: int) -> Message:
    """Delete a link; of a veth both ends go."""
    return Message(rt.DELLINK, 0, _header(index))


def _end(end: End, mtu: int) -> bytes:
    named = _header() + rt.text(_IFNAME, end.name)
    return named + rt.number(_MTU, mtu) + rt.attribute(_ADDRESS, end.mac)


def _get(netlink: Netlink, request: bytes) -> Link | None:
    try:
        replies = netlink.ask(Message(rt.GETLINK, 0, request + rt.number(_EXT_MASK, _SKIP_STATISTICS)))
    except KernelRefused as refusal:
        if refusal.errno in GONE:
            return None
        raise
    return _parse(replies[0].body) if replies else None


def _header(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _HEADER.pack(0, 0, index, flags, change)


def _parse(body: bytes) -> Link:
    _, _, index, flags, _ = _HEADER.unpack_from(body)
    found = rt.attributes(body, _HEADER.size)
    info = rt.attributes(found.get(_LINKINFO, b""))
    return Link(
        index=index,
        name=_string(found.get(_IFNAME)),
        mac=found.get(_ADDRESS, b""),
        kind=_string(info.get(_INFO_KIND)),
        up=bool(flags & UP),
        mtu=_number(found.get(_MTU)),
        lower=_number(found.get(_LINK)),
        master=_number(found.get(_MASTER)),
        alias=_string(found.get(_IFALIAS)),
        port=rt.attributes(info[_INFO_SLAVE_DATA]) if _INFO_SLAVE_DATA in info else {},
    )


def _string(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode("utf-8", "replace")


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "little")
