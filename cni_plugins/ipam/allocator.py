"""Which address a lease gets, and what becomes of it. Pure: the clock is an argument."""

from __future__ import annotations

from cni_plugins.ipam.config import IpamConfig, Pool
from cni_plugins.skeleton.errors import FAILED, TRY_AGAIN, CniError
from cni_plugins.skeleton.prefix import IPV4, Address, parse_address
from cni_plugins.skeleton.record import Record


class Lease(Record):
    """Who holds an address: the caller's id for it, the container and its interface; each may be empty."""

    id: str
    container_id: str
    ifname: str


class Leases(Record):
    """All that the store knows.

    Attributes:
        held: leases by address text.
        resting: when an address was released, in seconds since boot, by address text.
        newest: the address leased last, by family digit: the search goes on behind it.
    """

    held: dict[str, Lease]
    resting: dict[str, float]
    newest: dict[str, str]


NO_LEASES = Leases({}, {}, {})


def lease(known: Leases, config: IpamConfig, holder: Lease, now: float) -> tuple[Leases, tuple[Address, ...]]:
    """One address per pool for the holder, or CniError 100; either all pools are served or none."""
    addresses: tuple[Address, ...] = ()
    held, newest = dict(known.held), dict(known.newest)
    resting = _still_resting(known.resting, config, now)
    for pool in config.pools:
        _require_new_id(known, pool, holder)
        if str(pool.gateway) in held:
            raise _refused(f"verifyGateway commands: ip of gateway has already been used: {pool.gateway}")
        chosen = _wanted(held, resting, pool) or _next_free(held, resting, newest, pool)
        held[str(chosen)] = holder
        resting.pop(str(chosen), None)
        newest[chosen.version] = str(chosen)
        addresses += (chosen,)
    return Leases(held, resting, newest), addresses


def find(known: Leases, holder: Lease, addresses: tuple[Address, ...]) -> tuple[str, ...]:
    """The held addresses that a DEL means.

    Named addresses; else all leases of the id; else all of the container's interface.
    """
    if addresses:
        return tuple(str(address) for address in addresses if str(address) in known.held)
    if holder.id:
        return tuple(text for text, held in known.held.items() if held.id == holder.id)
    return tuple(
        text
        for text, held in known.held.items()
        if (held.container_id, held.ifname) == (holder.container_id, holder.ifname)
    )


def release(known: Leases, released: tuple[str, ...], now: float) -> Leases:
    """Without these leases; their addresses begin to rest."""
    return Leases(
        {text: held for text, held in known.held.items() if text not in released},
        {**known.resting, **dict.fromkeys(released, now)},
        known.newest,
    )


def stale(known: Leases, valid: frozenset[tuple[str, str]]) -> tuple[str, ...]:
    """Leases of attachments that GC says are gone. One without a container id cannot be judged and stays."""
    return tuple(
        text
        for text, held in known.held.items()
        if held.container_id and (held.container_id, held.ifname) not in valid
    )


def free_count(known: Leases, pool: Pool, cooldown_s: int, now: float) -> int:
    """How many addresses of the pool could be leased now."""
    taken = _inside(known.held, pool) | _resting(known.resting, pool, cooldown_s, now) | {pool.gateway.number}
    return _size(pool) - len(taken)


def _still_resting(resting: dict[str, float], config: IpamConfig, now: float) -> dict[str, float]:
    """Without those of these pools that have rested; other networks may want theirs to rest longer."""
    rested = {text for text, since in resting.items() if now - since >= config.cooldown_s}
    ours = [
        text
        for text in rested
        if (address := parse_address(text)) and any(pool.subnet.holds(address) for pool in config.pools)
    ]
    return {text: since for text, since in resting.items() if text not in ours}


def _require_new_id(known: Leases, pool: Pool, holder: Lease) -> None:
    if not holder.id:
        return
    inside = _inside({text: held for text, held in known.held.items() if held.id == holder.id}, pool)
    if inside:
        raise _refused(f"getIPAddress commands: ipstore: id already exists: {holder.id}")


def _wanted(held: dict[str, Lease], resting: dict[str, float], pool: Pool) -> Address | None:
    if pool.wanted is None:
        return None
    address = pool.wanted.address
    if str(address) in held:
        raise _refused(f"failed to mark this ip {address} as used: Previous K/V pair exists")
    if str(address) in resting:
        raise CniError(
            TRY_AGAIN, f"failed to mark this ip {address} as used: it was released a moment ago and rests"
        )
    return address


def _next_free(
    held: dict[str, Lease], resting: dict[str, float], newest: dict[str, str], pool: Pool
) -> Address:
    taken = _inside(held, pool)
    unusable = taken | _inside(resting, pool) | {pool.gateway.number}
    first, size = pool.subnet.network.number + 1, _size(pool)
    last = parse_address(newest.get(pool.gateway.version))
    start = last.number + 1 - first if last is not None and pool.subnet.holds(last) else 0
    # Among one more candidate than there are unusable ones, one must be free.
    for offset in range(min(size, len(unusable) + 1)):
        candidate = first + (start + offset) % size
        if candidate not in unusable:
            return Address(pool.subnet.family, candidate)
    resting_count = len(_inside(resting, pool))
    raise _refused(
        "getAvailableIP ipstore: failed to find available ip addresses in the subnet "
        f"{pool.subnet.masked()}: {len(taken)} are leased, "
        f"{resting_count} were released a moment ago and rest"
    )


def _inside(table: dict[str, Lease] | dict[str, float], pool: Pool) -> set[int]:
    return {
        address.number for text in table if (address := parse_address(text)) and pool.subnet.holds(address)
    }


def _resting(resting: dict[str, float], pool: Pool, cooldown_s: int, now: float) -> set[int]:
    return _inside({text: since for text, since in resting.items() if now - since < cooldown_s}, pool)


def _size(pool: Pool) -> int:
    """Usable addresses: all but the network's own and, for IPv4, the broadcast address."""
    reserved = 2 if pool.subnet.family == IPV4 else 1
    return pool.subnet.last.number - pool.subnet.network.number + 1 - reserved


def _refused(message: str) -> CniError:
    return CniError(FAILED, message)
