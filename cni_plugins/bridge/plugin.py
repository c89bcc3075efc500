"""ecs-bridge's verbs. ADD checks all it can before it changes anything, and undoes the rest if it fails."""

from __future__ import annotations

import posix

from cni_plugins.bridge import plan
from cni_plugins.bridge.config import BridgeConfig, TaskAddresses, parse_config, task_addresses
from cni_plugins.bridge.leases import Ipam
from cni_plugins.kernel import addresses, links, operations
from cni_plugins.kernel.errors import EEXIST, EXFULL, GONE, KernelRefused
from cni_plugins.kernel.farewell import delete_link_of
from cni_plugins.kernel.links import End, Link
from cni_plugins.kernel.marks import Mark, read_mark
from cni_plugins.kernel.namespaces import Namespace, find_namespace, open_namespace, require_other
from cni_plugins.kernel.operations import Operation, OperationFailed
from cni_plugins.kernel.rtnetlink import Netlink
from cni_plugins.skeleton.errors import FAILED, INVALID_CONFIG, TRY_AGAIN, CniError
from cni_plugins.skeleton.record import Record
from cni_plugins.skeleton.result import AssignedAddress, Interface, Result, Route, parse, render
from cni_plugins.skeleton.run import Call, Plugin

NAME = "ecs-bridge"
_NAME_ATTEMPTS = 10
_IN_USE = "bridge ADD: container veth name provided ({}) already exists"


class Attempt(Record):
    """One ADD on its way: where it acts, for whom, and in `made` the host ends that it may have made."""

    call: Call
    config: BridgeConfig
    there: Namespace
    host: Netlink
    inside: Netlink
    made: list[str]


def add(call: Call) -> dict[str, object]:
    """Plug the namespace into the bridge, which is made if it is absent."""
    config = parse_config(call.config.keys)
    ipam = Ipam(config, call)
    there = open_namespace(call.arguments)
    attempt = Attempt(call, config, there, Netlink(), there.netlink(), [])
    present = links.find_link(attempt.host, config.bridge)
    if present is not None:
        plan.require_bridge(present, config.bridge)
    if links.find_link(attempt.inside, call.arguments.ifname) is not None:
        raise CniError(FAILED, _IN_USE.format(call.arguments.ifname))
    leased = ipam.add()
    task: TaskAddresses | None = None
    try:
        task = task_addresses(parse(leased))
        return render(_plug(attempt, task), call.config)
    except BaseException as error:  # also SIGTERM: nothing may be left, whatever happened
        _undo(attempt, ipam, task)
        if isinstance(error, OperationFailed):
            code = TRY_AGAIN if error.refusal.errno == EXFULL else FAILED
            raise CniError(code, f"bridge ADD: {error}") from error
        raise


def delete(call: Call) -> None:
    """Unplug the namespace and release its addresses; the bridge stays. Nothing to do is success."""
    config = parse_config(call.config.keys)
    there = find_namespace(call.arguments.netns) if call.arguments.netns else None
    host = Netlink()
    if there is not None:
        require_other(there, call.arguments)
        _unplug(host, there, config, call)
    else:
        _unplug_by_mark(host, config, call)
    if config.ipam_type:
        Ipam(config, call).delete()  # last: an address must not be given away while it is still connected


def check(call: Call) -> None:
    """Raise CniError 100 naming everything that is not as ADD left it."""
    config = parse_config(call.config.keys)
    if call.config.previous is None:
        raise CniError(INVALID_CONFIG, "CHECK needs prevResult in the network config")
    there = open_namespace(call.arguments)
    if config.ipam_type:
        Ipam(config, call).check()
    host, inside = Netlink(), there.netlink()
    ifname = call.arguments.ifname
    leg = links.find_link(inside, ifname)
    bridge = links.find_link(host, config.bridge)
    port = links.find_link_at(host, leg.lower) if leg is not None else None
    if leg is None or bridge is None or port is None:
        missing = ifname if leg is None else config.bridge if bridge is None else f"the host end of {ifname}"
        raise CniError(FAILED, f"check {NAME}: {missing} does not exist")
    previous = parse(call.config.previous)
    own = [i for i, link in enumerate(previous.interfaces) if link.name == ifname and link.sandbox]
    expected = tuple(entry.prefix for entry in previous.addresses if entry.interface in own)
    routes = tuple(route for route in previous.routes if route.gateway in _gateways(previous, own))
    found = plan.Port(
        leg, port, bridge, tuple(addresses.list_addresses(inside)), tuple(addresses.list_routes(inside))
    )
    mac = previous.interfaces[own[0]].mac if own else ""
    wrong = plan.deviations(found, mac, expected, routes)
    if wrong:
        raise CniError(FAILED, f"check {NAME}: " + "; ".join(wrong))


