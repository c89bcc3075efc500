"""What the simulated VPC should look like, as plain data; and whether that makes sense."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import combinations
from typing import TypeVar

from agent.adapters.local.vpc.errors import BadVpcPlan

DEFAULT_VPC_CIDR = "10.211.0.0/16"
#: The MTU inside a VPC (Amazon VPC user guide, jumbo frames).
DEFAULT_MTU = 9001

_WIDEST, _NARROWEST = 16, 28  # Amazon's limits for a VPC and for a subnet
_IPV6_SUBNET = 64
_SMALLEST_MTU, _SMALLEST_MTU_IPV6, _LARGEST_MTU = 576, 1280, 65535
_FIELD = {"IPv4Network": ("ipv4_cidr", "10.211.0.0/16"), "IPv6Network": ("ipv6_cidr", "fd00:211::/56")}
_Network = TypeVar("_Network", IPv4Network, IPv6Network)
_ENI_ID = re.compile(r"eni-[0-9a-f]{17}")
_MAC_ADDRESS = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True)
class SubnetPlan:
    """One subnet. ``ipv4_cidr`` such as ``10.211.0.0/20``; ``ipv6_cidr`` is a /64 or None (IPv4 only)."""

    subnet_id: str
    availability_zone: str
    ipv4_cidr: str
    ipv6_cidr: str | None = None

    @property
    def ipv4_network(self) -> IPv4Network:
        """The range as a network. Raises ValueError on a plan that was never checked."""
        return IPv4Network(self.ipv4_cidr)

    @property
    def ipv6_network(self) -> IPv6Network | None:
        """The IPv6 range, or None for an IPv4-only subnet."""
        return IPv6Network(self.ipv6_cidr) if self.ipv6_cidr is not None else None


@dataclass(frozen=True, slots=True)
class VpcPlan:
    """The whole VPC. ``ipv6_cidr`` is needed when one of the subnets has IPv6."""

    vpc_id: str
    ipv4_cidr: str
    subnets: tuple[SubnetPlan, ...]
    ipv6_cidr: str | None = None

    def subnet(self, subnet_id: str) -> SubnetPlan:
        """The subnet of that id. Raises BadVpcPlan that lists the ids there are."""
        for subnet in self.subnets:
            if subnet.subnet_id == subnet_id:
                return subnet
        known = ", ".join(subnet.subnet_id for subnet in self.subnets)
        raise BadVpcPlan((f"subnet_id {subnet_id!r}: expected one of {known}",))


@dataclass(frozen=True, slots=True)
class InterfacePlan:
    """One elastic network interface: who it is (id, MAC), where it is (subnet, addresses), how wide (MTU)."""

    eni_id: str
    subnet_id: str
    mac_address: str
    ipv4_address: str
    ipv6_address: str | None = None
    mtu: int = DEFAULT_MTU


def default_plan(
    region: str, *, seed: str, ipv4_cidr: str = DEFAULT_VPC_CIDR, ipv6_cidr: str | None = None
) -> VpcPlan:
    """A VPC with two subnets in two zones. The same seed gives the same ids, so they survive a restart.

    Raises BadVpcPlan when two subnets do not fit.
    """
    vpc = _network(IPv4Network, ipv4_cidr)
    vpc_v6 = _network(IPv6Network, ipv6_cidr) if ipv6_cidr is not None else None
    if isinstance(vpc, str) or isinstance(vpc_v6, str):
        raise BadVpcPlan(tuple(f"vpc.{found}" for found in (vpc, vpc_v6) if isinstance(found, str)))
    if not _WIDEST <= vpc.prefixlen < _NARROWEST:
        raise BadVpcPlan((f"vpc.ipv4_cidr {ipv4_cidr!r}: expected /16 to /27, room for two subnets",))
    if vpc_v6 is not None and vpc_v6.prefixlen >= _IPV6_SUBNET:
        raise BadVpcPlan((f"vpc.ipv6_cidr {ipv6_cidr!r}: expected wider than /64, room for two subnets",))
    ranges = vpc.subnets(new_prefix=min(vpc.prefixlen + 4, _NARROWEST))
    ranges_v6 = vpc_v6.subnets(new_prefix=_IPV6_SUBNET) if vpc_v6 is not None else None
    subnets = tuple(
        SubnetPlan(
            subnet_id=aws_id("subnet", f"{seed}/{letter}"),
            availability_zone=f"{region}{letter}",
            ipv4_cidr=str(next(ranges)),
            ipv6_cidr=str(next(ranges_v6)) if ranges_v6 is not None else None,
        )
        for letter in "ab"
    )
    plan = VpcPlan(aws_id("vpc", seed), ipv4_cidr, subnets, ipv6_cidr)
    return checked(plan)


def aws_id(prefix: str, seed: str) -> str:
    """An id of Amazon's long form: ``prefix-`` and 17 hex digits, the first 0. The same for one seed."""
    return f"{prefix}-0{hashlib.sha256(f'{prefix}/{seed}'.encode()).hexdigest()[:16]}"


