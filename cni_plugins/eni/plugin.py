"""ecs-eni's verbs. ADD moves last what can fail, and brings the ENI home if anything fails after the move."""

from __future__ import annotations

import select
import time

from cni_plugins.eni import plan
from cni_plugins.eni.config import EniConfig, described, parse_config, parse_mac_of
from cni_plugins.eni.plan import Held
from cni_plugins.kernel import addresses, links, operations
from cni_plugins.kernel.errors import EEXIST
from cni_plugins.kernel.links import Link
from cni_plugins.kernel.marks import Mark, read_mark
from cni_plugins.kernel.namespaces import Namespace, find_namespace, home, open_namespace, require_other
from cni_plugins.kernel.operations import Operation, OperationFailed
from cni_plugins.kernel.rtnetlink import GROUP_LINK, Netlink
from cni_plugins.skeleton.errors import FAILED, INVALID_CONFIG, TRY_AGAIN, CniError
from cni_plugins.skeleton.prefix import Address
from cni_plugins.skeleton.result import AssignedAddress, Interface, Result, Route, render
from cni_plugins.skeleton.run import Call, Plugin

NAME = "ecs-eni"


def add(call: Call) -> dict[str, object]:
    """Move the ENI into the namespace and configure it. A repeated ADD finds nothing to do."""
    config = parse_config(call.config.keys)
    there = open_namespace(call.arguments)
    host, inside = Netlink(), there.netlink()
    device = _find_device(host, config)
    present = _attached(inside, call, config) if device is None else None
    if present is not None:
        _converge(inside, config, present, call)
        mark = read_mark(present.alias)
        return render(_result(config, call, mark.name if mark else present.name), call.config)
    device = device or _wait_for_device(host, config)
    _require_free_name(inside, call.arguments.ifname, config)
    _move_and_configure(call, config, there, device, inside)
    return render(_result(config, call, device.name), call.config)


def delete(call: Call) -> None:
    """Bring the ENI back to the host: down, bare, under a free name. Nothing to do is success."""
    there = find_namespace(call.arguments.netns) if call.arguments.netns else None
    if there is None:
        return  # the kernel has brought the device home when the namespace died
    require_other(there, call.arguments)
    inside = there.netlink()
    mac = parse_mac_of(call.config.keys)
    if mac is not None:
        link = plan.choose_device(links.list_links(inside), mac)
    else:
        link = links.find_link(inside, call.arguments.ifname)
        mark = read_mark(link.alias) if link is not None else None
        link = link if mark is not None and mark.plugin == NAME else None
    if link is None:
        return
    mark = read_mark(link.alias)
    name = _bring_home(inside, Netlink(), link, mark.name if mark is not None else "")
    troubles = _remove_blackholes_of_the_last(inside)
    call.log.info("eni.returned", mac=link.mac.hex(":"), name=name, troubles=troubles)


def check(call: Call) -> None:
    """Raise CniError 100 naming everything that is not as ADD left it."""
    config = parse_config(call.config.keys)
    if call.config.previous is None:
        raise CniError(INVALID_CONFIG, "CHECK needs prevResult in the network config")
    inside = open_namespace(call.arguments).netlink()
    name = call.arguments.ifname
    link = plan.choose_device(links.list_links(inside), config.mac)
    if link is None:
        raise CniError(FAILED, f"check {NAME}: {described(config)} is not in the namespace")
    if link.name != name and not config.stays_down:
        raise CniError(FAILED, f"check {NAME}: {described(config)} is named {link.name}, expected {name}")
    wanting = plan.converge(config, _held(inside, link))
    if wanting:
        found = "; ".join(step.purpose for step in wanting)
        raise CniError(FAILED, f"check {NAME}: {name} is not as configured; it would need: {found}")


