"""ecs-eni's config and plan, without a kernel."""

import pytest

from cni_plugins.eni import plan
from cni_plugins.eni.config import EniConfig, parse_config
from cni_plugins.eni.plan import Held
from cni_plugins.kernel.addresses import PROTOCOL, HeldAddress, HeldRoute
from cni_plugins.kernel.links import Link
from cni_plugins.skeleton.errors import CniError
from cni_plugins.skeleton.prefix import Prefix, parse_address, parse_prefix
from tests.cni_plugins.cnilab import eni_config

MAC = bytes.fromhex("0e0000000001")


def a_link(name: str = "eth0", index: int = 5, kind: str = "", mac: bytes = MAC, **changes: object) -> Link:
    link = Link(index, name, mac, kind, up=True, mtu=1500, lower=0, master=0, alias="", port={})
    return link.replaced(**changes)


def a_prefix(text: str) -> Prefix:
    prefix = parse_prefix(text)
    assert prefix is not None
    return prefix


def a_config(**changes: object) -> EniConfig:
    return parse_config(eni_config("0e:00:00:00:00:01", **changes))


def route(
    destination: str, gateway: str | None = None, index: int = 5, *, blackhole: bool = False
) -> HeldRoute:
    via = parse_address(gateway) if gateway else None
    return HeldRoute(a_prefix(destination), via, 0 if blackhole else index, blackhole, PROTOCOL)


def purposes(config: EniConfig, held: Held) -> list[str]:
    return [step.purpose for step in plan.converge(config, held)]


DONE = Held(
    a_link(),
    (HeldAddress(5, a_prefix("10.0.1.5/24"), False),),
    (
        route("0.0.0.0/0", "10.0.1.1"),
        route("169.254.169.254/32", blackhole=True),
        route("fd00:ec2::254/128", blackhole=True),
    ),
)


def test_an_empty_namespace_needs_everything_in_this_order() -> None:
    assert purposes(a_config(mtu=9001), Held(a_link(up=False))) == [
        "set the mtu 9001",
        "set the link up",
        "add the IP address 10.0.1.5/24",
        "add the route for the gateway",
        "add the blackhole route 169.254.169.254/32",
        "add the blackhole route fd00:ec2::254/128",
    ]


def test_a_configured_namespace_needs_nothing() -> None:
    assert purposes(a_config(), DONE) == []


def test_only_what_is_missing_is_done() -> None:
    assert purposes(a_config(), DONE.replaced(addresses=())) == ["add the IP address 10.0.1.5/24"]
    elsewhere = (HeldAddress(9, a_prefix("10.0.1.5/24"), False),)
    assert purposes(a_config(), DONE.replaced(addresses=elsewhere)) == ["add the IP address 10.0.1.5/24"]


def test_stay_down_needs_nothing() -> None:
    assert purposes(a_config(**{"stay-down": True}), Held(a_link(up=False))) == []


def test_another_links_default_route_wins() -> None:
    routes = (*DONE.routes[1:], route("0.0.0.0/0", "10.9.9.1", index=9))
    assert purposes(a_config(), DONE.replaced(routes=routes)) == []


def test_without_the_flag_the_metadata_service_stays_reachable() -> None:
    assert (
        purposes(a_config(**{"block-instance-metadata": False}), DONE.replaced(routes=DONE.routes[:1])) == []
    )


def test_only_our_own_blackholes_are_removed() -> None:
    foreign = route("169.254.169.254/32", blackhole=True).replaced(protocol=4)
    other = route("192.0.2.1/32", blackhole=True)
    assert plan.remove_blackholes((foreign, other, *DONE.routes[:1])) == []
    assert len(plan.remove_blackholes(DONE.routes)) == 2


def test_e27_of_two_links_with_one_mac_the_physical_one_is_chosen() -> None:
    physical = a_link("eth1", 7)
    for stacked in ("vlan", "macvlan", "bridge"):
        for candidates in ([a_link("x", 3, stacked), physical], [physical, a_link("x", 9, stacked)]):
            assert plan.choose_device(candidates, MAC) == physical
    assert plan.choose_device([a_link("b", 9), a_link("a", 4)], MAC) == a_link("a", 4)
    assert plan.choose_device([a_link(mac=b"\1" * 6)], MAC) is None


def test_e19_a_host_without_ipv6_is_no_reason_to_fail() -> None:
    steps = {step.purpose: step.tolerated for step in plan.converge(a_config(), Held(a_link()))}
    assert steps["add the blackhole route 169.254.169.254/32"] == ()
    assert set(steps["add the blackhole route fd00:ec2::254/128"]) == {95, 97}  # EOPNOTSUPP, EAFNOSUPPORT


def test_names_for_the_way_home() -> None:
    assert plan.host_names(MAC, "eth1") == ("eth1", "eni0e0000000001", "eni%d")
    assert plan.host_names(MAC, "") == ("eni0e0000000001", "eni%d")
    assert max(map(len, plan.host_names(MAC, "eth1"))) <= 15


def test_all_problems_of_a_config_are_told_at_once() -> None:
    with pytest.raises(CniError) as refused:
        parse_config({"mac": "zz", "ip-addresses": ["1/2"], "gateway-ip-addresses": ["y"], "mtu": -1})
    for fragment in ("'eni'", "zz", "1/2", "y", "-1"):
        assert fragment in refused.value.message
    assert (refused.value.code, refused.value.message.startswith("newconf types: ")) == (7, True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mtu", "1500"),
        ("mtu", True),
        ("mac", 7),
        ("ip-addresses", "10.0.0.1/8"),
        ("stay-down", "no"),
        ("ip-addresses", [1]),
    ],
)
def test_wrong_types_are_a_decoding_failure_that_names_the_key(key: str, value: object) -> None:
    with pytest.raises(CniError) as refused:
        parse_config({**eni_config("0e:00:00:00:00:01"), key: value})
    assert (refused.value.code, f"'{key}' is {value!r}" in refused.value.message) == (6, True)
