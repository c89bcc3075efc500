"""ecs-ipam's verbs: each loads the leases, decides, saves, and holds the lock for nothing else."""

from __future__ import annotations

from cni_plugins.ipam import allocator
from cni_plugins.ipam.allocator import Lease
from cni_plugins.ipam.config import (
    IpamConfig,
    Pool,
    parse_config,
    read_id,
    read_place,
    read_section,
    read_wanted,
)
from cni_plugins.ipam.store import Store, seconds_since_boot
from cni_plugins.skeleton.errors import FAILED, INVALID_CONFIG, NOT_AVAILABLE, CniError
from cni_plugins.skeleton.prefix import Address, Prefix, parse_address
from cni_plugins.skeleton.result import AssignedAddress, Result, render
from cni_plugins.skeleton.run import Call, Plugin

NAME = "ecs-ipam"


def add(call: Call) -> dict[str, object]:
    """Lease one address per configured family and print them with gateway and routes."""
    config = parse_config(call.config.keys)
    with Store(read_place(call.arguments.environment)) as store:
        known, addresses = allocator.lease(
            store.load(), config, _holder(call, config.id), seconds_since_boot()
        )
        store.save(known)
        _tell_moved_aside(call, store)
    # An IPAM result is abbreviated and stands alone: what came before is merged by the plugin that asked.
    return render(_result(config, addresses), call.config.replaced(previous=None))


def delete(call: Call) -> None:
    """Release by address, by id, or by container and interface. What is not leased is released already."""
    section = read_section(call.config.keys)
    addresses = read_wanted(section, call.config.keys)
    holder = _holder(call, read_id(section))
    if not addresses and not holder.id and not holder.container_id:
        raise CniError(INVALID_CONFIG, "del commands: ip address and id can not all be empty for deletion")
    with Store(read_place(call.arguments.environment)) as store:
        known = store.load()
        released = allocator.find(known, holder, addresses)
        if released:
            store.save(allocator.release(known, released, seconds_since_boot()))
        _tell_moved_aside(call, store)
    call.log.info("lease.released", addresses=list(released), id=holder.id)


def check(call: Call) -> None:
    """Raise CniError 100 unless this id or container holds an address of each family."""
    config = parse_config(call.config.keys)
    if call.config.previous is None:
        raise CniError(INVALID_CONFIG, "CHECK needs prevResult in the network config")
    holder = _holder(call, config.id)
    with Store(read_place(call.arguments.environment)) as store:
        found = allocator.find(store.load(), holder, ())
    for pool in config.pools:
        if not any(address.version == pool.gateway.version for address in _addresses(found)):
            raise CniError(FAILED, f"check {NAME}: no lease in {pool.subnet.masked()} for {_who(holder)}")


def collect(call: Call) -> None:
    """GC: release what belongs to no valid attachment."""
    valid = call.config.valid_attachments()
    with Store(read_place(call.arguments.environment)) as store:
        known = store.load()
        released = allocator.stale(known, valid)
        if released:
            store.save(allocator.release(known, released, seconds_since_boot()))
    call.log.info("lease.collected", addresses=list(released))


def status(call: Call) -> None:
    """Raise CniError 50 if no address could be leased now."""
    config = parse_config(call.config.keys)
    now = seconds_since_boot()
    with Store(read_place(call.arguments.environment)) as store:
        known = store.load()
    for pool in config.pools:
        if allocator.free_count(known, pool, config.cooldown_s, now) <= 0:
            raise CniError(NOT_AVAILABLE, f"no free address in {pool.subnet.masked()}")


PLUGIN = Plugin(
    name=NAME,
    log_file="/log/ecs-cni-ipam-plugin.log",
    capabilities=("awsvpc-network-mode",),
    add=add,
    delete=delete,
    check=check,
    collect=collect,
    status=status,
)


def _holder(call: Call, identifier: str) -> Lease:
    return Lease(identifier, call.arguments.container_id, call.arguments.ifname)


def _result(config: IpamConfig, addresses: tuple[Address, ...]) -> Result:
    pairs = list(zip(config.pools, addresses, strict=True))
    return Result(
        addresses=tuple(AssignedAddress(_with_mask(pool, address), pool.gateway) for pool, address in pairs),
        routes=tuple(route for pool in config.pools for route in pool.routes),
    )


def _with_mask(pool: Pool, address: Address) -> Prefix:
    return Prefix(address, pool.subnet.length if pool.wanted is None else pool.wanted.length)


def _addresses(texts: tuple[str, ...]) -> tuple[Address, ...]:
    return tuple(prefix for text in texts if (prefix := parse_address(text)))


def _who(holder: Lease) -> str:
    return f"id {holder.id!r}" if holder.id else f"container {holder.container_id!r}"


def _tell_moved_aside(call: Call, store: Store) -> None:
    if store.moved_aside:
        call.log.warning("store.recovered", moved_to=store.moved_aside)
