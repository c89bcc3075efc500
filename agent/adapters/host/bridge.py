"""Where the endpoint's address lives and where tasks reach it: an address on ``lo`` and a bridge."""

import errno
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

import structlog
from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.model.errors import CannotStart

log = structlog.get_logger()

_GATEWAY = IPv4Interface("169.254.172.1/22")
_ENDPOINT = IPv4Address("169.254.170.2")
_SCOPE_HOST = 254
_SCOPE_GLOBAL = 0
_SCOPE_LINK = 253
_AF_INET = 2
_IFF_UP = 1


@dataclass(frozen=True, slots=True)
class Links:
    """Names and addresses of what the agent needs on the host.

    ``bridge``: where tasks are joined; ``gateway``: the host's address there, with the tasks' subnet.
    ``endpoint``: what the agent serves. Both as Amazon ECS has them.
    """

    bridge: str = "ecs-bridge"
    gateway: IPv4Interface = _GATEWAY
    endpoint: IPv4Address = _ENDPOINT
    loopback: str = "lo"


class TaskBridge:
    """The endpoint's address on loopback, and the bridge as the ``ecs-bridge`` plugin would make it."""

    def __init__(self, links: Links) -> None:
        self._links = links

    async def ensure(self) -> tuple[str, ...]:
        """Make what is missing; return in plain words what that was. Raise ``CannotStart``."""
        async with _kernel() as kernel:
            return (*await self._ensure_endpoint(kernel), *await self._ensure_bridge(kernel))

    async def remove(self) -> tuple[str, ...]:
        """Take the address away, and the bridge if no task is joined to it; what was removed, in words."""
        removed: list[str] = []
        async with _kernel() as kernel:
            loopback = await _find(kernel, self._links.loopback)
            if loopback is not None and await _delete_address(
                kernel, loopback["index"], self._links.endpoint, 32
            ):
                removed.append(f"address {self._links.endpoint} on {self._links.loopback}")
            bridge = await _find(kernel, self._links.bridge)
            if bridge is not None and _kind(bridge) == "bridge" and not await _has_ports(kernel, bridge):
                await kernel.link("del", index=bridge["index"])
                removed.append(f"bridge {self._links.bridge}")
        return tuple(removed)

    async def _ensure_endpoint(self, kernel: AsyncIPRoute) -> tuple[str, ...]:
        links = self._links
        loopback = await _find(kernel, links.loopback)
        if loopback is None:
            raise CannotStart(f"there is no interface {links.loopback}", is_final=False)
        await _ensure_up(kernel, loopback)
        if await _add_address(kernel, loopback["index"], links.endpoint, 32, _SCOPE_HOST):
            return (f"address {links.endpoint} on {links.loopback}",)
        return ()

    async def _ensure_bridge(self, kernel: AsyncIPRoute) -> tuple[str, ...]:
        links = self._links
        made: list[str] = []
        bridge = await _find(kernel, links.bridge)
        if bridge is None:
            await _create_bridge(kernel, links.bridge)
            made.append(f"bridge {links.bridge}")
            bridge = await _find(kernel, links.bridge)
        if bridge is None or _kind(bridge) != "bridge":
            raise CannotStart(
                f"interface named {links.bridge} already exists, but is not a bridge; rename or remove it",
                is_final=True,
            )
        await _ensure_up(kernel, bridge)
        if await self._ensure_gateway(kernel, bridge["index"]):
            made.append(f"address {links.gateway} on {links.bridge}")
        return tuple(made)

    async def _ensure_gateway(self, kernel: AsyncIPRoute, index: int) -> bool:
        wanted = self._links.gateway
        async for address in await kernel.get_addr(index=index, family=_AF_INET):
            if address["scope"] in {_SCOPE_LINK, _SCOPE_HOST}:
                continue
            found = f"{address.get('address')}/{address['prefixlen']}"
            if found != str(wanted):
                raise CannotStart(
                    f"bridge {self._links.bridge} has the address {found}; expected {wanted} or none; "
                    f"remove it with: ip address del {found} dev {self._links.bridge}",
                    is_final=True,
                )
            return False
        return await _add_address(kernel, index, wanted.ip, wanted.network.prefixlen, _SCOPE_GLOBAL)


@asynccontextmanager
async def _kernel() -> AsyncIterator[AsyncIPRoute]:
    """A netlink socket in the namespace of this thread, with foreign errors translated."""
    try:
        async with AsyncIPRoute() as kernel:
            yield kernel
    except NetlinkError as error:
        if error.code == errno.EPERM:
            problem = "the kernel does not allow to change network interfaces; run as root with CAP_NET_ADMIN"
            raise CannotStart(problem, is_final=True) from error
        raise CannotStart(f"the kernel refused a change of the network: {error}", is_final=False) from error


async def _find(kernel: AsyncIPRoute, name: str) -> Any | None:
    try:
        found = await kernel.link("get", ifname=name)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise
    return found[0]


async def _create_bridge(kernel: AsyncIPRoute, name: str) -> None:
    try:
        await kernel.link("add", ifname=name, kind="bridge", address=_random_mac())
    except NetlinkError as error:
        # somebody else (a plugin) was faster: fine
        if error.code != errno.EEXIST:
            raise


async def _ensure_up(kernel: AsyncIPRoute, link: Any) -> None:
    if not link["flags"] & _IFF_UP:
        await kernel.link("set", index=link["index"], state="up")


async def _add_address(
    kernel: AsyncIPRoute, index: int, address: IPv4Address, length: int, scope: int
) -> bool:
    try:
        await kernel.addr("add", index=index, address=str(address), prefixlen=length, scope=scope)
    except NetlinkError as error:
        if error.code == errno.EEXIST:
            return False
        raise
    return True


async def _delete_address(kernel: AsyncIPRoute, index: int, address: IPv4Address, length: int) -> bool:
    try:
        await kernel.addr("del", index=index, address=str(address), prefixlen=length)
    except NetlinkError as error:
        if error.code == errno.EADDRNOTAVAIL:
            return False
        raise
    return True


async def _has_ports(kernel: AsyncIPRoute, bridge: Any) -> bool:
    index = bridge["index"]
    return any([link.get("master") == index async for link in await kernel.get_links()])


def _kind(link: Any) -> str | None:
    kind: str | None = link.get(("linkinfo", "kind"))
    return kind


def _random_mac() -> str:
    # A bridge without a MAC of its own takes its ports' lowest and changes it as they come and go. The first
    # octet says: chosen locally, for one station.
    first, *rest = secrets.token_bytes(6)
    return ":".join(f"{octet:02x}" for octet in ((first | 2) & 0xFE, *rest))
