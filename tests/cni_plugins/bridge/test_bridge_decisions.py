"""ecs-bridge's config and plan, without a kernel."""

import pytest

from cni_plugins.bridge import plan
from cni_plugins.bridge.config import TaskAddress, TaskAddresses, parse_config, task_addresses
from cni_plugins.kernel.addresses import PROTOCOL, HeldAddress, HeldNeighbour
from cni_plugins.kernel.links import Link
from cni_plugins.skeleton.errors import CniError
from cni_plugins.skeleton.prefix import Address, Prefix, parse_address, parse_prefix
from cni_plugins.skeleton.result import AssignedAddress, Result, Route
from tests.cni_plugins.cnilab import bridge_config


def a_prefix(text: str) -> Prefix:
    prefix = parse_prefix(text)
    assert prefix is not None
    return prefix


def an_address(text: str) -> Address:
    address = parse_address(text)
    assert address is not None
    return address


V4 = TaskAddress(a_prefix("169.254.172.9/22"), an_address("169.254.172.1"))
V6 = TaskAddress(a_prefix("fd00::9/112"), an_address("fd00::1"))
BRIDGE = Link(3, "ecs-bridge", b"\x0a" * 6, "bridge", up=True, mtu=1500, lower=0, master=0, alias="", port={})


def a_task(*addresses: TaskAddress, routes: tuple[Route, ...] = ()) -> TaskAddresses:
    return TaskAddresses(addresses or (V4,), routes)


def test_a_tasks_mac_is_made_of_its_ipv4_address() -> None:
    assert plan.task_mac(a_task(V4, V6), b"\xff" * 6).hex(":") == "0a:58:a9:fe:ac:09"
    assert plan.task_mac(a_task(V6), b"\xff" * 6).hex(":") == "fe:ff:ff:ff:ff:ff"


def test_a_bridges_mac_is_the_same_each_time_and_no_tasks() -> None:
    assert plan.bridge_mac(a_task(V4)).hex(":") == "0a:58:a9:fe:ac:01"
    assert plan.bridge_mac(a_task(V6)) == plan.bridge_mac(a_task(V6))
    assert plan.bridge_mac(a_task(V6))[0] & 3 == 2


def test_routes_without_a_gateway_get_their_familys_and_the_gateways_come_last() -> None:
    routes = (
        Route(a_prefix("10.0.0.0/8")),
        Route(a_prefix("fd01::/16")),
        Route(a_prefix("11.0.0.0/8"), an_address("169.254.172.7")),
    )
    shown = [
        (str(route.destination), str(route.gateway))
        for route in plan.all_routes(a_task(V4, V6, routes=routes))
    ]
    assert shown == [
        ("10.0.0.0/8", "169.254.172.1"),
        ("fd01::/16", "fd00::1"),
        ("11.0.0.0/8", "169.254.172.7"),
        ("169.254.172.1/32", "169.254.172.1"),
        ("fd00::1/128", "fd00::1"),
    ]


def test_the_leg_comes_up_without_a_generated_address_and_before_its_addresses() -> None:
    purposes = [step.purpose for step in plan.connect(4, b"\x0a" * 6, a_task(V4))]
    assert purposes == [
        "turn off generated addresses",
        "set the link up",
        "add the IP address 169.254.172.9/22",
        "add the route 169.254.172.1/32",
        "remove the connected route 169.254.172.0/22",
        "pin the neighbour 169.254.172.1",
    ]


def test_the_port_is_guarded_before_it_comes_up() -> None:
    purposes = [step.purpose for step in plan.guard(5, 3, b"\x0a" * 6, a_task(V4, V6), "mark")]
    assert purposes.index("set the port up") == len(purposes) - 1
    assert {"isolate the port", "lock the port", "pin the forwarding entry"} < set(purposes)
    assert {"pin the neighbour 169.254.172.9", "pin the neighbour fd00::9"} < set(purposes)


def test_a_bridge_of_another_subnet_is_a_mismatch_but_its_link_local_address_is_not() -> None:
    good = [HeldAddress(3, a_prefix("169.254.172.1/22"), False), HeldAddress(3, a_prefix("fe80::1/64"), True)]
    plan.require_matching(BRIDGE, good, a_task(V4, V6))
    for wrong in ("10.0.0.1/24", "169.254.172.1/24"):
        with pytest.raises(CniError, match="mismatch in bridge ecs-bridge address for family 2"):
            plan.require_matching(BRIDGE, [HeldAddress(3, a_prefix(wrong), False)], a_task(V4))
    plan.require_matching(BRIDGE, [HeldAddress(8, a_prefix("10.0.0.1/24"), False)], a_task(V4))
    with pytest.raises(CniError, match="for family 10"):
        plan.require_matching(BRIDGE, [HeldAddress(3, a_prefix("fd99::1/64"), False)], a_task(V6))


def test_a_serving_bridge_needs_nothing() -> None:
    assert plan.serve(BRIDGE, [HeldAddress(3, a_prefix("169.254.172.1/22"), False)], a_task(V4)) == []
    purposes = [step.purpose for step in plan.serve(BRIDGE.replaced(up=False), [], a_task(V4))]
    assert purposes == ["set ecs-bridge up", "add 169.254.172.1/22 to ecs-bridge"]


def test_only_our_own_neighbours_without_a_port_are_orphans() -> None:
    def pinned(last: int, *, protocol: int = PROTOCOL, permanent: bool = True) -> HeldNeighbour:
        address = an_address(f"169.254.172.{last}")
        return HeldNeighbour(3, bytes([last] * 6), address, permanent, False, protocol)

    forwarding = [
        HeldNeighbour(9, b"\2" * 6, None, False, True, 0),
        HeldNeighbour(9, b"\3" * 6, None, True, False, 0),
    ]
    known = [pinned(2), pinned(3), pinned(4, protocol=0), pinned(5, permanent=False), pinned(6)]
    orphans = plan.orphaned_neighbours(known, forwarding)
    assert [str(address) for address in orphans] == ["169.254.172.3", "169.254.172.6"]


@pytest.mark.parametrize(
    ("change", "code", "fragment"),
    [
        ({"bridge": ""}, 7, "missing required parameter in config named: 'bridge'"),
        ({"bridge": "x" * 16}, 7, "invalid bridge name"),
        ({"bridge": "a/b"}, 7, "invalid bridge name"),
        ({"mtu": -1}, 7, "invalid mtu: -1"),
        ({"mtu": "1500"}, 6, "'mtu' is '1500'"),
        ({"ipam": 3}, 6, "'ipam' is 3"),
        ({"bridge": 3}, 6, "'bridge' is 3"),
    ],
)
def test_wrong_configs(change: dict[str, object], code: int, fragment: str) -> None:
    with pytest.raises(CniError) as refused:
        parse_config(bridge_config(**change))
    assert (refused.value.code, fragment in refused.value.message) == (code, True)


def test_defaults() -> None:
    assert parse_config({"bridge": "b", "mtu": 0}).mtu == 1500
    assert parse_config({"bridge": "b"}).ipam_type is None


def test_an_ipam_result_is_sorted_by_family() -> None:
    given = Result(addresses=(AssignedAddress(V6.prefix, V6.gateway), AssignedAddress(V4.prefix, V4.gateway)))
    assert task_addresses(given).addresses == (V4, V6)


def test_a_gateway_of_the_other_family_is_refused() -> None:
    with pytest.raises(CniError, match="without a gateway"):
        task_addresses(Result(addresses=(AssignedAddress(V4.prefix, V6.gateway),)))