def collect(call: Call) -> None:
    """GC: unplug every marked port of this bridge whose attachment is not valid; IPAM collects its own."""
    config = parse_config(call.config.keys)
    valid = call.config.valid_attachments()
    host = Netlink()
    bridge = links.find_link(host, config.bridge)
    if bridge is not None:
        gone = [
            link
            for link in links.list_links(host)
            if link.master == bridge.index
            and (mark := read_mark(link.alias)) is not None
            and mark.plugin == NAME
            and (mark.container_id, mark.name) not in valid
        ]
        _delete_links(host, gone, call)
        _unpin_orphans(host, bridge)
    if config.ipam_type:
        Ipam(config, call).collect()


def status(call: Call) -> None:
    """Ready unless the name is taken by something that is no bridge, or IPAM is not ready."""
    config = parse_config(call.config.keys)
    present = links.find_link(Netlink(), config.bridge)
    if present is not None:
        plan.require_bridge(present, config.bridge)
    if config.ipam_type:
        Ipam(config, call).status()


PLUGIN = Plugin(
    name=NAME,
    log_file="/log/ecs-cni-bridge-plugin.log",
    capabilities=("awsvpc-network-mode",),
    add=add,
    delete=delete,
    check=check,
    collect=collect,
    status=status,
)


def _ensure_bridge(host: Netlink, config: BridgeConfig, task: TaskAddresses) -> Link:
    """The bridge, up and with the gateway's addresses. Two first tasks may race here: both succeed."""
    link = links.find_link(host, config.bridge)
    if link is None:
        make = links.new_bridge(config.bridge, plan.bridge_mac(task), config.mtu)
        operations.apply(host, [Operation(f"create the bridge {config.bridge}", make, tolerated=(EEXIST,))])
        link = links.find_link(host, config.bridge)
        if link is None:
            raise CniError(TRY_AGAIN, f"bridge create: {config.bridge} vanished while it was made")
    plan.require_bridge(link, config.bridge)
    held = addresses.list_addresses(host)
    plan.require_matching(link, held, task)
    operations.apply(host, plan.serve(link, held, task))
    return link


def _plug(attempt: Attempt, task: TaskAddresses) -> Result:
    host, inside, call = attempt.host, attempt.inside, attempt.call
    ifname = call.arguments.ifname
    bridge = _ensure_bridge(host, attempt.config, task)
    mac = plan.task_mac(task, posix.urandom(6))
    port = links.find_link(host, _make_veth(attempt, bridge, mac))
    leg = links.find_link(inside, ifname)
    if port is None or leg is None:
        raise CniError(TRY_AGAIN, f"bridge ADD: {ifname} vanished while it was made")
    mark = str(Mark(call.arguments.container_id, NAME, ifname))
    skipped = operations.apply(host, plan.guard(port.index, bridge.index, mac, task, mark))
    skipped += operations.apply(inside, plan.connect(leg.index, bridge.mac, task))
    for step in skipped:
        call.log.info("operation.skipped", purpose=step.purpose)
    return _result(bridge, port, leg, task, call)


def _make_veth(attempt: Attempt, bridge: Link, mac: bytes) -> str:
    ifname, there = attempt.call.arguments.ifname, attempt.there
    leg = End(ifname, mac)
    for _ in range(_NAME_ATTEMPTS):
        chance = posix.urandom(10)
        port = End(f"veth{chance[:4].hex()}", plan.local_unicast(chance[4:]))
        make = links.new_veth(port, bridge.index, leg, there.descriptor, attempt.config.mtu)
        attempt.made[:] = [port.name]  # before it is: a signal may come before the answer
        try:
            operations.apply(attempt.host, [Operation("create the veth pair", make)])
        except OperationFailed as error:
            attempt.made.clear()
            if error.refusal.errno != EEXIST:
                raise
            if links.find_link(attempt.inside, ifname) is not None:
                raise CniError(FAILED, _IN_USE.format(ifname)) from error
            continue
        return port.name
    raise CniError(TRY_AGAIN, f"bridge ADD: no free name for the host's end after {_NAME_ATTEMPTS} attempts")


