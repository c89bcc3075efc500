"""Choosing addresses, MACs and ids."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.local.vpc import addresses
from agent.adapters.local.vpc.errors import SubnetExhausted
from agent.adapters.local.vpc.plan import SubnetPlan

SMALL = SubnetPlan("subnet-1", "a", "10.0.0.16/28", "fd00::/64")
USABLE = [f"10.0.0.{last}" for last in range(20, 31)]


def test_the_first_address_is_the_first_that_is_not_reserved() -> None:
    assert addresses.choose_ipv4(SMALL, used=()) == "10.0.0.20"


def test_the_choice_goes_round_and_skips_used_and_resting_addresses() -> None:
    assert addresses.choose_ipv4(SMALL, used=["10.0.0.20"], last="10.0.0.20") == "10.0.0.21"
    assert (
        addresses.choose_ipv4(SMALL, used=["10.0.0.21"], resting=["10.0.0.22"], last="10.0.0.20")
        == "10.0.0.23"
    )
    assert addresses.choose_ipv4(SMALL, used=[], last="10.0.0.30") == "10.0.0.20"
    assert addresses.choose_ipv4(SMALL, used=["10.0.0.20"], last="10.0.0.29") == "10.0.0.30"


def test_a_last_address_of_another_subnet_means_from_the_start() -> None:
    assert addresses.choose_ipv4(SMALL, used=[], last="10.9.9.9") == "10.0.0.20"


def test_every_usable_address_is_given_once_and_then_the_error_names_the_subnet() -> None:
    used: list[str] = []
    last = None
    for _ in USABLE:
        last = addresses.choose_ipv4(SMALL, used=used, last=last)
        used.append(last)

    assert used == USABLE
    assert addresses.free_addresses(SMALL, used=used) == 0
    with pytest.raises(SubnetExhausted, match=r"subnet-1 \(10\.0\.0\.16/28\)") as refusal:
        addresses.choose_ipv4(SMALL, used=used, last=last)
    assert refusal.value.subnet_id == "subnet-1"


@given(
    used=st.sets(st.sampled_from(USABLE)),
    resting=st.sets(st.sampled_from(USABLE)),
    last=st.one_of(st.none(), st.sampled_from(USABLE)),
)
def test_a_choice_is_always_usable_and_made_whenever_there_is_one(
    used: set[str], resting: set[str], last: str | None
) -> None:
    free = set(USABLE) - used - resting
    assert addresses.free_addresses(SMALL, used=used, resting=resting) == len(free)
    if free:
        assert addresses.choose_ipv4(SMALL, used=used, resting=resting, last=last) in free
    else:
        with pytest.raises(SubnetExhausted):
            addresses.choose_ipv4(SMALL, used=used, resting=resting, last=last)


def test_ipv6_addresses_are_chosen_in_the_64_without_walking_through_it() -> None:
    assert addresses.choose_ipv6(SMALL, used=()) == "fd00::4"
    assert addresses.choose_ipv6(SMALL, used=["fd00:0:0::5"], last="fd00::4") == "fd00::6"
    assert addresses.choose_ipv6(SMALL, used=["fd00::4"], last="fd00::ffff:ffff:ffff:fffe") == "fd00::5"
    assert addresses.choose_ipv6(SubnetPlan("s", "a", "10.0.0.0/24"), used=()) is None


def test_interface_ids_have_amazons_form() -> None:
    assert re.fullmatch(r"eni-0[0-9a-f]{16}", addresses.eni_id("attachment/1"))
    assert (
        addresses.eni_id("attachment/1")
        == addresses.eni_id("attachment/1")
        != addresses.eni_id("attachment/2")
    )


def test_macs_are_local_unicast_addresses_and_never_one_that_is_used() -> None:
    first = addresses.mac_address("eni-1")
    second = addresses.mac_address("eni-1", used=[first.upper()])
    third = addresses.mac_address("eni-1", used=[first, second])

    assert len({first, second, third}) == 3
    for mac in (first, second, third):
        assert re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac)
        assert int(mac[:2], 16) & 0b11 == 0b10