def checked(plan: VpcPlan) -> VpcPlan:
    """The plan itself, or BadVpcPlan with all its problems at once."""
    problems = tuple(_vpc_problems(plan))
    if problems:
        raise BadVpcPlan(problems)
    return plan


def checked_interface(plan: VpcPlan, eni: InterfacePlan) -> InterfacePlan:
    """The interface itself, or BadVpcPlan with everything that does not fit into this VPC."""
    problems = tuple(_interface_problems(plan.subnet(eni.subnet_id), eni))
    if problems:
        raise BadVpcPlan(problems)
    return eni


def gateway(subnet: SubnetPlan) -> IPv4Address:
    """The VPC router's address in the subnet: the first after the network address."""
    return subnet.ipv4_network[1]


def gateway_ipv6(subnet: SubnetPlan) -> IPv6Address | None:
    """The VPC router's IPv6 address in the subnet, ``<prefix>::1``, or None. ``fe80::1`` works in all."""
    return subnet.ipv6_network[1] if subnet.ipv6_network is not None else None


def dns(vpc: VpcPlan) -> IPv4Address:
    """Where Amazon's resolver lives: the VPC's base address plus two."""
    return IPv4Network(vpc.ipv4_cidr)[2]


def reserved(subnet: SubnetPlan) -> frozenset[IPv4Address]:
    """The five addresses that Amazon keeps: network, gateway, DNS, future use, broadcast."""
    network = subnet.ipv4_network
    return frozenset((network[0], network[1], network[2], network[3], network[-1]))


def reserved_ipv6(subnet: SubnetPlan) -> frozenset[IPv6Address]:
    """The first four and the last address, which Amazon keeps in an IPv6 subnet; empty without IPv6."""
    network = subnet.ipv6_network
    if network is None:
        return frozenset()
    return frozenset((network[0], network[1], network[2], network[3], network[-1]))


def domain_name(region: str) -> str:
    """The domain that Amazon's DHCP gives: ``ec2.internal``, elsewhere ``<region>.compute.internal``."""
    return "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"


def private_dns_name(ipv4_address: str, region: str) -> str:
    """The name of an address as DHCP gives it, e.g. ``ip-10-0-1-5.ec2.internal``."""
    return f"ip-{str(IPv4Address(ipv4_address)).replace('.', '-')}.{domain_name(region)}"


def _vpc_problems(plan: VpcPlan) -> Iterator[str]:
    vpc = _network(IPv4Network, plan.ipv4_cidr)
    vpc_v6 = _network(IPv6Network, plan.ipv6_cidr) if plan.ipv6_cidr is not None else None
    yield from (f"vpc.{found}" for found in (vpc, vpc_v6) if isinstance(found, str))
    if isinstance(vpc, IPv4Network) and not _WIDEST <= vpc.prefixlen <= _NARROWEST:
        yield f"vpc.ipv4_cidr {plan.ipv4_cidr!r}: expected a prefix from /{_WIDEST} to /{_NARROWEST}"
    if not plan.subnets:
        yield "vpc.subnets (): expected at least one subnet"
    ranges: list[tuple[str, IPv4Network | IPv6Network]] = []
    for position, subnet in enumerate(plan.subnets):
        where = f"subnets[{position}]"
        yield from _range_problems(where, _network(IPv4Network, subnet.ipv4_cidr), vpc, ranges)
        if subnet.ipv6_cidr is not None:
            if vpc_v6 is None:
                yield f"{where}.ipv6_cidr {subnet.ipv6_cidr!r}: expected None, the VPC has no IPv6 range"
            yield from _range_problems(where, _network(IPv6Network, subnet.ipv6_cidr), vpc_v6, ranges)
    yield from _overlap_problems(ranges)
    ids = [subnet.subnet_id for subnet in plan.subnets]
    for repeated in sorted({subnet_id for subnet_id in ids if ids.count(subnet_id) > 1}):
        yield f"subnets.subnet_id {repeated!r}: expected every id once"


