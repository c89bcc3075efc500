from ipaddress import IPv4Address, IPv4Interface, ip_network

from agent.adapters.host.bridge import Links
from agent.adapters.host.rules import FirewallPlan, ruleset

EXPECTED = """\
table inet berth
delete table inet berth
table inet berth {
	chain before_routing {
		type filter hook prerouting priority raw; policy accept;
		ip daddr 169.254.170.2 iifname != { "lo", "ecs-bridge", "docker0" } drop comment "not for the network"
		iifname "ecs-bridge" ip saddr != 169.254.172.0/22 drop comment "forged source"
	}

	chain to_host {
		type filter hook input priority filter - 10; policy accept;
		iifname "ecs-bridge" jump from_tasks
	}

	chain from_tasks {
		ip daddr 169.254.170.2 tcp dport 80 accept
		ip daddr { 169.254.170.2, 169.254.172.1 } icmp type echo-request accept
		icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept
		drop
	}

	chain through_host {
		type filter hook forward priority filter - 10; policy accept;
		iifname { "ecs-bridge", "docker0" } ip daddr 169.254.169.254 drop comment "host identity"
		iifname { "ecs-bridge", "docker0" } ip6 daddr fd00:ec2::254 drop comment "host identity"
		iifname "ecs-bridge" drop
		oifname "ecs-bridge" drop
	}
}
"""


def test_the_rules_are_these():
    assert ruleset(FirewallPlan()) == EXPECTED


def test_additional_local_routes_are_let_through_and_their_answers_back():
    text = ruleset(FirewallPlan(local_routes=(ip_network("10.9.0.0/16"), ip_network("fd00:9::/64"))))
    assert 'iifname "ecs-bridge" ip daddr 10.9.0.0/16 accept' in text
    assert 'iifname "ecs-bridge" ip6 daddr fd00:9::/64 accept' in text
    assert 'oifname "ecs-bridge" ip saddr 10.9.0.0/16 ct state established,related accept' in text
    # the host's identity stays out of reach, whatever is allowed
    assert text.index("169.254.169.254") < text.index("10.9.0.0/16 accept", text.index("through_host"))


def test_names_and_addresses_come_from_the_plan():
    links = Links(bridge="br9", gateway=IPv4Interface("10.8.0.1/24"), endpoint=IPv4Address("10.8.9.9"))
    text = ruleset(FirewallPlan(links=links, table="berth9", docker_bridges=()))
    assert "table inet berth9 {" in text
    assert 'iifname "br9" ip saddr != 10.8.0.0/24 drop' in text
    assert "docker0" not in text
    assert "ecs-bridge" not in text


def test_another_port_is_reached_by_port_80_only():
    text = ruleset(FirewallPlan(port=51679))
    led = "ip daddr 169.254.170.2 tcp dport 80 dnat ip to 169.254.170.2:51679"
    assert text.count(led) == 2
    assert "ip daddr 169.254.170.2 tcp dport 51679 ct original proto-dst 80 accept" in text
    assert "tcp dport 80 accept" not in text
    assert "127.0.0.1" not in text
