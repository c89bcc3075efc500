"""Which address, MAC and id a new interface gets. Pure: what is taken goes in, the choice comes out."""

import hashlib
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

from agent.adapters.local.vpc.errors import SubnetExhausted
from agent.adapters.local.vpc.plan import SubnetPlan, aws_id, reserved, reserved_ipv6

#: EC2's own MAC addresses are locally administered; many of them begin so.
_MAC_PREFIX = "0e"


def choose_ipv4(
    subnet: SubnetPlan, *, used: Iterable[str], resting: Iterable[str] = (), last: str | None = None
) -> str:
    """The next free address after ``last``, going round; the subnet's first usable one when ``last`` is None.

    ``used`` are addresses of living interfaces, ``resting`` those released a short while ago (peers may still
    have them in their caches). Raises SubnetExhausted.
    """
    network = subnet.ipv4_network
    taken = {int(IPv4Address(text)) for text in (*used, *resting)} | {int(kept) for kept in reserved(subnet)}
    first, size = int(network[0]), network.num_addresses
    start = int(IPv4Address(last)) - first + 1 if last is not None and IPv4Address(last) in network else 0
    chosen = _next_free(first, size, start, taken)
    if chosen is None:
        raise SubnetExhausted(subnet.subnet_id, subnet.ipv4_cidr)
    return str(IPv4Address(chosen))


def choose_ipv6(
    subnet: SubnetPlan, *, used: Iterable[str], resting: Iterable[str] = (), last: str | None = None
) -> str | None:
    """As ``choose_ipv4`` for the subnet's /64; None when the subnet has no IPv6."""
    network = subnet.ipv6_network
    if network is None:
        return None
    taken = {int(IPv6Address(text)) for text in (*used, *resting)}
    taken |= {int(kept) for kept in reserved_ipv6(subnet)}
    first, size = int(network[0]), network.num_addresses
    start = int(IPv6Address(last)) - first + 1 if last is not None and IPv6Address(last) in network else 0
    chosen = _next_free(first, size, start, taken)
    if chosen is None:
        raise SubnetExhausted(subnet.subnet_id, str(network))
    return str(IPv6Address(chosen))


def free_addresses(subnet: SubnetPlan, *, used: Iterable[str], resting: Iterable[str] = ()) -> int:
    """How many IPv4 addresses could be given now (Amazon's AvailableIpAddressCount)."""
    network = subnet.ipv4_network
    taken = {IPv4Address(text) for text in (*used, *resting)} | reserved(subnet)
    return network.num_addresses - sum(address in network for address in taken)


def eni_id(seed: str) -> str:
    """The interface id for a seed such as an attachment's id: ``eni-`` and 17 hex digits, stable."""
    return aws_id("eni", seed)


def mac_address(seed: str, *, used: Iterable[str] = ()) -> str:
    """A locally administered unicast MAC for a seed such as an interface id; none of those in ``used``."""
    taken = {text.lower() for text in used}
    attempt = 0
    while True:
        digest = hashlib.sha256(f"mac/{attempt}/{seed}".encode()).hexdigest()[:10]
        candidate = ":".join((_MAC_PREFIX, *(digest[at : at + 2] for at in range(0, 10, 2))))
        if candidate not in taken:
            return candidate
        attempt += 1


def _next_free(first: int, size: int, start: int, taken: set[int]) -> int | None:
    # Of len(taken) + 1 candidates one is free, so a /64 is never walked through.
    for step in range(min(size, len(taken) + 1)):
        candidate = first + (start + step) % size
        if candidate not in taken:
            return candidate
    return None
