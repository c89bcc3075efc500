"""Connections into tasks that are used all the time, so that a gap in the network is noticed."""

import socket
import threading
from dataclasses import dataclass, field

from tests.e2e.task_definitions import a_definition, a_job

ECHO = a_definition("echo", a_job("app", "trap 'exit 0' TERM; nc -ll -p 7000 -e cat & wait"))


@dataclass
class Stream:
    """A TCP connection into a task that is used all the time."""

    address: str
    echoes: int = 0
    problem: str = ""
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self, connection: socket.socket | None = None) -> None:
        """Use that connection to port 7000, or one from this machine."""
        connection = connection or socket.create_connection((self.address, 7000), timeout=5)
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
