"""Keeps sockets in systemd's file descriptor store, which hands them to the next process of the unit.

The store belongs to the unit (``FileDescriptorStoreMax=``). systemd empties it when the unit is stopped for
good or has failed, and keeps it over a restart. What is stored comes back as ``LISTEN_FDS``
(sd_listen_fds(3)).
"""

import os
import socket
from collections.abc import Mapping, Sequence

import structlog

from agent.adapters.host.notify import Notifier

log = structlog.get_logger()


class DescriptorStore:
    """Implements ``SocketKeeper``. ``received``: names and descriptors that this process was started with.

    The notifier never waits and systemd never answers, so nothing here says whether the unit has a store.
    """

    def __init__(self, notifier: Notifier, received: Sequence[tuple[str, int]]) -> None:
        self._notifier = notifier
        self._received = tuple(received)
        self._stored: dict[str, int] = {}

    async def recover(self) -> Mapping[str, socket.socket]:
        """What systemd handed over. A name that comes twice is stored anew when it is kept."""
        received, self._received = self._received, ()
        found: dict[str, socket.socket] = {}
        for name, descriptor in received:
            recovered = _as_socket(name, descriptor)
            if recovered is None:
                self._remove(name)
                continue
            earlier = found.pop(name, None)
            if earlier is None:
                self._stored[name] = _identity(recovered)
            else:
                earlier.close()
                del self._stored[name]
                self._remove(name)
            found[name] = recovered
        return found

    async def keep(self, name: str, listening: socket.socket) -> None:
        """Store it, unless it came from the store."""
        identity = _identity(listening)
        if self._stored.get(name) == identity:
            return
        if name in self._stored:
            self._remove(name)
        self._notifier.send(f"FDSTORE=1\nFDNAME={name}", [listening.fileno()])
        self._stored[name] = identity

    async def forget(self, name: str) -> bool:
        """Take it out of the store. systemd does so in its own time."""
        self._stored.pop(name, None)
        self._remove(name)
        return True

    async def run(self) -> None:
        """Say so, and end at once: the store needs nobody to look after it."""
        log.info("keeper.chosen", kind="systemd")

    def _remove(self, name: str) -> None:
        self._notifier.send(f"FDSTOREREMOVE=1\nFDNAME={name}")


def let_go(notifier: Notifier, received: Sequence[tuple[str, int]]) -> None:
    """Close what was handed over and nobody wants, here and in the store: it would be in the way."""
    for name, descriptor in received:
        notifier.send(f"FDSTOREREMOVE=1\nFDNAME={name}")
        try:
            os.close(descriptor)
        except OSError as error:
            log.warning("descriptor.dropped", name=name, reason=str(error.strerror))


def _as_socket(name: str, descriptor: int) -> socket.socket | None:
    try:
        os.set_inheritable(descriptor, False)
        recovered = socket.socket(fileno=descriptor)
    except OSError as error:
        log.warning("descriptor.dropped", name=name, reason=f"it is no socket: {error.strerror}")
        return None
    recovered.setblocking(False)
    return recovered


def _identity(listening: socket.socket) -> int:
    return os.fstat(listening.fileno()).st_ino
