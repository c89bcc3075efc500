"""The agent's firewall as text: who may reach the endpoint, and what tasks may not reach. Pure."""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from agent.adapters.host.bridge import Links

FAMILY = "inet"
_PORT = 80
INSTANCE_METADATA_V4 = "169.254.169.254"
INSTANCE_METADATA_V6 = "fd00:ec2::254"


@dataclass(frozen=True, slots=True)
class FirewallPlan:
    """What the rules are made of.

    ``docker_bridges``: Docker bridges whose containers may reach the endpoint, never the instance metadata.
    ``port``: where the agent really listens. Other than 80: port 80 of the endpoint is led there, so that
    other programs of the host may have port 80 (the address stays; nothing is ever led to 127.0.0.1).
    ``local_routes``: networks that tasks may reach through the host (``ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES``).
    """

    links: Links = field(default_factory=Links)
    table: str = "berth"
    docker_bridges: tuple[str, ...] = ("docker0",)
    port: int = _PORT
    local_routes: tuple[IPv4Network | IPv6Network, ...] = ()


def ruleset(plan: FirewallPlan) -> str:
    """Input for ``nft -f -``: replaces the whole table in one transaction.

    All chains come before those of other tables, and say nothing but "drop" or "no objection": an ``accept``
    ends only the chain it stands in, so Docker's and the administrator's rules are asked all the same.
    """
    links = plan.links
    tasks, endpoint = links.bridge, links.endpoint
    doors = ", ".join(f'"{name}"' for name in (links.loopback, tasks, *plan.docker_bridges))
    guarded = ", ".join(f'"{name}"' for name in (tasks, *plan.docker_bridges))
    is_led = plan.port != _PORT
    asked_port = f"tcp dport {plan.port} ct original proto-dst {_PORT}" if is_led else f"tcp dport {_PORT}"
    head = f"table {FAMILY} {plan.table}"
    to_routes = [
        f'{_route(route, "daddr")} accept comment "additional local route"' for route in plan.local_routes
    ]
    from_routes = [
        f'oifname "{tasks}" {_route(route, "saddr")} ct state established,related accept'
        for route in plan.local_routes
    ]
    chains = {
        "before_routing": (
            "type filter hook prerouting priority raw; policy accept;",
            f'ip daddr {endpoint} iifname != {{ {doors} }} drop comment "not for the network"',
            f'iifname "{tasks}" ip saddr != {links.gateway.network} drop comment "forged source"',
        ),
        "to_host": (
            "type filter hook input priority filter - 10; policy accept;",
            f'iifname "{tasks}" jump from_tasks',
        ),
        "from_tasks": (
            f"ip daddr {endpoint} {asked_port} accept",
            f"ip daddr {{ {endpoint}, {links.gateway.ip} }} icmp type echo-request accept",
            "icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept",
            *to_routes,
            "drop",
        ),
        "through_host": (
            "type filter hook forward priority filter - 10; policy accept;",
            f'iifname {{ {guarded} }} ip daddr {INSTANCE_METADATA_V4} drop comment "host identity"',
            f'iifname {{ {guarded} }} ip6 daddr {INSTANCE_METADATA_V6} drop comment "host identity"',
            *(f'iifname "{tasks}" {rule}' for rule in to_routes),
            *from_routes,
            f'iifname "{tasks}" drop',
            f'oifname "{tasks}" drop',
        ),
    }
    if is_led:
        chains |= _leading(plan, doors)
    body = "\n".join(_chain(name, rules) for name, rules in chains.items())
    # A table must exist to be deleted: the first line makes sure that it does.
    return f"{head}\ndelete {head}\n{head} {{\n{body}}}\n"


def _leading(plan: FirewallPlan, doors: str) -> dict[str, tuple[str, ...]]:
    endpoint = plan.links.endpoint
    rule = f"ip daddr {endpoint} tcp dport {_PORT} dnat ip to {endpoint}:{plan.port}"
    return {
        "lead_from_links": (
            "type nat hook prerouting priority dstnat - 10; policy accept;",
            f"iifname {{ {doors} }} {rule}",
        ),
        "lead_from_host": ("type nat hook output priority -110; policy accept;", rule),
    }


def _chain(name: str, rules: tuple[str, ...]) -> str:
    lines = "".join(f"\t\t{rule}\n" for rule in rules)
    return f"\tchain {name} {{\n{lines}\t}}\n"


def _route(network: IPv4Network | IPv6Network, side: str) -> str:
    return f"{'ip' if network.version == 4 else 'ip6'} {side} {network}"  # noqa: PLR2004 - the IP version
