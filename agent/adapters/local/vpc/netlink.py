"""rtnetlink in one namespace: what the simulated VPC needs, with errors that name what was tried."""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.adapters.local.vpc.errors import KernelRefused

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_IFF_UP = 1
_IFA_F_NODAD = 2
_RTNH_F_ONLINK = 4
_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30
_NLM_REQUEST_ACK, _NLM_CREATE, _NLM_DUMP = 0x5, 0x400, 0x301
_NTF_PROXY = 8
_NDA_DST = 1
_LOCAL_TABLE = 255
_UNREACHABLE = 7  # RTN_UNREACHABLE
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
#: Requests per message of a batch: their acknowledgements must fit into the socket's buffer.
_BATCH = 64
_PROXY_REQUEST = struct.Struct("=IHHII BxxxiHBB HH16s")


@dataclass(frozen=True, slots=True)
class Link:
    """A link as the kernel shows it. ``alias`` is empty when there is none."""

    index: int
    name: str
    mac_address: str
    alias: str
    group: int
    mtu: int
    is_up: bool


@dataclass(frozen=True, slots=True)
class Route:
    """A route of any table but ``local``. ``link`` is None for routes that go nowhere or several ways."""

    destination: Network
    via: str | None
    link: int | None
    table: int
    is_unreachable: bool


@dataclass(frozen=True, slots=True)
class Proxy:
    """The router answers, on that link, neighbour solicitations for that address."""

    link: int
    address: str


