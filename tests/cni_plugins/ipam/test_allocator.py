"""The choice of an address, without a kernel, a clock or a file."""

import pytest

from cni_plugins.ipam import allocator
from cni_plugins.ipam.allocator import NO_LEASES, Lease, Leases
from cni_plugins.ipam.config import IpamConfig, Pool, parse_duration, read_cooldown
from cni_plugins.skeleton.errors import CniError
from cni_plugins.skeleton.prefix import Address, Prefix, parse_address, parse_prefix


def a_prefix(text: str) -> Prefix:
    prefix = parse_prefix(text)
    assert prefix is not None
    return prefix


def an_address(text: str) -> Address:
    address = parse_address(text)
    assert address is not None
    return address


def a_config(
    subnet: str = "10.0.0.0/29", gateway: str = "10.0.0.1", identifier: str = "a", rest_s: int = 30
) -> IpamConfig:
    return IpamConfig(identifier, (Pool(a_prefix(subnet), an_address(gateway), None, ()),), rest_s)


def a_holder(identifier: str = "a") -> Lease:
    return Lease(identifier, f"container-{identifier}", "eth0")


def test_addresses_come_in_order_and_skip_the_gateway() -> None:
    known, given = NO_LEASES, []
    for name in "abcde":
        known, (address,) = allocator.lease(known, a_config(identifier=name), a_holder(name), 0.0)
        given.append(str(address))
    assert given == ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
    with pytest.raises(CniError, match="failed to find available ip addresses"):
        allocator.lease(known, a_config(identifier="f"), a_holder("f"), 0.0)


def test_a_released_address_rests_for_exactly_the_cooldown() -> None:
    config = a_config("10.0.0.0/30")
    known, _ = allocator.lease(NO_LEASES, config, a_holder(), 0.0)
    known = allocator.release(known, ("10.0.0.2",), 100.0)
    with pytest.raises(CniError, match="1 were released a moment ago"):
        allocator.lease(known, config, a_holder(), 129.9)
    known, (address,) = allocator.lease(known, config, a_holder(), 130.0)
    assert (str(address), known.resting) == ("10.0.0.2", {})


def test_an_address_rests_for_thirty_seconds_unless_the_config_says_otherwise() -> None:
    assert read_cooldown({}) == 30
    assert read_cooldown({"cooldown-seconds": 5}) == 5


def test_another_networks_resting_addresses_are_not_forgotten() -> None:
    known = Leases({}, {"192.0.2.9": 100.0}, {})
    known, _ = allocator.lease(known, a_config(rest_s=0), a_holder(), 101.0)
    assert known.resting == {"192.0.2.9": 100.0}


def test_the_search_wraps_around() -> None:
    known = Leases({}, {}, {"4": "10.0.0.6"})
    _, (address,) = allocator.lease(known, a_config(), a_holder(), 0.0)
    assert str(address) == "10.0.0.2"


def test_a_failure_in_one_family_leases_nothing_in_the_other() -> None:
    pools = (
        Pool(a_prefix("10.0.0.0/24"), an_address("10.0.0.1"), None, ()),
        Pool(a_prefix("fd00::/126"), an_address("fd00::1"), None, ()),
    )
    held = {f"fd00::{n}": a_holder(f"x{n}") for n in (2, 3)}
    known = Leases(held, {}, {})
    with pytest.raises(CniError):
        allocator.lease(known, IpamConfig("a", pools, 30), a_holder(), 0.0)
    assert known.held == held


def test_a_huge_ipv6_subnet_is_searched_at_once() -> None:
    config = a_config("fd00::/64", "fd00::1")
    _, (address,) = allocator.lease(NO_LEASES, config, a_holder(), 0.0)
    assert str(address) == "fd00::2"
    assert allocator.free_count(NO_LEASES, config.pools[0], 30, 0.0) == 2**64 - 2


@pytest.mark.parametrize(
    ("holder", "addresses", "expected"),
    [
        (Lease("a", "other", "other"), (), ("10.0.0.2", "10.0.0.3")),
        (Lease("", "cb", "eth0"), (), ("10.0.0.4",)),
        (Lease("", "cb", "eth1"), (), ()),
        (Lease("a", "", ""), (an_address("10.0.0.4"),), ("10.0.0.4",)),
        (Lease("nobody", "cb", "eth0"), (), ()),
    ],
)
def test_what_a_del_means(holder, addresses, expected) -> None:
    held = {
        "10.0.0.2": Lease("a", "ca", "eth0"),
        "10.0.0.3": Lease("a", "ca", "eth0"),
        "10.0.0.4": Lease("b", "cb", "eth0"),
    }
    assert allocator.find(Leases(held, {}, {}), holder, addresses) == expected


def test_gc_leaves_leases_whose_container_is_unknown() -> None:
    held = {
        "10.0.0.2": Lease("a", "", ""),
        "10.0.0.3": Lease("b", "cb", "eth0"),
        "10.0.0.4": Lease("c", "cc", "eth0"),
    }
    assert allocator.stale(Leases(held, {}, {}), frozenset({("cc", "eth0")})) == ("10.0.0.3",)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5.0),
        ("1m30s", 90.0),
        ("250ms", 0.25),
        ("1.5h", 5400.0),
        ("", None),
        ("5", None),
        ("s", None),
        ("5x", None),
        ("1.2.3s", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == (pytest.approx(seconds) if seconds is not None else None)
