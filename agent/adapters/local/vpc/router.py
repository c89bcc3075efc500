"""The VPC's router: a network namespace with one link to each interface and nothing shared between them."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from agent.adapters.local.vpc import layout, namespaces
from agent.adapters.local.vpc.errors import InterfaceConflict, KernelRefused, NameTaken
from agent.adapters.local.vpc.layout import Mark
from agent.adapters.local.vpc.namespaces import NamespaceThread
from agent.adapters.local.vpc.netlink import Link, Proxy, Rtnetlink
from agent.adapters.local.vpc.plan import SubnetPlan, VpcPlan, dns, gateway, gateway_ipv6

#: Where packets for addresses outside the VPC go: nowhere, and their senders are told so. A NAT gateway will
#: be a better route here and a chain in ``layout.ruleset``; nothing else of the router needs to change.
OUTSIDE = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))

_LOOPBACK = 1
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
"""All that the program needs of an environment; ours may hold the keys of this machine."""

_NFT_DEADLINE_S = 10
_SYSCTL = Path("/proc/sys/net")


class Router:
    """All methods run on the namespace thread. The kernel is the store: a new object adopts what is there.

    Adopting means to take what exists as it is and to add what is missing; nothing in use is made anew.
    """

    def __init__(self, plan: VpcPlan, namespace: str, thread: NamespaceThread) -> None:
        self._plan = plan
        self._namespace = namespace
        self._thread = thread
        self._descriptor: int | None = None
        self._netlink: Rtnetlink | None = None
        # IPv6 interfaces by id, whose neighbours the router answers for. Read from the kernel when opened.
        self._solicited: dict[str, tuple[int, Mark]] = {}

    @property
    def netlink(self) -> Rtnetlink:
        """The socket in the router namespace. Raises KernelRefused before ``ensure``."""
        if self._netlink is None:
            raise KernelRefused(f"the VPC's router {self._namespace} is not there: ensure() was not called")
        return self._netlink

    def ensure(self) -> bool:
        """Create the namespace or adopt it, and repair what is missing. True when it was created."""
        created = not self.opened()
        if created:
            self._take(self._thread.create(self._namespace))
        else:
            self._refuse_foreign()
            if not self.is_named():  # running tasks use it, so it gets its name back
                namespaces.give_name(self._entered(), self._namespace)
        self._configure()
        self._repair_proxies()
        return created

    def opened(self) -> bool:
        """Take hold of an existing namespace without changing it. False when there is none."""
        if self._descriptor is None:
            self._take(namespaces.opened(self._namespace))
        elif not self.is_named():
            replacement = namespaces.opened(self._namespace)
            if replacement is not None:
                # Somebody made another under our name: what we hold is a router that nobody else can find.
                self.close()
                self._take(replacement)
        return self._descriptor is not None

    def is_named(self) -> bool:
        """Whether what we hold is what its name under /run/netns leads to."""
        return self._descriptor is not None and namespaces.is_same(self._descriptor, self._namespace)

    def links(self) -> tuple[tuple[Link, Mark], ...]:
        """Every link with a mark of ours."""
        found = ((link, layout.parsed(link.alias)) for link in self.netlink.links())
        return tuple((link, mark) for link, mark in found if mark is not None)

    def attach(self, mark: Mark, *, group: int, mtu: int, peer: str, peer_namespace: int) -> bool:
        """A link to the interface of that mark, whose end appears in ``peer_namespace``. True when it is new.

        An interface that exists is repaired on the router's side; its own end, wherever it is, is left alone.
        Raises InterfaceConflict when the id or the address belongs to something else.
        """
        name = layout.router_link(mark.eni_id)

        def make() -> int:
            return self.netlink.create_veth(
                name,
                mac_address=layout.ROUTER_MAC,
                group=group,
                mtu=mtu,
                peer=peer,
                peer_mac=mark.mac_address,
                peer_namespace=peer_namespace,
            )

        try:
            index = make()
        except KernelRefused as refusal:
            # Nearly always it is new: it is made first, and looked for when the kernel says it is there.
            if refusal.errno != errno.EEXIST:
                raise
            existing = self._existing(name, mark)
            if existing is not None:
                self._connect(existing.index, name, mark)
                return False
            index = make()
        try:
            self._connect(index, name, mark)
        except BaseException:
            self._forget(mark.eni_id)
            self.netlink.delete_link(index)
            raise
        return True

    def detach(self, eni_id: str) -> bool:
        """Delete the link and with it the interface, wherever it is. False when it was gone already."""
        link = self.netlink.link_named(layout.router_link(eni_id))
        mark = layout.parsed(link.alias) if link is not None else None
        self._forget(eni_id)
        if link is None or (mark is not None and mark.eni_id != eni_id):
            return False
        self.netlink.delete_link(link.index)
        return True

    def problems(self) -> Iterator[str]:
        """What is not as it should be, one sentence each."""
        netlink = self.netlink
        where = f"namespace {self._namespace}"
        if not self.is_named():
            yield f"{where}: the VPC's router has lost its name under {namespaces.DIRECTORY}"
        yield from self._switch_problems(where)
        own = {str(address.ip) for index, address in netlink.addresses() if index == _LOOPBACK}
        for address in self._own_addresses():
            if str(address) not in own:
                yield f"{where}: address {address} of the router is missing"
        yield from self._route_problems(where)
        tables = self._nft("list", "tables").splitlines()
        for table in (f"table inet {layout.TABLE}", f"table arp {layout.TABLE}"):
            if table not in tables:
                yield f"{where}: nftables {table} is missing"
        yield from self._link_problems(netlink)
        for proxy in sorted(frozenset(self._wanted_proxies()) - netlink.proxies(), key=str):
            yield f"{where}: the router does not answer for {proxy.address} on link {proxy.link}"

    def destroy(self) -> None:
        """Delete every link and the namespace. Fine when there is none."""
        if self.opened():
            self._refuse_foreign()
            netlink = self.netlink
            # Only ours: some kernels put tunnel links into every namespace that cannot be deleted.
            links = [link for link in netlink.links() if layout.is_router_link(link.name)]
            for group in sorted({link.group for link in links if link.group != 0}):
                netlink.delete_group(group)
            for link in links:
                if link.group == 0:
                    netlink.delete_link(link.index)
        self.close()
        namespaces.remove(self._namespace)

    def close(self) -> None:
        """Let go of the namespace; it stays."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._solicited.clear()

    # opening and configuring

    def _refuse_foreign(self) -> None:
        loopback = next(link for link in self.netlink.links() if link.index == _LOOPBACK)
        # Without a mark but never used: the agent died between making the namespace and marking it.
        if not loopback.alias.startswith(layout.ROUTER_ALIAS) and (loopback.alias or loopback.is_up):
            self.close()
            raise NameTaken(
                f"network namespace {self._namespace} exists and was not made for a VPC: "
                "remove it or choose another name"
            )

    def _take(self, descriptor: int | None) -> None:
        if descriptor is None:
            return
        with self._thread.inside(descriptor):
            self._netlink = Rtnetlink()
        self._descriptor = descriptor
        self._solicited = {
            mark.eni_id: (link.index, mark) for link, mark in self.links() if mark.ipv6_address is not None
        }

    def _entered(self) -> int:
        if self._descriptor is None:
            raise KernelRefused(f"the VPC's router {self._namespace} is not there: ensure() was not called")
        return self._descriptor

    def _configure(self) -> None:
        netlink = self.netlink
        with self._thread.inside(self._entered()):
            for path, value in layout.switches(self._plan):
                _set_switch(path, value)
        netlink.set_up(_LOOPBACK, alias=layout.router_alias(self._plan))
        wanted = self._own_addresses()
        for index, address in netlink.addresses():
            stale = index == _LOOPBACK and not address.ip.is_loopback and address.ip not in wanted
            if stale:  # the range was changed in the settings
                netlink.remove_address(index, address.ip, address.network.prefixlen)
        for own in wanted:
            netlink.ensure_address(_LOOPBACK, own, own.max_prefixlen)
        for everywhere in self._outside():
            netlink.ensure_unreachable(everywhere)
        self._nft("-f", "-", ruleset=layout.ruleset(self._plan))

    def _outside(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return OUTSIDE if self._plan.ipv6_cidr is not None else OUTSIDE[:1]

    def _own_addresses(self) -> tuple[IPv4Address, ...]:
        gateways = (gateway(subnet) for subnet in self._plan.subnets)
        return tuple(dict.fromkeys((*gateways, dns(self._plan))))

    def _nft(self, *arguments: str, ruleset: str | None = None) -> str:
        # The child is forked by this thread and so starts in the namespace in which the thread is.
        with self._thread.inside(self._entered()):
            try:
                done = subprocess.run(
                    (shutil.which("nft") or "nft", *arguments),
                    input=ruleset,
                    capture_output=True,
                    text=True,
                    timeout=_NFT_DEADLINE_S,
                    check=False,
                    env=_ENVIRONMENT,
                )
            except FileNotFoundError as error:
                message = "cannot filter inside the VPC: the program 'nft' was not found, install nftables"
                raise KernelRefused(message, errno.ENOENT) from error
            except subprocess.TimeoutExpired as error:
                raise KernelRefused(f"nft gave no answer within {_NFT_DEADLINE_S} s") from error
        if done.returncode != 0:
            raise KernelRefused(f"nft refused the VPC's rules: {done.stderr.strip()}")
        return done.stdout

    # one interface

    def _existing(self, name: str, wanted: Mark) -> Link | None:
        link = self.netlink.link_named(name)
        if link is None:
            return None
        found = layout.parsed(link.alias)
        if found is None:
            # The agent died between making the link and marking it; nobody can have used it.
            self.netlink.delete_link(link.index)
            return None
        if found != wanted:
            raise InterfaceConflict(
                f"interface {wanted.eni_id} exists as {found.alias()!r}, expected {wanted.alias()!r}: "
                "remove it first"
            )
        return link

    def _connect(self, index: int, name: str, mark: Mark) -> None:
        """Everything on the router's side of a link. Safe to repeat."""
        netlink, subnet = self.netlink, self._plan.subnet(mark.subnet_id)
        address = IPv4Address(mark.ipv4_address)
        with self._thread.inside(self._entered()):
            for path, value in layout.link_switches(name):
                _set_switch(path, value)
        # Neighbour before carrier: from the first packet on nobody can claim the address by ARP.
        netlink.set_up(index, alias=mark.alias())
        netlink.ensure_neighbour(index, address, mark.mac_address)
        self._claim(IPv4Network(address), index, mark, subnet)
        if mark.ipv6_address is not None:
            self._connect_ipv6(index, IPv6Address(mark.ipv6_address), mark, subnet)

    def _connect_ipv6(self, index: int, address: IPv6Address, mark: Mark, subnet: SubnetPlan) -> None:
        netlink = self.netlink
        netlink.ensure_address(index, IPv6Address(layout.ROUTER_LINK_LOCAL), 64)
        router = gateway_ipv6(subnet)
        if router is not None:
            netlink.ensure_address(index, router, 128)
        netlink.ensure_neighbour(index, address, mark.mac_address)
        self._claim(IPv6Network(address), index, mark, subnet)
        self._solicited[mark.eni_id] = (index, mark)
        netlink.change_proxies(add=self._wanted_proxies(only=mark.eni_id))

    def _claim(self, network: IPv4Network | IPv6Network, index: int, mark: Mark, subnet: SubnetPlan) -> None:
        source = gateway(subnet) if network.version == 4 else None  # noqa: PLR2004
        owner = self.netlink.claim_route(network, index, source=source)
        if owner != index:
            raise InterfaceConflict(
                f"interface {mark.eni_id}: address {network.network_address} belongs to another interface"
            )

    def _switch_problems(self, where: str) -> Iterator[str]:
        with self._thread.inside(self._entered()):
            found = tuple((path, _switch(path), value) for path, value in layout.switches(self._plan))
        for path, actual, expected in found:
            if actual not in (None, expected):
                yield f"{where}: net/{path} is {actual}, expected {expected}"

    def _route_problems(self, where: str) -> Iterator[str]:
        for everywhere in self._outside():
            routes = self.netlink.routes(everywhere.version)
            if not any(route.is_unreachable and route.destination == everywhere for route in routes):
                yield f"{where}: the unreachable route to {everywhere} is missing"

    def _link_problems(self, netlink: Rtnetlink) -> Iterator[str]:
        routed = {(route.link, str(route.destination)) for v in (4, 6) for route in netlink.routes(v)}
        known = netlink.neighbours()
        for link in netlink.links():
            if not layout.is_router_link(link.name):
                continue
            mark = layout.parsed(link.alias)
            if mark is None:
                yield f"namespace {self._namespace}: link {link.name} belongs to no interface"
                continue
            if not link.is_up:
                yield f"interface {mark.eni_id}: the router's end is down"
            for address in (mark.ipv4_address, mark.ipv6_address):
                if address is None:
                    continue
                length = 128 if ":" in address else 32
                if (link.index, f"{address}/{length}") not in routed:
                    yield f"interface {mark.eni_id}: the route to {address} is missing"
                if (link.index, address, mark.mac_address) not in known:
                    yield f"interface {mark.eni_id}: the fixed neighbour entry of {address} is missing"

    # IPv6 neighbours

    def _repair_proxies(self) -> None:
        wanted, found = frozenset(self._wanted_proxies()), self.netlink.proxies()
        self.netlink.change_proxies(add=wanted - found, remove=found - wanted)

    def _wanted_proxies(self, only: str | None = None) -> Iterator[Proxy]:
        """For each pair of neighbours: on the one's link, the router answers for the other."""
        for asking_id, (link, asking) in self._solicited.items():
            for asked_id, (_, asked) in self._solicited.items():
                concerned = only is None or only in (asking_id, asked_id)
                if concerned and asking_id != asked_id and asking.subnet_id == asked.subnet_id:
                    yield Proxy(link, str(asked.ipv6_address))

    def _forget(self, eni_id: str) -> None:
        if eni_id in self._solicited:
            self.netlink.change_proxies(remove=tuple(self._wanted_proxies(only=eni_id)))
            del self._solicited[eni_id]


def _switch(path: str) -> str | None:
    try:
        return (_SYSCTL / path).read_text().strip()
    except FileNotFoundError:
        return None


def _set_switch(path: str, value: str) -> None:
    found = _switch(path)
    if found == value:
        return
    if found is None and path.startswith("ipv6/"):
        return  # a kernel without IPv6 has nothing to switch
    try:
        (_SYSCTL / path).write_text(value)
    except OSError as error:
        message = f"cannot set net/{path} to {value} in the VPC's router: {error.strerror}"
        raise KernelRefused(message, error.errno) from error
