"""What stays open while the agent is away: listening sockets with a name, and how a wrong one is found out.

A listening socket that somebody has open goes on accepting into its queue. Whoever connects while the agent
restarts waits there, instead of being refused, and the next agent serves it.
"""

import errno
import socket
from collections.abc import Mapping
from typing import Protocol

import structlog

log = structlog.get_logger()

SO_BINDTOIFINDEX = 62
"""The number of the interface that a socket is bound to (Linux 5.0)."""


class SocketKeeper(Protocol):
    """Keeps listening sockets open beyond the life of this process. Trouble is for health, never raised."""

    async def recover(self) -> Mapping[str, socket.socket]:
        """What an earlier agent left, by name; the caller closes them. Nothing has been checked."""

    async def keep(self, name: str, listening: socket.socket) -> None:
        """Keep a duplicate of it, instead of an earlier one of that name. The caller's own stays its own."""

    async def forget(self, name: str) -> bool:
        """Let go of it; fine if there is none. False: nobody here ever keeps anything."""

    async def run(self) -> None:
        """See to it that what is to be kept is kept, for ever or as long as that needs anybody."""


class NoKeeper:
    """Keeps nothing: connections are refused while the agent is away."""

    async def recover(self) -> Mapping[str, socket.socket]:
        """Nothing."""
        return {}

    async def keep(self, name: str, listening: socket.socket) -> None:
        """Nobody will have it."""
        del name, listening

    async def forget(self, name: str) -> bool:  # noqa: ARG002 - the protocol's
        """There is none."""
        return False

    async def run(self) -> None:
        """Say so, and end at once: there is nothing to see to."""
        log.info("keeper.chosen", kind="none")


def socket_name(interface: str, address: str, port: int) -> str:
    """The name of the socket of that place. Has no colon, which systemd could not keep."""
    return f"endpoint/{interface}/{address.replace(':', '.')}/{port}"


def problem_of(listening: socket.socket, interface: str, index: int, address: str, port: int) -> str | None:
    """Why a socket from elsewhere must not be used as the one for that place. None: it is that one."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        if (listening.family, listening.type) != (family, socket.SOCK_STREAM):
            return f"it is of family {listening.family} and type {listening.type}, expected a TCP socket"
        if not listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return "it does not listen"
        place = listening.getsockname()[:2]
        if place != (address, port):
            return f"it listens on {place[0]}:{place[1]}, expected {address}:{port}"
        bound_to = _interface_of(listening)
    except OSError as error:
        return f"it cannot be looked at: {error.strerror}"
    if bound_to != index:
        return f"it is bound to interface number {bound_to}, expected {index} ({interface})"
    return None


def _interface_of(listening: socket.socket) -> int:
    """The number of its interface; 0: not bound to one, or the interface is gone."""
    try:
        return listening.getsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
    # An older kernel tells the name only, and ENODEV for an interface that is gone.
    name = listening.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
    return socket.if_nametoindex(name.split(b"\0")[0].decode()) if name.strip(b"\0") else 0
