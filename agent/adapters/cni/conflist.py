"""Which plugins are called for a task's ENI, in which order, and with which configuration. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from agent.model.ids import ContainerId
from agent.model.spec import NetworkInterface

ENI_PLUGIN = "ecs-eni"
BRIDGE_PLUGIN = "ecs-bridge"
IPAM_PLUGIN = "ecs-ipam"
NEEDED_PLUGINS = (ENI_PLUGIN, BRIDGE_PLUGIN, IPAM_PLUGIN)

ENI_IFNAME = "eth0"
"""The ENI as the task sees it (ecs-protocol 9.2)."""

BRIDGE_IFNAME = "ecs-eth0"
"""The link to the agent as the task sees it (ecs-protocol 9.2)."""

CREDENTIALS_ROUTE = "169.254.170.2/32"
"""Where every task finds its credentials, through the link to the agent (cni 2.8)."""

GC_VERSION = "1.1.0"
"""The oldest dialect that has GC (cni 1.4)."""

_CNI_VERSION = "1.0.0"
_NETWORK = "berth"


@dataclass(frozen=True, slots=True)
class TaskBridge:
    """The bridge that links all tasks to the agent.

    ``subnet``: the range of the tasks' addresses on it. ``additional_routes``: destinations that tasks reach
    through the host, beside the credentials endpoint. ``mtu`` in bytes.
    """

    name: str = "ecs-bridge"
    subnet: str = "169.254.172.0/22"
    additional_routes: tuple[str, ...] = ()
    mtu: int = 1500


@dataclass(frozen=True, slots=True)
class PluginCall:
    """One plugin, the interface's name in the sandbox (if it is about one), and the configuration: JSON."""

    plugin: str
    ifname: str
    config: dict[str, Any]


def plugin_calls(wanted: NetworkInterface, bridge: TaskBridge, *, block_imds: bool) -> tuple[PluginCall, ...]:
    """The calls that connect a sandbox, in order. To disconnect it: the same, in reverse."""
    return (
        PluginCall(ENI_PLUGIN, ENI_IFNAME, _eni_config(wanted, block_imds=block_imds)),
        PluginCall(BRIDGE_PLUGIN, BRIDGE_IFNAME, _bridge_config(wanted, bridge)),
    )


def collection_calls(bridge: TaskBridge, kept: Iterable[ContainerId]) -> tuple[PluginCall, ...]:
    """The GC calls that free what belongs to none of the ``kept`` sandboxes, in order."""
    valid = [
        {"containerID": sandbox, "ifname": ifname}
        for sandbox in sorted(kept)
        for ifname in (ENI_IFNAME, BRIDGE_IFNAME)
    ]
    common = {
        "cniVersion": GC_VERSION,
        "name": _NETWORK,
        "cni.dev/valid-attachments": valid,
        "cni.dev/attachments": valid,  # the same under its older name (cni 1.3)
    }
    plug = {"bridge": bridge.name, "mtu": bridge.mtu, "ipam": _ipam_config(bridge)}
    return (
        PluginCall(BRIDGE_PLUGIN, "", {**common, "type": BRIDGE_PLUGIN, **plug}),
        PluginCall(ENI_PLUGIN, "", {**common, "type": ENI_PLUGIN}),
    )


def _eni_config(wanted: NetworkInterface, *, block_imds: bool) -> dict[str, Any]:
    return {
        "cniVersion": _CNI_VERSION,
        "name": _NETWORK,
        "type": ENI_PLUGIN,
        "eni": wanted.eni_id,
        "mac": wanted.mac_address,
        "ip-addresses": [str(address) for address in (*wanted.ipv4_addresses, *wanted.ipv6_addresses)],
        "gateway-ip-addresses": list(wanted.gateways),
        "block-instance-metadata": block_imds,
        "mtu": wanted.mtu or 0,  # 0: as the device came
    }


def _bridge_config(wanted: NetworkInterface, bridge: TaskBridge) -> dict[str, Any]:
    return {
        "cniVersion": _CNI_VERSION,
        "name": _NETWORK,
        "type": BRIDGE_PLUGIN,
        "bridge": bridge.name,
        "mtu": bridge.mtu,
        # what the lease belongs to; survives a change of the pause container
        "ipam": {**_ipam_config(bridge), "id": wanted.mac_address},
    }


def _ipam_config(bridge: TaskBridge) -> dict[str, Any]:
    return {
        "type": IPAM_PLUGIN,
        "ipv4-subnet": bridge.subnet,
        "ipv4-routes": [{"dst": route} for route in (CREDENTIALS_ROUTE, *bridge.additional_routes)],
    }
