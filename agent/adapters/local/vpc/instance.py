"""The machine as a host of the VPC, as an EC2 instance is: one link, its address, one route."""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from agent.adapters.local.vpc import layout
from agent.adapters.local.vpc.errors import CidrInUse, NameTaken
from agent.adapters.local.vpc.netlink import Link, Route, Rtnetlink
from agent.adapters.local.vpc.plan import InterfacePlan, SubnetPlan, VpcPlan, gateway
from agent.adapters.local.vpc.router import Router

ROLE = "instance"
#: The link's name on the machine.
LINK = "berth0"


def ensure_instance_interface(
    router: Router, machine: Rtnetlink, machine_namespace: int, plan: VpcPlan, eni: InterfacePlan
) -> None:
    """The machine's link into the VPC. Safe to repeat; with another address the link is made anew.

    Raises CidrInUse, before anything is changed, when the machine uses the VPC's range already, and NameTaken
    when it has a foreign link ``berth0``.
    """
    mark = layout.mark(ROLE, eni)
    ours = tuple((link, found) for link, found in router.links() if found.role == ROLE)
    existing = machine.link_named(LINK)
    own_index = (
        existing.index if existing is not None and any(_is_end_of(existing, m) for _, m in ours) else None
    )
    if existing is not None and own_index is None:
        raise NameTaken(
            f"link {LINK} exists on this machine and does not belong to the VPC: remove or rename it"
        )
    refuse_overlap(plan, machine, own_index)
    for _, found in ours:
        if found != mark or own_index is None:
            router.detach(found.eni_id)
    router.attach(mark, group=layout.INSTANCE_GROUP, mtu=eni.mtu, peer=LINK, peer_namespace=machine_namespace)
    _configure(machine, plan, eni, plan.subnet(eni.subnet_id))


def refuse_overlap(plan: VpcPlan, machine: Rtnetlink, own_link: int | None) -> None:
    """Raise CidrInUse when one of the machine's routes or addresses lies in the VPC's range or around it."""
    names = {link.index: link.name for link in machine.links()}
    ranges: list[IPv4Network | IPv6Network] = [IPv4Network(plan.ipv4_cidr)]
    if plan.ipv6_cidr is not None:
        ranges.append(IPv6Network(plan.ipv6_cidr))
    routes = tuple(route for vpc in ranges for route in machine.routes(vpc.version))
    found = next(overlaps(ranges, routes, machine.addresses(), names, own_link), None)
    if found is not None:
        vpc, what = found
        setting = "BERTH_VPC_CIDR" if vpc.version == 4 else "BERTH_VPC_IPV6_CIDR"  # noqa: PLR2004
        raise CidrInUse(
            f"the VPC's range {vpc} overlaps {what} of this machine: choose a free range with {setting}"
        )


def overlaps(
    ranges: Iterable[IPv4Network | IPv6Network],
    routes: Iterable[Route],
    addresses: Iterable[tuple[int, IPv4Interface | IPv6Interface]],
    names: dict[int, str],
    own_link: int | None,
) -> Iterator[tuple[IPv4Network | IPv6Network, str]]:
    """(range, what it collides with) for every collision; default routes and our own link do not count."""
    foreign_routes = [
        route
        for route in routes
        if route.destination.prefixlen > 0 and (own_link is None or route.link != own_link)
    ]
    for vpc in ranges:
        for route in foreign_routes:
            if route.destination.version == vpc.version and route.destination.overlaps(vpc):
                via = f" via {route.via}" if route.via is not None else ""
                device = f" dev {names.get(route.link, route.link)}" if route.link is not None else ""
                yield vpc, f"route {route.destination}{via}{device}"
        for link, address in addresses:
            if link != own_link and address.version == vpc.version and address.ip in vpc:
                yield vpc, f"address {address} dev {names.get(link, link)}"


def _is_end_of(link: Link, mark: layout.Mark) -> bool:
    return link.mac_address == mark.mac_address


def _configure(machine: Rtnetlink, plan: VpcPlan, eni: InterfacePlan, subnet: SubnetPlan) -> None:
    link = machine.link_named(LINK)
    if link is None:
        raise NameTaken(f"link {LINK} was renamed or moved while it was set up")
    address = IPv4Address(eni.ipv4_address)
    # A /32, so that everything in the VPC goes through its router and nothing is looked for on the link.
    machine.ensure_address(link.index, address, 32)
    machine.set_up(link.index)
    machine.ensure_route(IPv4Network(plan.ipv4_cidr), link.index, via=gateway(subnet), source=address)
    if eni.ipv6_address is not None and plan.ipv6_cidr is not None:
        ipv6 = IPv6Address(eni.ipv6_address)
        machine.ensure_address(link.index, ipv6, 128)
        router = IPv6Address(layout.ROUTER_LINK_LOCAL)
        machine.ensure_route(IPv6Network(plan.ipv6_cidr), link.index, via=router, source=ipv6)
