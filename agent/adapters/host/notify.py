"""Tells the supervisor of this process what it is doing (sd_notify(3)): ready, stopping, alive, a status.

It is a datagram with lines ``NAME=value`` to the socket that ``NOTIFY_SOCKET`` names. Nothing is ever
answered, and nothing that goes wrong here may end the agent: tasks run as well without a supervisor that
knows of them.
"""

import socket
from array import array
from collections.abc import Sequence

import structlog

from agent.ports.health import HealthReports

log = structlog.get_logger()

COMPONENT = "supervisor notification"
"""The name under which ``/health`` says that the supervisor cannot be told."""

LONGEST_MESSAGE = 4096
"""Bytes. systemd drops a longer message as a whole (NOTIFY_BUFFER_MAX of systemd 252)."""

MOST_DESCRIPTORS = 253
"""With one message: SCM_MAX_FD of the kernel."""

READY, STOPPING, ALIVE = "READY=1", "STOPPING=1", "WATCHDOG=1"

_LONGEST_STATUS = 1024


class Notifier:
    """Sends to one socket and never waits. ``address`` None: nobody wants to know, ``send`` does nothing.

    ``address`` as in ``NOTIFY_SOCKET``: an absolute path, or ``@name`` for a name in the abstract namespace.
    """

    def __init__(self, address: str | None, health: HealthReports) -> None:
        self._address = address
        self._health = health
        self._problem: str | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether somebody asked to be told."""
        return self._address is not None

    def send(self, message: str, descriptors: Sequence[int] = ()) -> None:
        """Send lines ``NAME=value``, with open descriptors (for ``FDSTORE=1``) if there are any.

        Never raises for what the supervisor or the kernel does: a failure is said once in log and health, and
        taken back when a message gets through. Raise ``ValueError`` for a message that no supervisor takes.
        """
        content = message.encode()
        if not content or len(content) > LONGEST_MESSAGE:
            raise ValueError(f"message has {len(content)} bytes; expected 1 to {LONGEST_MESSAGE}")
        if len(descriptors) > MOST_DESCRIPTORS:
            raise ValueError(f"{len(descriptors)} descriptors; expected at most {MOST_DESCRIPTORS}")
        if self._address is None:
            return
        try:
            _send(_kernel_address(self._address), content, descriptors)
        except (OSError, ValueError) as error:
            self._judge(f"the supervisor at NOTIFY_SOCKET={self._address} cannot be told anything: {error}")
        else:
            self._judge(None)

    def _judge(self, problem: str | None) -> None:
        if problem == self._problem:
            return
        if problem is not None and self._problem is None:
            log.warning("supervisor.missed", address=self._address, reason=problem)
        elif problem is None:
            log.info("supervisor.reached", address=self._address)
        self._problem = problem
        self._health.report(COMPONENT, problem)


def status(text: str) -> str:
    """The line that ``systemctl status`` shows. One line, whatever the text is, and not too long."""
    line = " ".join(text.split())
    if len(line.encode()) > _LONGEST_STATUS:
        line = line.encode()[: _LONGEST_STATUS - 3].decode(errors="ignore") + "…"
    return f"STATUS={line}"


def extend_timeout(seconds: float) -> str:
    """Ask for so much time from now until the next step of starting or stopping is told."""
    return f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}"


def _kernel_address(address: str) -> str:
    """Raise ``ValueError``."""
    if address.startswith("@") and len(address) > 1:
        return "\0" + address[1:]
    if address.startswith("/"):
        return address
    raise ValueError("expected an absolute path or @name")


def _send(address: str, content: bytes, descriptors: Sequence[int]) -> None:
    # A new socket each time: the supervisor may have made its own anew since, and it is seldom.
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as end:
        end.sendmsg([content], ancillary, 0, address)
