"""The configurations are the golden ones, which the plugins' own tests accept."""

import json
from datetime import UTC, datetime
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from agent.adapters.cni.conflist import TaskBridge, collection_calls, plugin_calls
from agent.model.ids import ContainerId, MacAddress
from agent.model.spec import NetworkInterface
from tests.contracts.network import an_eni

GOLDEN = Path(__file__).parents[3] / "golden" / "cni"


def golden(name: str) -> dict:
    return json.loads((GOLDEN / name).read_text())


def eni_of(config: dict) -> NetworkInterface:
    addresses = config["ip-addresses"]
    return NetworkInterface(
        attachment_arn="arn:aws:ecs:us-east-1:000000000000:attachment/1",
        eni_id=config["eni"],
        subnet_id="subnet-1",
        mac_address=MacAddress(config["mac"]),
        ipv4_addresses=tuple(IPv4Interface(address) for address in addresses if ":" not in address),
        ipv6_addresses=tuple(IPv6Interface(address) for address in addresses if ":" in address),
        gateways=tuple(config["gateway-ip-addresses"]),
        expires_at=datetime(2026, 1, 1, tzinfo=UTC),
        mtu=config["mtu"] or None,
    )


def test_an_ipv4_eni_is_configured_as_in_the_golden_file():
    expected = golden("eni-ipv4.json")
    eni, _ = plugin_calls(eni_of(expected), TaskBridge(), block_imds=True)
    assert eni.config == expected
    assert (eni.plugin, eni.ifname) == ("ecs-eni", "eth0")


def test_a_dual_stack_eni_is_configured_as_in_the_golden_file():
    expected = golden("eni-dualstack.json")
    eni, _ = plugin_calls(eni_of(expected), TaskBridge(), block_imds=True)
    assert eni.config == expected


def test_the_bridge_is_configured_as_in_the_golden_file():
    expected = golden("bridge-ipam.json")
    wanted = eni_of({**golden("eni-ipv4.json"), "mac": expected["ipam"]["id"]})
    _, bridge = plugin_calls(wanted, TaskBridge(), block_imds=True)
    assert bridge.config == expected
    assert (bridge.plugin, bridge.ifname) == ("ecs-bridge", "ecs-eth0")


def test_a_collection_is_configured_as_in_the_golden_files():
    bridge, eni = collection_calls(TaskBridge(), [ContainerId("c1")])
    assert (bridge.plugin, bridge.config) == ("ecs-bridge", golden("bridge-gc.json"))
    assert (eni.plugin, eni.config) == ("ecs-eni", golden("eni-gc.json"))


def test_what_the_settings_say_is_in_the_configuration():
    bridge = TaskBridge("br9", "10.9.0.0/24", ("192.168.0.0/16", "172.16.0.1/32"), 1400)
    eni_call, bridge_call = plugin_calls(an_eni(), bridge, block_imds=False)
    assert eni_call.config["block-instance-metadata"] is False
    assert bridge_call.config["bridge"] == "br9"
    assert bridge_call.config["mtu"] == 1400
    assert bridge_call.config["ipam"]["ipv4-subnet"] == "10.9.0.0/24"
    assert [route["dst"] for route in bridge_call.config["ipam"]["ipv4-routes"]] == [
        "169.254.170.2/32",
        "192.168.0.0/16",
        "172.16.0.1/32",
    ]
