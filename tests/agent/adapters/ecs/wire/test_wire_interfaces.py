from ipaddress import IPv4Interface, IPv6Interface

import pytest

from agent.adapters.ecs.wire.fields import BadField, Fields
from agent.adapters.ecs.wire.interfaces import (
    AssociationProtocol,
    Vlan,
    network_interface,
    read_interface,
)
from agent.model.ids import MacAddress
from agent.model.spec import NetworkInterface
from tests.agent.adapters.ecs.wire.recorded import NOON, an_eni

SIX = {
    "ipv4Addresses": [],
    "subnetGatewayIpv4Address": None,
    "ipv6Addresses": [{"primary": True, "address": "fd00::5"}],
}


def read(**changes):
    return read_interface(Fields(an_eni(**changes), "eni"))


def test_an_interface_becomes_the_tasks_own():
    assert network_interface(read(), NOON) == NetworkInterface(
        attachment_arn="arn:aws:ecs:us-west-2:111122223333:attachment/a1",
        eni_id="eni-1",
        subnet_id="",
        mac_address=MacAddress("0a:00:00:00:00:01"),
        ipv4_addresses=(IPv4Interface("10.0.1.5/24"), IPv4Interface("10.0.1.6/24")),
        gateways=("10.0.1.1",),
        expires_at=NOON,
        private_dns_name="ip-10-0-1-5.ec2.internal",
        dns_servers=("10.0.0.2",),
        dns_search=("ec2.internal",),
    )


def test_ipv6_has_the_prefix_of_its_gateway_or_the_usual_one():
    both = {"ipv6Addresses": [{"address": "fd00::5"}]}
    assert read(**both).ipv6_addresses == (IPv6Interface("fd00::5/64"),)
    assert read(**both).gateways == ("10.0.1.1",)
    with_gateway = read(**both, subnetGatewayIpv6Address="fd00::1/80")
    assert with_gateway.ipv6_addresses == (IPv6Interface("fd00::5/80"),)
    assert with_gateway.gateways == ("10.0.1.1", "fd00::1")
    only = read(**SIX, subnetGatewayIpv6Address="fd00::1")
    assert (only.ipv4_addresses, only.ipv6_addresses, only.gateways) == (
        (),
        (IPv6Interface("fd00::5/64"),),
        ("fd00::1",),
    )


def test_a_branch_knows_its_trunk():
    branch = read(
        interfaceAssociationProtocol="vlan",
        interfaceVlanProperties={"vlanId": "133", "trunkInterfaceMacAddress": "0A:00:00:00:00:99"},
    )
    assert branch.protocol is AssociationProtocol.VLAN
    assert branch.vlan == Vlan(133, MacAddress("0a:00:00:00:00:99"))
    assert read(interfaceAssociationProtocol="").protocol is AssociationProtocol.DEFAULT


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"ipv4Addresses": None}, "eni.ipv4Addresses: is not set"),
        (
            {"ipv4Addresses": [{"privateAddress": "10.0.1.500"}]},
            'eni.ipv4Addresses[0].privateAddress: "10.0.1.500"',
        ),
        ({"ipv4Addresses": [{}]}, "eni.ipv4Addresses[0].privateAddress: is not set"),
        ({"subnetGatewayIpv4Address": None}, "eni.subnetGatewayIpv4Address: is not set"),
        ({"subnetGatewayIpv4Address": "10.0.1.1"}, 'eni.subnetGatewayIpv4Address: "10.0.1.1" is wrong'),
        ({"subnetGatewayIpv4Address": "10.0.1.1/99"}, "eni.subnetGatewayIpv4Address"),
        (SIX, "eni.subnetGatewayIpv6Address: is not set"),
        ({"subnetGatewayIpv6Address": "fe80::1%eth0"}, "eni.subnetGatewayIpv6Address"),
        ({"ipv6Addresses": [{"address": "fe80::1%eth0"}]}, "eni.ipv6Addresses[0].address"),
        ({"macAddress": ""}, "eni.macAddress: is not set"),
        ({"macAddress": "0a-00-00-00-00-01"}, "eni.macAddress"),
        ({"ec2Id": None}, "eni.ec2Id: is not set"),
        ({"attachmentArn": None}, "eni.attachmentArn: is not set"),
        ({"domainNameServers": ["resolver"]}, 'eni.domainNameServers: "resolver" is wrong'),
        ({"interfaceAssociationProtocol": "veth"}, 'eni.interfaceAssociationProtocol: "veth" is wrong'),
        ({"interfaceAssociationProtocol": "vlan"}, "eni.interfaceVlanProperties: is not set"),
        (
            {"interfaceAssociationProtocol": "vlan", "interfaceVlanProperties": {"vlanId": "9" * 5000}},
            "eni.interfaceVlanProperties.vlanId",
        ),
        (
            {"interfaceAssociationProtocol": "vlan", "interfaceVlanProperties": {"vlanId": "1"}},
            "eni.interfaceVlanProperties.trunkInterfaceMacAddress: is not set",
        ),
    ],
)
def test_an_interface_that_cannot_be_set_up_is_refused_by_the_field(changes, complaint):
    with pytest.raises(BadField) as refused:
        read(**changes)
    assert str(refused.value).startswith(complaint)