class Rtnetlink:
    """One socket in the namespace in which it was made; keeps that namespace alive until closed.

    Made, used and closed on one thread. Every method raises KernelRefused with the kernel's errno.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
        self._ip = IPRoute(use_socket=self._socket)
        self._batches = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._batches.settimeout(10)

    def close(self) -> None:
        """Release the namespace."""
        self._ip.close()
        self._socket.close()
        self._batches.close()

    def link_named(self, name: str) -> Link | None:
        """The link of that name, or None."""
        try:
            with _refusals(f"look up link {name}"):
                return _link(self._ip.link("get", ifname=name)[0])
        except KernelRefused as refusal:
            if refusal.errno == errno.ENODEV:
                return None
            raise

    def links(self) -> tuple[Link, ...]:
        """All links of the namespace."""
        with _refusals("list links"):
            return tuple(_link(message) for message in self._ip.link("dump"))

    def create_veth(
        self,
        name: str,
        *,
        mac_address: str,
        group: int,
        mtu: int,
        peer: str,
        peer_mac: str,
        peer_namespace: int,
    ) -> int:
        """A veth pair, both ends down, the peer born in that descriptor's namespace. Returns our index."""
        with _refusals(f"create link {name} with peer {peer}"):
            self._ip.link(
                "add",
                ifname=name,
                kind="veth",
                address=mac_address,
                group=group,
                mtu=mtu,
                peer={"ifname": peer, "address": peer_mac, "mtu": mtu, "net_ns_fd": peer_namespace},
            )
            return int(self._ip.link("get", ifname=name)[0]["index"])

    def set_up(self, index: int, *, alias: str | None = None) -> None:
        """Set the link up and, in the same request, its alias."""
        extra = {} if alias is None else {"ifalias": alias}
        with _refusals(f"set link {index} up"):
            self._ip.link("set", index=index, state="up", **extra)

    def delete_link(self, index: int) -> None:
        """Delete the link and its peer. Fine when it is gone."""
        with _refusals(f"delete link {index}", fine=errno.ENODEV):
            self._ip.link("del", index=index)

    def delete_group(self, group: int) -> None:
        """Delete all links of a group at once, which costs as much as deleting one. Fine when empty."""
        with _refusals(f"delete links of group {group}", fine=errno.ENODEV):
            self._ip.link("del", group=group)

    def addresses(self) -> tuple[tuple[int, IPv4Interface | IPv6Interface], ...]:
        """(link index, address with prefix) of everything in the namespace."""
        with _refusals("list addresses"):
            return tuple(_address(message) for message in self._ip.addr("dump"))

    def ensure_address(self, index: int, address: Address, prefix: int) -> None:
        """Give the link the address, usable at once (no duplicate detection). Fine when it has it."""
        flags = {"flags": _IFA_F_NODAD} if address.version == 6 else {}  # noqa: PLR2004
        with _refusals(f"add address {address} to link {index}", fine=errno.EEXIST):
            self._ip.addr("add", index=index, address=str(address), prefixlen=prefix, **flags)

    def remove_address(self, index: int, address: Address, prefix: int) -> None:
        """Take the address away. Fine when it is gone."""
        with _refusals(f"remove address {address} from link {index}", fine=errno.EADDRNOTAVAIL):
            self._ip.addr("del", index=index, address=str(address), prefixlen=prefix)

    def routes(self, version: int) -> tuple[Route, ...]:
        """All routes of that IP version but those of the local table."""
        with _refusals("list routes"):
            dump = tuple(self._ip.route("dump", family=_FAMILY[version]))
        return tuple(
            _route(message, version) for message in dump if message.get_attr("RTA_TABLE") != _LOCAL_TABLE
        )

    def claim_route(self, destination: Network, link: int, *, source: Address | None = None) -> int | None:
        """Route the range through the link unless it has a route. Returns the link that has it now."""
        wanted = _route_request(destination, link, source)
        try:
            with _refusals(f"route {destination} through link {link}"):
                self._ip.route("add", **wanted)
        except KernelRefused as refusal:
            if refusal.errno != errno.EEXIST:
                raise
            owners = (
                route.link for route in self.routes(destination.version) if route.destination == destination
            )
            return next(owners, None)
        return link

    def ensure_route(
        self, destination: Network, link: int, *, via: Address | None = None, source: Address | None = None
    ) -> None:
        """Route the range through the link, instead of another. ``via`` need not be in a connected range."""
        wanted = _route_request(destination, link, source)
        if via is not None:
            wanted.pop("scope", None)
            wanted |= {"gateway": str(via), "flags": _RTNH_F_ONLINK}
        with _refusals(f"route {destination} through link {link}"):
            self._ip.route("replace", **wanted)

    def ensure_unreachable(self, destination: Network) -> None:
        """Answer packets to that range with ICMP unreachable, unless a narrower route knows better."""
        with _refusals(f"make {destination} unreachable"):
            self._ip.route(
                "replace", dst=str(destination), type="unreachable", family=_FAMILY[destination.version]
            )

    def ensure_neighbour(self, link: int, address: Address, mac_address: str) -> None:
        """A permanent entry: nothing that arrives on the link can change it."""
        with _refusals(f"set neighbour {address} on link {link}"):
            self._ip.neigh("replace", dst=str(address), lladdr=mac_address, ifindex=link, state="permanent")

    def neighbours(self) -> frozenset[tuple[int, str, str]]:
        """(link, address, MAC) of all permanent entries."""
        permanent = 0x80  # NUD_PERMANENT
        with _refusals("list neighbours"):
            return frozenset(
                (
                    int(message["ifindex"]),
                    str(message.get_attr("NDA_DST")),
                    str(message.get_attr("NDA_LLADDR")),
                )
                for message in self._ip.neigh("dump")
                if message["state"] & permanent and message.get_attr("NDA_LLADDR") is not None
            )

    def proxies(self) -> frozenset[Proxy]:
        """All IPv6 addresses for which the router answers, by link."""
        # As numbers, since neigh("dump", flags=...) only filters the answers and does not ask for proxies.
        dump = (_RTM_GETNEIGH, _NLM_DUMP)
        with _refusals("list proxies"):
            answers = self._ip.neigh(dump, family=socket.AF_INET6, flags=_NTF_PROXY, state=0)
        return frozenset(Proxy(int(found["ifindex"]), str(found.get_attr("NDA_DST"))) for found in answers)

    def change_proxies(self, *, add: Iterable[Proxy] = (), remove: Iterable[Proxy] = ()) -> None:
        """Many proxy entries in few system calls. Entries of links that have gone meanwhile do not matter."""
        wanted = [(_RTM_DELNEIGH, 0, proxy) for proxy in remove]
        wanted += [(_RTM_NEWNEIGH, _NLM_CREATE, proxy) for proxy in add]
        for start in range(0, len(wanted), _BATCH):
            self._send_proxies(wanted[start : start + _BATCH])

    def _send_proxies(self, wanted: list[tuple[int, int, Proxy]]) -> None:
        # The kernel has no IPv6 proxy entry for all links (it refuses index 0), so there is one for each pair
        # of neighbours; packed by hand, since a hundred of them take pyroute2 10 ms and this 1 ms.
        self._batches.send(
            b"".join(
                _PROXY_REQUEST.pack(
                    _PROXY_REQUEST.size, kind, _NLM_REQUEST_ACK | flags, sequence, 0,
                    socket.AF_INET6, proxy.link, 0, _NTF_PROXY, 0,
                    20, _NDA_DST, socket.inet_pton(socket.AF_INET6, proxy.address),
                )
                for sequence, (kind, flags, proxy) in enumerate(wanted)
            )
        )  # fmt: skip
        answered = 0
        while answered < len(wanted):
            answers = self._batches.recv(65536)
            offset = 0
            while offset < len(answers):
                length, _, _, sequence, _, failure = struct.unpack_from("=IHHIIi", answers, offset)
                if -failure not in (0, errno.ENODEV, errno.ENOENT):
                    proxy = wanted[sequence][2]
                    message = (
                        f"cannot answer for {proxy.address} on link {proxy.link}: {os.strerror(-failure)}"
                    )
                    raise KernelRefused(message, -failure)
                answered += 1
                offset += (length + 3) & ~3


