"""How Docker's socket is reached, also once Docker has made it anew beside a container that mounts it."""

import os
import socket

from agent.adapters.docker.settings import MACHINE


def connect(sock: socket.socket, path: str) -> None:
    """Connect to the daemon. Raise ``OSError``, as ``socket.connect``.

    A daemon that makes its socket anew leaves a container with the old one, where nobody listens: a mount of
    a file is one of that very file. The new socket is seen through the root of the machine, which a container
    in its PID namespace has in sight.
    """
    try:
        sock.connect(path)
    except ConnectionRefusedError:
        if not _is_deleted(path):
            raise
        # without links, which would lead back into the container
        sock.connect(f"{MACHINE}{os.path.realpath(path)}")


def _is_deleted(path: str) -> bool:
    try:
        return os.stat(path).st_nlink == 0  # noqa: PTH116 - no other part of it is needed
    except OSError:
        return False