def _overlap_problems(ranges: list[tuple[str, IPv4Network | IPv6Network]]) -> Iterator[str]:
    for (where, one), (elsewhere, other) in combinations(ranges, 2):
        if one.version == other.version and one.overlaps(other):
            field = f"ipv{other.version}_cidr"
            yield f"{elsewhere}.{field} '{other}': expected no overlap with {where}.{field} '{one}'"


def _range_problems(
    where: str,
    subnet: IPv4Network | IPv6Network | str,
    vpc: IPv4Network | IPv6Network | str | None,
    ranges: list[tuple[str, IPv4Network | IPv6Network]],
) -> Iterator[str]:
    if isinstance(subnet, str):
        yield f"{where}.{subnet}"
        return
    ranges.append((where, subnet))
    field = f"{where}.ipv{subnet.version}_cidr '{subnet}'"
    if isinstance(subnet, IPv6Network) and subnet.prefixlen != _IPV6_SUBNET:
        yield f"{field}: expected a /{_IPV6_SUBNET}"
    if isinstance(subnet, IPv4Network) and not _WIDEST <= subnet.prefixlen <= _NARROWEST:
        yield f"{field}: expected a prefix from /{_WIDEST} to /{_NARROWEST}"
    if isinstance(vpc, (IPv4Network, IPv6Network)) and not _is_inside(subnet, vpc):
        yield f"{field}: expected a part of the VPC's range {vpc}"


def _is_inside(subnet: IPv4Network | IPv6Network, vpc: IPv4Network | IPv6Network) -> bool:
    if isinstance(subnet, IPv4Network) and isinstance(vpc, IPv4Network):
        return subnet.subnet_of(vpc)
    return isinstance(subnet, IPv6Network) and isinstance(vpc, IPv6Network) and subnet.subnet_of(vpc)


def _interface_problems(subnet: SubnetPlan, eni: InterfacePlan) -> Iterator[str]:
    if not _ENI_ID.fullmatch(eni.eni_id):
        yield f"eni_id {eni.eni_id!r}: expected 'eni-' and 17 hexadecimal digits"
    # The first octet's lowest bit marks a group address, which no link can have.
    if not _MAC_ADDRESS.fullmatch(eni.mac_address) or int(eni.mac_address[:2], 16) & 1:
        yield f"mac_address {eni.mac_address!r}: expected a unicast address such as '0e:12:34:56:78:9a'"
    yield from _address_problems("ipv4_address", eni.ipv4_address, subnet.ipv4_network, reserved(subnet))
    if eni.ipv6_address is not None:
        yield from _address_problems(
            "ipv6_address", eni.ipv6_address, subnet.ipv6_network, reserved_ipv6(subnet)
        )
    smallest = _SMALLEST_MTU if eni.ipv6_address is None else _SMALLEST_MTU_IPV6
    if not smallest <= eni.mtu <= _LARGEST_MTU:
        yield f"mtu {eni.mtu}: expected {smallest} to {_LARGEST_MTU}"


def _address_problems(
    field: str,
    text: str,
    network: IPv4Network | IPv6Network | None,
    kept: frozenset[IPv4Address] | frozenset[IPv6Address],
) -> Iterator[str]:
    if network is None:
        yield f"{field} {text!r}: expected None, the subnet has no IPv6 range"
        return
    try:
        address = IPv4Address(text) if isinstance(network, IPv4Network) else IPv6Address(text)
    except ValueError:
        yield f"{field} {text!r}: expected an address in {network}"
        return
    if address not in network or address in kept:
        yield f"{field} {text!r}: expected an address in {network} that is not reserved"


def _network(kind: type[_Network], text: str) -> _Network | str:
    """The network, or the sentence that says what is wrong with the text, beginning with the field's name."""
    field, example = _FIELD[kind.__name__]
    try:
        network = kind(text, strict=False)
    except ValueError:
        return f"{field} {text!r}: expected a range such as {example}"
    if str(network) != text.lower():
        return f"{field} {text!r}: expected {network} (no host bits, prefix given, shortest spelling)"
    return network
