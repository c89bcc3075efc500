"""Elastic network interfaces as the control plane describes them (ecs-protocol 2.4). Pure."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Interface, IPv6Interface, ip_address

from agent.adapters.ecs.wire.fields import BadField, Fields
from agent.model.ids import MacAddress
from agent.model.spec import NetworkInterface

USUAL_IPV6_PREFIX = 64
"""A subnet of a VPC always has this prefix; the wire need not say it."""

LARGEST_VLAN = 4094

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class AssociationProtocol(StrEnum):
    """How an interface is connected to the machine."""

    DEFAULT = "default"
    VLAN = "vlan"


@dataclass(frozen=True, slots=True)
class Vlan:
    """Where a branch interface hangs: a VLAN of the machine's trunk."""

    vlan_id: int
    trunk_mac_address: MacAddress


@dataclass(frozen=True, slots=True)
class ElasticNetworkInterface:
    """One interface. Addresses carry the subnet's prefix, the primary one comes first.

    ``gateways``: IPv4, then IPv6, as far as there are any. ``vlan`` only with that protocol.
    """

    attachment_arn: str
    ec2_id: str
    mac_address: MacAddress
    ipv4_addresses: tuple[IPv4Interface, ...]
    ipv6_addresses: tuple[IPv6Interface, ...]
    gateways: tuple[str, ...]
    dns_servers: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    private_dns_name: str = ""
    protocol: AssociationProtocol = AssociationProtocol.DEFAULT
    vlan: Vlan | None = None


def read_interface(eni: Fields) -> ElasticNetworkInterface:
    """Read one. Raise ``BadField``.

    An interface has an IPv4 address and its gateway with the subnet's prefix, or else the same for IPv6.
    """
    ipv4 = _ordered(eni, "ipv4Addresses", "privateAddress")
    ipv6 = _ordered(eni, "ipv6Addresses", "address")
    if not ipv4 and not ipv6:
        raise BadField(eni.at("ipv4Addresses"), "at least one address, or one of IPv6")
    gateways: list[str] = []
    ipv4_addresses: tuple[IPv4Interface, ...] = ()
    if ipv4:
        gateway = _gateway_ipv4(eni)
        gateways.append(str(gateway.ip))
        ipv4_addresses = tuple(_ipv4(path, value, gateway.network.prefixlen) for path, value in ipv4)
    ipv6_gateway = _gateway_ipv6(eni, is_needed=not ipv4)
    if ipv6 and ipv6_gateway is not None:
        gateways.append(str(ipv6_gateway.ip))
    prefix = USUAL_IPV6_PREFIX if ipv6_gateway is None else ipv6_gateway.network.prefixlen
    protocol = _protocol(eni)
    return ElasticNetworkInterface(
        attachment_arn=eni.needed_text("attachmentArn"),
        ec2_id=eni.needed_text("ec2Id"),
        mac_address=_mac(eni, "macAddress"),
        ipv4_addresses=ipv4_addresses,
        ipv6_addresses=tuple(_ipv6(path, value, prefix) for path, value in ipv6),
        gateways=tuple(gateways),
        dns_servers=_dns_servers(eni),
        dns_search=tuple(each for each in eni.texts("domainName") if each),
        private_dns_name=eni.text("privateDnsName"),
        protocol=protocol,
        vlan=_vlan(eni) if protocol is AssociationProtocol.VLAN else None,
    )


def network_interface(eni: ElasticNetworkInterface, expires_at: datetime) -> NetworkInterface:
    """The interface as a task's own. Its subnet is not on the wire, and only serves to be shown."""
    return NetworkInterface(
        attachment_arn=eni.attachment_arn,
        eni_id=eni.ec2_id,
        subnet_id="",
        mac_address=eni.mac_address,
        ipv4_addresses=eni.ipv4_addresses,
        gateways=eni.gateways,
        expires_at=expires_at,
        ipv6_addresses=eni.ipv6_addresses,
        private_dns_name=eni.private_dns_name,
        dns_servers=eni.dns_servers,
        dns_search=eni.dns_search,
    )


def _ordered(eni: Fields, name: str, key: str) -> list[tuple[str, str]]:
    """The addresses of a list with their paths, the primary one first."""
    found = [(each.flag("primary"), each.at(key), each.needed_text(key)) for each in eni.objects(name)]
    return [(path, value) for _, path, value in sorted(found, key=lambda each: not each[0])]


def _ipv4(path: str, value: str, prefix: int) -> IPv4Interface:
    try:
        return IPv4Interface(f"{value}/{prefix}")
    except ValueError as error:
        raise BadField(path, "an IPv4 address like 10.0.1.5", value) from error


def _ipv6(path: str, value: str, prefix: int) -> IPv6Interface:
    try:
        if "%" in value:
            raise ValueError("an address of one link")
        return IPv6Interface(f"{value}/{prefix}")
    except ValueError as error:
        raise BadField(path, "an IPv6 address like fd00::5", value) from error


def _gateway_ipv4(eni: Fields) -> IPv4Interface:
    name = "subnetGatewayIpv4Address"
    value = eni.needed_text(name)
    try:
        if "/" not in value:
            raise ValueError("no prefix")
        return IPv4Interface(value)
    except ValueError as error:
        raise BadField(eni.at(name), "a gateway with the subnet's prefix, like 10.0.1.1/24", value) from error


def _gateway_ipv6(eni: Fields, *, is_needed: bool) -> IPv6Interface | None:
    name = "subnetGatewayIpv6Address"
    value = eni.needed_text(name) if is_needed else eni.text(name)
    if not value:
        return None
    try:
        if "%" in value:
            raise ValueError("an address of one link")
        return IPv6Interface(value if "/" in value else f"{value}/{USUAL_IPV6_PREFIX}")
    except ValueError as error:
        raise BadField(eni.at(name), "a gateway with the subnet's prefix, like fd00::1/64", value) from error


def _mac(fields: Fields, name: str) -> MacAddress:
    value = fields.needed_text(name)
    if not _MAC.fullmatch(value.lower()):
        raise BadField(fields.at(name), "six octets like 02:00:00:00:00:01", value)
    return MacAddress(value.lower())


def _dns_servers(eni: Fields) -> tuple[str, ...]:
    name = "domainNameServers"
    servers = tuple(each for each in eni.texts(name) if each)
    for each in servers:
        try:
            ip_address(each)
        except ValueError as error:
            raise BadField(eni.at(name), "addresses of name servers", each) from error
    return servers


def _protocol(eni: Fields) -> AssociationProtocol:
    name = "interfaceAssociationProtocol"
    value = eni.text(name) or AssociationProtocol.DEFAULT
    try:
        return AssociationProtocol(value)
    except ValueError as error:
        raise BadField(eni.at(name), "default or vlan", value) from error


def _vlan(eni: Fields) -> Vlan:
    properties = eni.object("interfaceVlanProperties")
    if properties is None:
        raise BadField(eni.at("interfaceVlanProperties"), "the VLAN and the trunk of a vlan interface")
    text = properties.needed_text("vlanId")
    # More digits than this are no VLAN, and Python refuses to read thousands of them.
    number = int(text) if re.fullmatch(r"[0-9]{1,4}", text) else 0
    if not 1 <= number <= LARGEST_VLAN:
        raise BadField(properties.at("vlanId"), f"a number from 1 to {LARGEST_VLAN}", text)
    return Vlan(number, _mac(properties, "trunkInterfaceMacAddress"))
