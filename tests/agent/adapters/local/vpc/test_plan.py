"""Plans of a VPC: the default one, Amazon's reserved addresses, and every problem reported at once."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from agent.adapters.local.vpc import plan as plans
from agent.adapters.local.vpc.errors import BadVpcPlan
from agent.adapters.local.vpc.plan import InterfacePlan, SubnetPlan, VpcPlan, default_plan

SUBNET = SubnetPlan("subnet-1", "eu-west-1a", "10.0.1.0/24", "fd00:1::/64")


def test_the_default_plan_has_two_subnets_in_two_zones() -> None:
    plan = default_plan("eu-west-1", seed="a machine")

    assert plan.ipv4_cidr == "10.211.0.0/16"
    assert [(subnet.availability_zone, subnet.ipv4_cidr) for subnet in plan.subnets] == [
        ("eu-west-1a", "10.211.0.0/20"),
        ("eu-west-1b", "10.211.16.0/20"),
    ]
    assert plan.ipv6_cidr is None


def test_ids_are_amazons_form_and_stay_the_same_for_one_seed() -> None:
    plan, again, other = (default_plan("us-east-1", seed=seed) for seed in ("a", "a", "b"))

    ids = [plan.vpc_id, *(subnet.subnet_id for subnet in plan.subnets)]
    assert plan == again
    assert len({*ids, other.vpc_id}) == 4
    assert [len(one.split("-")[1]) for one in ids] == [17, 17, 17]
    assert [one.split("-")[0] for one in ids] == ["vpc", "subnet", "subnet"]


@pytest.mark.parametrize(
    ("cidr", "subnets"),
    [
        ("192.168.0.0/24", ["192.168.0.0/28", "192.168.0.16/28"]),
        ("192.168.0.0/27", ["192.168.0.0/28", "192.168.0.16/28"]),
        ("10.0.0.0/18", ["10.0.0.0/22", "10.0.4.0/22"]),
    ],
)
def test_the_default_plan_fits_other_ranges(cidr: str, subnets: list[str]) -> None:
    assert [subnet.ipv4_cidr for subnet in default_plan("x", seed="s", ipv4_cidr=cidr).subnets] == subnets


def test_the_default_plan_gives_every_subnet_a_64_of_the_ipv6_range() -> None:
    plan = default_plan("x", seed="s", ipv6_cidr="fd00:211::/56")

    assert [subnet.ipv6_cidr for subnet in plan.subnets] == ["fd00:211::/64", "fd00:211:0:1::/64"]


@pytest.mark.parametrize(
    ("ipv4_cidr", "ipv6_cidr", "expected"),
    [
        ("10.211.0.0/28", None, "/16 to /27"),
        ("10.0.0.0/8", None, "/16 to /27"),
        ("10.211.0.1/16", None, "expected 10.211.0.0/16"),
        ("nonsense", None, "'nonsense'"),
        ("10.211.0.0/16", "fd00::/64", "wider than /64"),
        ("10.211.0.0/16", "fd00::1/56", "expected fd00::/56"),
    ],
)
def test_a_range_without_room_for_two_subnets_is_refused(
    ipv4_cidr: str, ipv6_cidr: str | None, expected: str
) -> None:
    with pytest.raises(BadVpcPlan, match=expected):
        default_plan("x", seed="s", ipv4_cidr=ipv4_cidr, ipv6_cidr=ipv6_cidr)


def test_amazon_keeps_five_addresses_of_every_subnet() -> None:
    assert plans.reserved(SUBNET) == {IPv4Address(f"10.0.1.{last}") for last in (0, 1, 2, 3, 255)}
    assert plans.reserved_ipv6(SUBNET) == {
        *(IPv6Address(f"fd00:1::{last}") for last in range(4)),
        IPv6Address("fd00:1::ffff:ffff:ffff:ffff"),
    }
    assert plans.reserved_ipv6(replace(SUBNET, ipv6_cidr=None)) == frozenset()


def test_gateway_and_resolver_are_where_amazon_has_them() -> None:
    plan = VpcPlan("vpc-1", "10.0.0.0/16", (SUBNET,), "fd00:1::/56")

    assert plans.gateway(SUBNET) == IPv4Address("10.0.1.1")
    assert plans.gateway_ipv6(SUBNET) == IPv6Address("fd00:1::1")
    assert plans.gateway_ipv6(replace(SUBNET, ipv6_cidr=None)) is None
    assert plans.dns(plan) == IPv4Address("10.0.0.2")


@pytest.mark.parametrize(
    ("region", "name"),
    [("us-east-1", "ip-10-0-1-5.ec2.internal"), ("eu-west-1", "ip-10-0-1-5.eu-west-1.compute.internal")],
)
def test_private_names_are_those_of_amazons_dhcp(region: str, name: str) -> None:
    assert plans.private_dns_name("10.0.1.5", region) == name


def test_all_problems_of_a_plan_are_named_at_once_with_field_value_and_expectation() -> None:
    plan = VpcPlan(
        "vpc-1",
        "10.0.0.0/16",
        (
            SUBNET,
            SubnetPlan("subnet-2", "a", "10.0.1.128/25"),
            SubnetPlan("subnet-2", "a", "10.0.2.0/29"),
            SubnetPlan("subnet-4", "a", "10.1.0.0/24"),
            SubnetPlan("subnet-5", "a", "10.0.3.1/24"),
            SubnetPlan("subnet-6", "a", "rubbish", "fd00:9::/65"),
        ),
    )

    with pytest.raises(BadVpcPlan) as refusal:
        plans.checked(plan)

    problems = refusal.value.problems
    for field, value, expected in (
        ("subnets[0].ipv6_cidr", "fd00:1::/64", "None"),
        ("subnets[1].ipv4_cidr", "10.0.1.128/25", "no overlap with subnets[0].ipv4_cidr '10.0.1.0/24'"),
        ("subnets[2].ipv4_cidr", "10.0.2.0/29", "/16 to /28"),
        ("subnets[3].ipv4_cidr", "10.1.0.0/24", "part of the VPC's range 10.0.0.0/16"),
        ("subnets[4].ipv4_cidr", "10.0.3.1/24", "10.0.3.0/24"),
        ("subnets[5].ipv4_cidr", "rubbish", "a range such as"),
        ("subnets[5].ipv6_cidr", "fd00:9::/65", "a /64"),
        ("subnets.subnet_id", "subnet-2", "every id once"),
    ):
        found = [
            text for text in problems if text.startswith(f"{field} '{value}': expected ") and expected in text
        ]
        assert len(found) == 1, (field, problems)
    assert all(problem in str(refusal.value) for problem in problems)


def test_a_vpc_without_subnets_or_with_a_bad_range_is_refused() -> None:
    with pytest.raises(BadVpcPlan) as refusal:
        plans.checked(VpcPlan("vpc-1", "10.0.0.0/30", (), "fd00::1/56"))

    assert [problem.split(" ")[0] for problem in refusal.value.problems] == [
        "vpc.ipv6_cidr",
        "vpc.ipv4_cidr",
        "vpc.subnets",
    ]


def test_a_good_plan_and_a_good_interface_pass_unchanged() -> None:
    plan = default_plan("us-east-1", seed="s", ipv6_cidr="fd00::/56")
    eni = _interface(plan)

    assert plans.checked(plan) is plan
    assert plans.checked_interface(plan, eni) is eni


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eni_id", "eni-1"),
        ("mac_address", "0e:00:00:00:00"),
        ("mac_address", "01:00:00:00:00:05"),
        ("mac_address", "0E:00:00:00:00:05"),
        ("ipv4_address", "10.211.0.1"),
        ("ipv4_address", "10.211.16.9"),
        ("ipv4_address", "fd00::9"),
        ("ipv6_address", "fd00::3"),
        ("ipv6_address", "fd01::9"),
        ("mtu", 1200),
        ("mtu", 70000),
    ],
)
def test_an_interface_that_does_not_fit_is_refused_by_field(field: str, value: object) -> None:
    plan = default_plan("us-east-1", seed="s", ipv6_cidr="fd00::/56")

    with pytest.raises(BadVpcPlan) as refusal:
        plans.checked_interface(plan, replace(_interface(plan), **{field: value}))

    assert [text.split(": expected")[0] for text in refusal.value.problems] == [f"{field} {value!r}"]


def test_an_unknown_subnet_and_ipv6_in_an_ipv4_subnet_are_refused() -> None:
    plan = default_plan("us-east-1", seed="s")

    with pytest.raises(BadVpcPlan, match=rf"'subnet-x': expected one of {plan.subnets[0].subnet_id}"):
        plans.checked_interface(plan, replace(_interface(plan), subnet_id="subnet-x"))
    with pytest.raises(BadVpcPlan, match="no IPv6 range"):
        plans.checked_interface(plan, replace(_interface(plan), ipv6_address="fd00::9"))


def _interface(plan: VpcPlan) -> InterfacePlan:
    ipv6 = "fd00::9" if plan.ipv6_cidr else None
    subnet_id = plan.subnets[0].subnet_id
    return InterfacePlan("eni-" + "0" * 17, subnet_id, "0e:00:00:00:00:05", "10.211.0.5", ipv6)
