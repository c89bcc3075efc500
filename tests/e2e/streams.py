"""Connections into tasks that are used all the time, so that a gap in the network is noticed."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.e2e.agent_process import eventually
from tests.e2e.task_definitions import a_definition, a_job

PORT = 7000
ECHOES = f"trap 'exit 0' TERM; nc -ll -p {PORT} -e cat & wait"
"""What a container runs that sends back on that port whatever it is sent."""

ECHO = a_definition("echo", a_job("app", ECHOES))


def connected(address: str, connect: Callable[[], socket.socket] | None = None) -> socket.socket:
    """A connection to such a task, made so or from this machine.

    A container runs when its process does, which may be before its program listens.
    """

    def taken() -> socket.socket | None:
        try:
            return connect() if connect else socket.create_connection((address, PORT), timeout=5)
        except ConnectionRefusedError:
            return None

    connection: socket.socket = eventually(f"{address} listens", taken)
    return connection


@dataclass
class Stream:
    """A TCP connection into a task that is used all the time."""

    address: str
    echoes: int = 0
    problem: str = ""
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self, connect: Callable[[], socket.socket] | None = None) -> None:
        """Use a connection that is made so, or one from this machine."""
        connection = connected(self.address, connect)
        self._thread = threading.Thread(target=self._use, args=(connection,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(10)

    def _use(self, connection: socket.socket) -> None:
        with connection:
            try:
                while not self._ended.wait(0.05):
                    sent = b"%08d" % self.echoes
                    connection.sendall(sent)
                    received = b""
                    while len(received) < len(sent):
                        piece = connection.recv(len(sent) - len(received))
                        if not piece:
                            raise ConnectionError("closed")
                        received += piece
                    assert received == sent
                    self.echoes += 1
            except (OSError, AssertionError) as error:
                self.problem = repr(error)
