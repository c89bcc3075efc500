"""Marks, names and rules of the router, and what counts as a collision with the machine's own network."""

from ipaddress import IPv4Interface, IPv4Network

from agent.adapters.local.vpc import layout
from agent.adapters.local.vpc.instance import overlaps
from agent.adapters.local.vpc.netlink import Route
from agent.adapters.local.vpc.plan import InterfacePlan, default_plan

ENI = InterfacePlan("eni-0123456789abcdef0", "subnet-1", "0e:00:00:00:00:05", "10.0.0.5", "fd00::5")
VPC = IPv4Network("10.211.0.0/16")
NAMES = {2: "eth0", 3: "berth0"}


def test_a_mark_survives_being_written_and_read() -> None:
    for ipv6 in ("fd00::5", None):
        mark = layout.Mark("host:web", ENI.eni_id, "subnet-1", ENI.mac_address, "10.0.0.5", ipv6)
        assert layout.parsed(mark.alias()) == mark
        assert len(mark.alias()) < 256  # the kernel's limit for an alias


def test_what_is_no_mark_of_ours_is_none() -> None:
    for alias in ("", "berth", "uplink to rack 7", "other eni a b c d e"):
        assert layout.parsed(alias) is None


def test_link_names_fit_into_the_kernels_fifteen_characters() -> None:
    assert layout.machine_link(ENI.eni_id) == "berth-89abcdef0"
    assert len(layout.machine_link(ENI.eni_id)) == 15
    assert len(layout.router_link(ENI.eni_id)) == 15
    assert layout.is_router_link(layout.router_link(ENI.eni_id))
    assert not layout.is_router_link("lo")
    assert not layout.is_router_link("tunl0")


def test_a_links_name_on_the_machine_is_not_one_that_dhcp_clients_take() -> None:
    assert not layout.machine_link(ENI.eni_id).startswith(("en", "eth"))


def test_groups_of_subnets_differ_and_are_stable() -> None:
    groups = [layout.subnet_group(subnet.subnet_id) for subnet in default_plan("x", seed="s").subnets]

    assert len({*groups, layout.INSTANCE_GROUP, 0}) == 4
    assert groups == [layout.subnet_group(s.subnet_id) for s in default_plan("x", seed="s").subnets]


def test_the_rules_replace_the_whole_table_in_one_go() -> None:
    text = layout.ruleset(default_plan("x", seed="s"))

    assert text.index("delete table inet berth") < text.index("table inet berth {\n")
    assert text.index("delete table arp berth") < text.index("table arp berth {\n")
    assert text.count("arp daddr ip != ") == 2


def test_ipv6_is_off_in_a_vpc_without_it() -> None:
    without = dict(layout.switches(default_plan("x", seed="s")))
    with_it = dict(layout.switches(default_plan("x", seed="s", ipv6_cidr="fd00::/56")))

    assert without["ipv6/conf/all/disable_ipv6"] == "1"
    assert with_it["ipv6/conf/all/disable_ipv6"] == "0"


def test_a_wider_route_a_narrower_route_and_an_address_all_collide() -> None:
    routes = [_route("10.0.0.0/8", via="192.0.2.1"), _route("10.211.3.0/24")]
    addresses = [(2, IPv4Interface("10.211.9.9/32"))]

    found = [what for _, what in overlaps([VPC], routes, addresses, NAMES, own_link=None)]

    assert found == [
        "route 10.0.0.0/8 via 192.0.2.1 dev eth0",
        "route 10.211.3.0/24 dev eth0",
        "address 10.211.9.9/32 dev eth0",
    ]


def test_default_routes_other_ranges_and_our_own_link_do_not_collide() -> None:
    routes = [_route("0.0.0.0/0", via="192.0.2.1"), _route("172.17.0.0/16"), _route("10.211.0.0/16", link=3)]
    addresses = [(3, IPv4Interface("10.211.0.10/32")), (2, IPv4Interface("192.0.2.2/24"))]

    assert list(overlaps([VPC], routes, addresses, NAMES, own_link=3)) == []


def test_a_route_without_a_link_collides_too() -> None:
    blackhole = Route(IPv4Network("10.211.5.0/24"), None, None, 254, is_unreachable=False)

    for own_link in (None, 3):
        assert [what for _, what in overlaps([VPC], [blackhole], [], NAMES, own_link)] == [
            "route 10.211.5.0/24"
        ]


def _route(destination: str, *, via: str | None = None, link: int = 2) -> Route:
    return Route(IPv4Network(destination), via, link, 254, is_unreachable=False)
