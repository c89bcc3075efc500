"""A door between the agent and the Docker daemon that a test can jam or take away, the daemon itself untouched."""

import contextlib
import socket
import threading
from pathlib import Path

REAL = "/var/run/docker.sock"


class DockerBetween:
    """Listens on a socket of its own and passes everything on, while it is told to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._flows = threading.Event()
        self._flows.set()
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()

    @property
    def host(self) -> str:
        """The value of DOCKER_HOST."""
        return f"unix://{self.path}"

    def open(self) -> None:
        """Docker is there (again)."""
        self._flows.set()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.path))
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def hang(self) -> None:
        """Docker takes requests and says nothing."""
        self._flows.clear()

    def flow(self) -> None:
        """Docker has come to itself; what it was asked meanwhile it answers now."""
        self._flows.set()

    def close(self) -> None:
        """Docker has died: nothing listens, and every connection is broken off."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # only a shutdown wakes the thread that waits in accept
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            self.path.unlink(missing_ok=True)
        with self._lock:
            connections, self._connections = self._connections, set()
        for each in connections:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._flows.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            far.connect(REAL)
            with self._lock:
                self._connections |= {near, far}
            threading.Thread(target=self._serve, args=(near, far), daemon=True).start()

    def _serve(self, near: socket.socket, far: socket.socket) -> None:
        back = threading.Thread(target=self._pass_on, args=(far, near), daemon=True)
        back.start()
        self._pass_on(near, far)
        back.join()
        with self._lock:
            self._connections -= {near, far}
        near.close()
        far.close()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while piece := source.recv(65536):
                self._flows.wait()
                target.sendall(piece)
        except OSError:
            pass  # broken off on either side: both ends are told below
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
