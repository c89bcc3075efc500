"""Other hosts of the VPC: namespaces with one interface each, to reach tasks as from an EC2 instance."""

import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from agent.adapters.local.vpc import layout, namespaces
from agent.adapters.local.vpc.errors import BadVpcPlan, InterfaceConflict, NameTaken
from agent.adapters.local.vpc.namespaces import NamespaceThread
from agent.adapters.local.vpc.netlink import Rtnetlink
from agent.adapters.local.vpc.plan import InterfacePlan, SubnetPlan, gateway, gateway_ipv6
from agent.adapters.local.vpc.router import OUTSIDE, Router

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_LOOPBACK = 1
#: The interface's name inside the host, as on EC2's older instance types.
_LINK = "eth0"


@dataclass(frozen=True, slots=True)
class HostPlan:
    """A host called ``name`` of the router ``namespace``, with one interface in that subnet."""

    namespace: str
    name: str
    eni: InterfacePlan
    subnet: SubnetPlan


def ensure_host(router: Router, thread: NamespaceThread, host: HostPlan) -> None:
    """A namespace ``<namespace>-<name>`` with that interface up and a default route. Safe to repeat.

    Raises BadVpcPlan for a name that cannot be used, NameTaken when such a namespace is not ours.
    """
    if not _NAME.fullmatch(host.name):
        raise BadVpcPlan((f"name {host.name!r}: expected up to 32 lower-case letters, digits and dashes",))
    full_name = layout.host_namespace(host.namespace, host.name)
    descriptor = namespaces.opened(full_name)
    if descriptor is None:
        descriptor = thread.create(full_name)
    try:
        with thread.inside(descriptor):
            netlink = Rtnetlink()
        try:
            _mark(netlink, host.namespace, full_name)
            wanted = layout.mark(layout.host_role(host.name), host.eni)
            for _, found in router.links():
                if found.role == wanted.role and found != wanted:
                    router.detach(found.eni_id)
            router.attach(
                wanted,
                group=layout.subnet_group(host.subnet.subnet_id),
                mtu=host.eni.mtu,
                peer=_LINK,
                peer_namespace=descriptor,
            )
            _configure(netlink, host.eni, host.subnet)
        finally:
            netlink.close()
    finally:
        os.close(descriptor)


def remove_host(router: Router, thread: NamespaceThread, namespace: str, name: str) -> None:
    """Remove the namespace and its interface. Fine when it is gone; another's namespace is left alone."""
    if router.opened():
        for _, mark in router.links():
            if mark.role == layout.host_role(name):
                router.detach(mark.eni_id)
    full_name = layout.host_namespace(namespace, name)
    if _is_ours(thread, namespace, full_name):
        namespaces.remove(full_name)


def remove_all_hosts(router: Router, thread: NamespaceThread, namespace: str) -> None:
    """Remove every host of this router; other VPCs' namespaces are told apart by their mark."""
    prefix = layout.host_namespace(namespace, "")
    for full_name in namespaces.names(prefix):
        remove_host(router, thread, namespace, full_name.removeprefix(prefix))


def _mark(netlink: Rtnetlink, namespace: str, full_name: str) -> None:
    loopback = next(link for link in netlink.links() if link.index == _LOOPBACK)
    wanted = layout.host_alias(namespace)
    if loopback.alias not in ("", wanted) or (loopback.alias == "" and loopback.is_up):
        raise NameTaken(
            f"network namespace {full_name} exists and is not a host of this VPC: choose another name"
        )
    netlink.set_up(_LOOPBACK, alias=wanted)


def _configure(netlink: Rtnetlink, eni: InterfacePlan, subnet: SubnetPlan) -> None:
    link = next((link for link in netlink.links() if link.mac_address == eni.mac_address), None)
    if link is None:
        raise InterfaceConflict(f"interface {eni.eni_id} of the host was moved out of its namespace")
    netlink.ensure_address(link.index, IPv4Address(eni.ipv4_address), subnet.ipv4_network.prefixlen)
    netlink.set_up(link.index)
    netlink.ensure_route(OUTSIDE[0], link.index, via=gateway(subnet))
    router_ipv6 = gateway_ipv6(subnet)
    if eni.ipv6_address is not None and router_ipv6 is not None:
        netlink.ensure_address(link.index, IPv6Address(eni.ipv6_address), 64)
        netlink.ensure_route(OUTSIDE[1], link.index, via=router_ipv6)


def _is_ours(thread: NamespaceThread, namespace: str, full_name: str) -> bool:
    descriptor = namespaces.opened(full_name)
    if descriptor is None:
        return False
    try:
        with thread.inside(descriptor):
            netlink = Rtnetlink()
        try:
            aliases = {link.alias for link in netlink.links() if link.index == _LOOPBACK}
        finally:
            netlink.close()
    finally:
        os.close(descriptor)
    return layout.host_alias(namespace) in aliases