@contextmanager
def _refusals(what: str, *, fine: int | None = None) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        if error.code != fine:
            raise KernelRefused(f"cannot {what}: {os.strerror(error.code)}", error.code) from error


def _route_request(destination: Network, link: int, source: Address | None) -> dict[str, Any]:
    wanted: dict[str, Any] = {"dst": str(destination), "oif": link, "family": _FAMILY[destination.version]}
    if destination.version == 4:  # noqa: PLR2004
        wanted["scope"] = "link"
    if source is not None:
        wanted["prefsrc"] = str(source)
    return wanted


def _link(message: Any) -> Link:  # pyroute2 has no types
    return Link(
        index=int(message["index"]),
        name=str(message.get_attr("IFLA_IFNAME")),
        mac_address=str(message.get_attr("IFLA_ADDRESS") or ""),
        alias=str(message.get_attr("IFLA_IFALIAS") or ""),
        group=int(message.get_attr("IFLA_GROUP") or 0),
        mtu=int(message.get_attr("IFLA_MTU") or 0),
        is_up=bool(message["flags"] & _IFF_UP),
    )


def _address(message: Any) -> tuple[int, IPv4Interface | IPv6Interface]:
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    kind = IPv4Interface if message["family"] == socket.AF_INET else IPv6Interface
    return int(message["index"]), kind(f"{text}/{message['prefixlen']}")


def _route(message: Any, version: int) -> Route:
    kind = IPv4Network if version == 4 else IPv6Network  # noqa: PLR2004
    nowhere = "0.0.0.0" if version == 4 else "::"  # noqa: PLR2004
    destination = message.get_attr("RTA_DST") or nowhere
    link, via = message.get_attr("RTA_OIF"), message.get_attr("RTA_GATEWAY")
    return Route(
        destination=kind(f"{destination}/{message['dst_len']}"),
        via=str(via) if via is not None else None,
        link=int(link) if link is not None else None,
        table=int(message.get_attr("RTA_TABLE") or message["table"]),
        is_unreachable=message["type"] == _UNREACHABLE,
    )