def collect(call: Call) -> None:
    """GC: an ENI that came home by itself when its namespace died gets its name back, and no mark."""
    valid = {container for container, _ in call.config.valid_attachments()}
    host = Netlink()
    for link in links.list_links(host):
        mark = read_mark(link.alias)
        if mark is None or mark.plugin != NAME or mark.container_id in valid:
            continue
        restore = [Operation(f"unmark {link.name}", links.set_alias(link.index, ""))]
        if mark.name and link.name != mark.name:
            rename = links.set_name(link.index, mark.name)
            restore.append(Operation(f"rename {link.name} to {mark.name}", rename, tolerated=(EEXIST,)))
        troubles = operations.undo(host, restore)
        call.log.info("eni.collected", mac=link.mac.hex(":"), name=mark.name, troubles=troubles)


def status(_call: Call) -> None:
    """Ready whenever rtnetlink answers."""
    links.find_link(Netlink(), "lo")


PLUGIN = Plugin(
    name=NAME,
    log_file="/log/ecs-cni-eni-plugin.log",
    capabilities=("awsvpc-network-mode",),
    add=add,
    delete=delete,
    check=check,
    collect=collect,
    status=status,
)


def _find_device(host: Netlink, config: EniConfig) -> Link | None:
    return plan.choose_device(links.list_links(host), config.mac)


def _wait_for_device(host: Netlink, config: EniConfig) -> Link:
    """Wait for the device's link message. Subscribe first, then look: what comes in between is not lost."""
    deadline = time.monotonic() + config.wait_s
    news = Netlink(GROUP_LINK)
    try:
        found = _find_device(host, config)
        while found is None and select.select([news], [], [], max(0.0, deadline - time.monotonic()))[0]:
            seen = [link for reply in news.notifications() if (link := links.parse_notification(reply))]
            if any(link.mac == config.mac for link in seen):
                found = _find_device(host, config)
    finally:
        news.close()
    if found is None:
        raise CniError(
            TRY_AGAIN,
            "getInterfaceDeviceName engine: unable to get device with hardware address "
            f"'{config.mac_as_written}': engine: device with mac address not found",
            f"waited {config.wait_s} s",
        )
    return found


def _attached(inside: Netlink, call: Call, config: EniConfig) -> Link | None:
    """The ENI, if an earlier ADD of the same container has brought it here already."""
    link = plan.choose_device(links.list_links(inside), config.mac)
    mark = read_mark(link.alias) if link is not None else None
    ours = mark is not None and mark.plugin == NAME and mark.container_id == call.arguments.container_id
    named = link is not None and (config.stays_down or link.name == call.arguments.ifname)
    return link if ours and named else None


def _require_free_name(inside: Netlink, name: str, config: EniConfig) -> None:
    if not config.stays_down and links.find_link(inside, name) is not None:
        raise CniError(
            FAILED, f"setupContainerNamespace engine: interface {name} already exists in the namespace"
        )


def _move_and_configure(
    call: Call, config: EniConfig, there: Namespace, device: Link, inside: Netlink
) -> None:
    host = Netlink()
    name = device.name if config.stays_down else call.arguments.ifname
    mark = str(Mark(call.arguments.container_id, NAME, device.name))
    move = Operation("move the device", links.move_link(device.index, there.descriptor, name, mark))
    try:
        operations.apply(host, [move])
        link = links.find_link(inside, name)
        if link is None:
            raise CniError(FAILED, f"setupContainerNamespace engine: {name} vanished after the move")
        _converge(inside, config, link, call)
    except BaseException as error:  # also SIGTERM: the ENI must not be stranded, whatever happened
        _return_after_failure(host, inside, device, call)
        if isinstance(error, OperationFailed):
            raise CniError(FAILED, f"setupContainerNamespace engine: {error}") from error
        raise


def _converge(inside: Netlink, config: EniConfig, link: Link, call: Call) -> None:
    try:
        skipped = operations.apply(inside, plan.converge(config, _held(inside, link)))
    except OperationFailed as error:
        raise CniError(FAILED, f"setupContainerNamespace engine: {error}") from error
    for step in skipped:
        call.log.warning("operation.skipped", purpose=step.purpose)


