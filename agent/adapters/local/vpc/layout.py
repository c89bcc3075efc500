"""How the router namespace is laid out: names, marks, switches and rules. Nothing touches the kernel."""

import hashlib
import re
from dataclasses import dataclass

from agent.adapters.local.vpc.plan import InterfacePlan, SubnetPlan, VpcPlan

#: The router's link-local address on every link; a valid IPv6 gateway in every subnet.
ROUTER_LINK_LOCAL = "fe80::1"
#: The router's MAC on every link. Each link is a wire of its own, so one address serves all.
ROUTER_MAC = "0e:00:00:00:00:01"
#: The link group of the machine's own interface; the filter knows it by this number.
INSTANCE_GROUP = 1
TABLE = "berth"
#: How the alias of a router's loopback begins.
ROUTER_ALIAS = "berth vpc "

_FIRST_SUBNET_GROUP = 0x10000
_ABSENT = "-"
_ROUTER_LINK = re.compile(r"r[0-9a-f]{14}")


@dataclass(frozen=True, slots=True)
class Mark:
    """What the router's end of a link says about itself (its ifalias), so that a restarted agent knows it."""

    role: str  # "eni", "instance", or "host:<name>"
    eni_id: str
    subnet_id: str
    mac_address: str
    ipv4_address: str
    ipv6_address: str | None

    def alias(self) -> str:
        """The text to be stored on the link."""
        ipv6 = self.ipv6_address or _ABSENT
        return (
            f"berth {self.role} {self.eni_id} {self.subnet_id} {self.mac_address} {self.ipv4_address} {ipv6}"
        )


def mark(role: str, eni: InterfacePlan) -> Mark:
    """The mark of an interface in that role."""
    return Mark(role, eni.eni_id, eni.subnet_id, eni.mac_address, eni.ipv4_address, eni.ipv6_address)


def parsed(alias: str) -> Mark | None:
    """The mark in an alias; None when the alias is not one of ours."""
    words = alias.split(" ")
    match words:
        case ["berth", role, eni_id, subnet_id, mac_address, ipv4, ipv6]:
            return Mark(role, eni_id, subnet_id, mac_address, ipv4, None if ipv6 == _ABSENT else ipv6)
        case _:
            return None


def router_alias(plan: VpcPlan) -> str:
    """What the router's loopback says: this namespace is the router of that VPC."""
    return f"{ROUTER_ALIAS}{plan.vpc_id}"


def host_alias(namespace: str) -> str:
    """What the loopback of a host of the VPC says: which router it belongs to."""
    return f"berth host-of {namespace}"


def host_namespace(namespace: str, name: str) -> str:
    """The name of the namespace that is the VPC's host of that name."""
    return f"{namespace}-{name}"


def host_role(name: str) -> str:
    """The role in the mark of a host's link."""
    return f"host:{name}"


def machine_link(eni_id: str) -> str:
    """The interface's first name on the machine; it changes when the interface is moved into a task.

    Not ``en...``: several distributions run a DHCP client on every link whose name begins so.
    """
    return f"berth-{eni_id[-9:]}"


def router_link(eni_id: str) -> str:
    """The name of the router's end. Link names have at most 15 characters."""
    return f"r{eni_id[-14:]}"


def is_router_link(name: str) -> bool:
    """Whether a link in the router's namespace is one of the router's, by its name."""
    return _ROUTER_LINK.fullmatch(name) is not None


def subnet_group(subnet_id: str) -> int:
    """The link group of a subnet's interfaces, so that one static rule covers them all. Stable for an id."""
    digest = hashlib.sha256(subnet_id.encode()).digest()
    return _FIRST_SUBNET_GROUP + int.from_bytes(digest[:3], "big")


def switches(plan: VpcPlan) -> tuple[tuple[str, str], ...]:
    """Settings below /proc/sys/net of the router namespace, in order; later links inherit ``default``."""
    has_ipv6 = plan.ipv6_cidr is not None
    both = ("all", "default")
    ipv4 = {
        "rp_filter": "1",  # strict: a source must be routed back through the link it came from
        "proxy_arp": "1",  # the router answers for neighbours, since no link reaches them
        "accept_redirects": "0",
        "send_redirects": "0",
        "accept_source_route": "0",
        "arp_accept": "0",
    }
    ipv6 = {
        "forwarding": "1",
        "proxy_ndp": "1",
        "accept_ra": "0",
        "accept_redirects": "0",
        "accept_dad": "0",
    }
    return (
        *((f"ipv4/conf/{which}/{key}", value) for key, value in ipv4.items() for which in both),
        ("ipv4/ip_forward", "1"),
        ("ipv4/icmp_ratelimit", "0"),  # every packet to nowhere gets its answer
        *((f"ipv6/conf/{which}/disable_ipv6", "0" if has_ipv6 else "1") for which in both),
        *((f"ipv6/conf/{which}/{key}", value) for key, value in ipv6.items() for which in both),
        ("ipv6/conf/default/addr_gen_mode", "1"),  # no address but those given
        ("ipv6/icmp/ratelimit", "0"),
    )


def link_switches(link: str) -> tuple[tuple[str, str], ...]:
    """Settings that a new link does not inherit: answer for neighbours at once instead of within 0.8 s."""
    return ((f"ipv4/neigh/{link}/proxy_delay", "0"), (f"ipv6/neigh/{link}/proxy_delay", "0"))


def ruleset(plan: VpcPlan) -> str:
    """The router's nftables rules, as one transaction that replaces whatever was there before.

    They depend on the plan only, never on which interfaces exist: links find their rules by group.
    Two places are kept free on purpose. Security groups: chains per interface, called from ``forward`` behind
    its last rule. NAT to the outside: a ``nat`` chain here and a default route (see ``router.OUTSIDE``).
    """
    lines = [
        f"table inet {TABLE} {{}}",
        f"delete table inet {TABLE}",
        f"table arp {TABLE} {{}}",
        f"delete table arp {TABLE}",
        f"table inet {TABLE} {{",
        "  chain arriving {",
        "    type filter hook prerouting priority raw; policy accept;",
        '    iif "lo" accept',
        # The route back to the source must leave through the link the packet came from. This drops, too, the
        # question whether anybody has an address (its source is ::): the VPC gives addresses, nobody has it.
        "    fib saddr . iif oif 0 drop",
        # The unreachable route would answer as well, but after five times only once a second for each sender.
        "    fib daddr type != unicast accept",
        "    meta nfproto ipv4 fib daddr oif 0 reject with icmp type host-unreachable",
        "  }",
        "  chain forward {",
        "    type filter hook forward priority filter; policy accept;",
        # The machine may ask, but is not asked: its listening sockets were not opened for tasks.
        f"    oifgroup {INSTANCE_GROUP} ct state established,related accept",
        f"    oifgroup {INSTANCE_GROUP} icmp type echo-request accept",
        f"    oifgroup {INSTANCE_GROUP} icmpv6 type echo-request accept",
        f"    oifgroup {INSTANCE_GROUP} reject with icmpx admin-prohibited",
        "  }",
        "}",
        f"table arp {TABLE} {{",
        "  chain input {",
        "    type filter hook input priority filter; policy accept;",
        *(f"    {_own_subnet_only(subnet)}" for subnet in plan.subnets),
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _own_subnet_only(subnet: SubnetPlan) -> str:
    return f"iifgroup {subnet_group(subnet.subnet_id)} arp daddr ip != {subnet.ipv4_cidr} drop"
