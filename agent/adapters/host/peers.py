"""Who is at the other end of a Unix socket, as the kernel knows it (unix(7), SO_PEERCRED)."""

import socket
import struct
from dataclasses import dataclass

_CREDENTIALS = struct.Struct("=iII")


@dataclass(frozen=True, slots=True)
class Peer:
    """A process and its user when it connected or, of a listener, when it began to listen.

    ``process`` as our own PID namespace numbers it; 0: it is outside of it.
    """

    process: int
    user: int


def peer_of(connected: socket.socket) -> Peer:
    """Whoever is at the other end of a connected socket. Raise ``OSError``."""
    answer = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(answer)
    return Peer(process, user)