def _held(inside: Netlink, link: Link) -> Held:
    return Held(link, tuple(addresses.list_addresses(inside)), tuple(addresses.list_routes(inside)))


def _return_after_failure(host: Netlink, inside: Netlink, device: Link, call: Call) -> None:
    # by MAC: the kernel moves first and renames then, so it may be there under either name
    link = plan.choose_device(links.list_links(inside), device.mac)
    if link is None:
        return  # it never left
    returned = _bring_home(inside, host, link, device.name)
    troubles = _remove_blackholes_of_the_last(inside)
    came = links.find_link(host, returned)
    if came is not None:
        restore = [Operation("restore the mtu", links.set_mtu(came.index, device.mtu))]
        if device.alias:
            restore.append(Operation("restore the alias", links.set_alias(came.index, device.alias)))
        if device.up:
            restore.append(Operation("restore the up state", links.set_up(came.index)))
        troubles += operations.undo(host, restore)
    call.log.warning("eni.returned", mac=device.mac.hex(":"), name=returned, troubles=troubles)


def _remove_blackholes_of_the_last(inside: Netlink) -> list[str]:
    """When no ENI is left in the namespace, nothing of this plugin shall be."""
    marks = [read_mark(link.alias) for link in links.list_links(inside)]
    if any(mark is not None and mark.plugin == NAME for mark in marks):
        return []
    return operations.undo(inside, plan.remove_blackholes(tuple(addresses.list_routes(inside))))


def _bring_home(inside: Netlink, host: Netlink, link: Link, former: str) -> str:
    """Move the link to this process's namespace; return its name there. Raises CniError 100."""
    here = home()
    try:
        names = plan.host_names(link.mac, former)
        free = [name for name in names if "%" in name or links.find_link(host, name) is None]
        for name in free:
            # The kernel moves first and renames then. If somebody took the name in between (EEXIST), the link
            # has arrived under its inner name, and only the rename is left to do.
            arrived = plan.choose_device(links.list_links(host), link.mac) if name != free[0] else None
            purpose = f"move the device back as {name}"
            try:
                if arrived is None:
                    move = links.move_link(link.index, here.descriptor, name, "")
                    operations.apply(inside, [Operation(purpose, move)])
                else:
                    rename, unmark = links.set_name(arrived.index, name), links.set_alias(arrived.index, "")
                    operations.apply(
                        host, [Operation(purpose, rename), Operation("unmark the device", unmark)]
                    )
            except OperationFailed as error:
                if error.refusal.errno != EEXIST:
                    raise CniError(FAILED, f"{NAME} DEL: {error}") from error
                continue
            return name if "%" not in name else _name_of(host, link.mac)
    finally:
        here.close()
    raise CniError(FAILED, f"{NAME} DEL: no free name for {link.mac.hex(':')} in the host")


def _name_of(host: Netlink, mac: bytes) -> str:
    link = plan.choose_device(links.list_links(host), mac)
    return link.name if link is not None else ""


def _result(config: EniConfig, call: Call, former: str) -> Result:
    """What callers of the old plugin know (the device's host name), and for newer dialects all of it."""
    device = Interface(former, config.mac_as_written)
    if call.config.version == "0.3.0":
        plain = tuple(AssignedAddress(prefix) for prefix in config.addresses)
        return Result((device,), plain)
    arguments = call.arguments
    name = former if config.stays_down else arguments.ifname
    link = Interface(name, config.mac_as_written, arguments.netns, config.mtu)
    assigned = tuple(
        AssignedAddress(prefix, _gateway_of(prefix.family, config), interface=1)
        for prefix in config.addresses
    )
    return Result((device, link), assigned, tuple(_default_route(gateway) for gateway in config.gateways))


def _gateway_of(family: int, config: EniConfig) -> Address | None:
    return next((gateway for gateway in config.gateways if gateway.family == family), None)


def _default_route(gateway: Address) -> Route:
    return Route(Address(gateway.family, 0).host_prefix().replaced(length=0), gateway)