def _undo(attempt: Attempt, ipam: Ipam, task: TaskAddresses | None) -> None:
    host = attempt.host
    ports = [link for name in attempt.made if (link := links.find_link(host, name)) is not None]
    steps = [
        Operation("delete the veth pair", links.delete_link(link.index), tolerated=GONE) for link in ports
    ]
    bridge = links.find_link(host, attempt.config.bridge)
    if attempt.made and bridge is not None and task is not None:
        steps += plan.unpin(bridge.index, tuple(address.prefix.address for address in task.addresses))
    troubles = operations.undo(host, steps)
    try:
        ipam.delete()
    except CniError as error:
        troubles.append(f"ipam: {error.message}")
    attempt.call.log.warning("add.undone", troubles=troubles)


def _unplug(host: Netlink, there: Namespace, config: BridgeConfig, call: Call) -> None:
    inside = there.netlink()
    leg = links.find_link(inside, call.arguments.ifname)
    if leg is None:
        return
    held = tuple(
        entry.prefix.address for entry in addresses.list_addresses(inside) if entry.index == leg.index
    )
    bridge = links.find_link(host, config.bridge)
    if bridge is not None:
        operations.undo(host, plan.unpin(bridge.index, held))
    try:
        delete_link_of(there, leg.index)
    except KernelRefused as refusal:
        raise CniError(FAILED, f"bridge DEL: unable to delete {leg.name}: {refusal}") from refusal


def _unplug_by_mark(host: Netlink, config: BridgeConfig, call: Call) -> None:
    """The namespace is gone, and so is the pair unless something keeps it alive: believe in the mark."""
    wanted = (call.arguments.container_id, NAME, call.arguments.ifname)
    if not call.arguments.container_id:
        return
    ours = [
        link
        for link in links.list_links(host)
        if (mark := read_mark(link.alias)) is not None
        and (mark.container_id, mark.plugin, mark.name) == wanted
    ]
    _delete_links(host, ours, call)
    bridge = links.find_link(host, config.bridge)
    if bridge is not None:
        _unpin_orphans(host, bridge)


def _delete_links(host: Netlink, gone: list[Link], call: Call) -> None:
    steps = [Operation(f"delete {link.name}", links.delete_link(link.index), tolerated=GONE) for link in gone]
    troubles = operations.undo(host, steps)
    if troubles:
        raise CniError(FAILED, "bridge DEL: " + "; ".join(troubles))
    call.log.info("ports.deleted", names=[link.name for link in gone])


def _unpin_orphans(host: Netlink, bridge: Link) -> None:
    # Neighbours first: a task that is being connected pins its forwarding entry before its neighbour.
    pinned = addresses.list_neighbours(host, bridge.index)
    orphans = plan.orphaned_neighbours(pinned, addresses.list_forwarding(host, bridge.index))
    operations.undo(host, plan.unpin(bridge.index, orphans))


def _gateways(previous: Result, own: list[int]) -> tuple[object, ...]:
    return tuple(entry.gateway for entry in previous.addresses if entry.interface in own and entry.gateway)


def _result(bridge: Link, port: Link, leg: Link, task: TaskAddresses, call: Call) -> Result:
    old = call.config.version == "0.3.0"  # its callers compare with what the old plugin said
    assigned = tuple(AssignedAddress(entry.prefix, entry.gateway, interface=2) for entry in task.addresses)
    gateways = tuple(Route(entry.gateway.host_prefix(), entry.gateway) for entry in task.addresses)
    container = (
        Interface(leg.name) if old else Interface(leg.name, leg.mac.hex(":"), call.arguments.netns, leg.mtu)
    )
    return Result(
        (
            Interface(bridge.name, bridge.mac.hex(":"), mtu=bridge.mtu),
            Interface(port.name, port.mac.hex(":"), mtu=port.mtu),
            container,
        ),
        assigned,
        task.routes + gateways,
    )
