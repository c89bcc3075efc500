"""A stand-in for systemd: the rules of ``deploy/berth.service`` for notification, watchdog and restart.

It is no systemd. It does what systemd.service(5) says of Type=notify, NotifyAccess=main, WatchdogSec,
Restart=on-failure and RestartPreventExitStatus, with shorter times.
"""

import os
import signal
import socket
import struct
import threading
import time
from dataclasses import dataclass

from tests.e2e.agent_process import Agent

FINAL = 5
"""RestartPreventExitStatus of the unit; tests/deploy/test_units.py compares that with the agent."""

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: unix(7)


@dataclass(frozen=True, slots=True)
class Message:
    """What the main process has said. ``at``: monotonic seconds."""

    at: float
    pid: int
    lines: tuple[str, ...]


class StandInSupervisor:
    """Starts the agent and keeps it running. ``watchdog``, ``restart_after``: seconds. A context manager."""

    def __init__(self, address: str, *, watchdog: float, restart_after: float = 0.3) -> None:
        self.environ = {
            "NOTIFY_SOCKET": f"@{address}",
            "WATCHDOG_USEC": str(int(watchdog * 1_000_000)),
        }
        self.messages: list[Message] = []
        self.strangers: list[Message] = []
        self.exit_codes: list[int] = []
        self.watchdog_kills = 0
        self._watchdog = watchdog
        self._restart_after = restart_after
        self._agent: Agent | None = None
        self._ended = threading.Event()
        self._is_stopping = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address}")
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.settimeout(0.05)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self, agent: Agent) -> None:
        """Start the agent, and again whenever the rules say so, until ``stop``."""
        self._agent = agent
        agent.launch()
        self._thread.start()

    def stop(self) -> int:
        """``systemctl stop``: SIGTERM, no restart; the exit code."""
        assert self._agent is not None
        self._is_stopping = True
        if self._agent.is_running:
            os.kill(self._agent.pid, signal.SIGTERM)
        self._thread.join(30)
        return self.exit_codes[-1]

    def close(self) -> None:
        """Supervise no more. The agent is the caller's to end."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(10)
        self._socket.close()

    def said(self, line: str) -> list[Message]:
        """The messages with that line."""
        return [each for each in tuple(self.messages) if line in each.lines]

    @property
    def status(self) -> str:
        """What ``systemctl status`` would show."""
        lines = [line for each in tuple(self.messages) for line in each.lines if line.startswith("STATUS=")]
        return lines[-1].removeprefix("STATUS=") if lines else ""

    def _run(self) -> None:
        assert self._agent is not None
        assert self._agent.process is not None
        alive_at: float | None = None
        while not self._ended.is_set():
            for message in self._received():
                if message.pid != self._agent.pid:
                    self.strangers.append(message)
                    continue
                self.messages.append(message)
                if {"READY=1", "WATCHDOG=1"} & set(message.lines):
                    alive_at = message.at if alive_at is not None or "READY=1" in message.lines else None
            code = self._agent.process.poll()
            if code is not None:
                self.exit_codes.append(code)
                if self._is_stopping or code in (0, FINAL):
                    return
                alive_at = None
                time.sleep(self._restart_after)
                self._agent.launch()
            elif alive_at is not None and time.monotonic() - alive_at > self._watchdog:
                self.watchdog_kills += 1
                alive_at = None
                # as systemd does: the signal, and a process that is stopped is woken to get it
                os.kill(self._agent.pid, signal.SIGABRT)
                os.kill(self._agent.pid, signal.SIGCONT)

    def _received(self) -> list[Message]:
        found = []
        while not self._ended.is_set():
            try:
                content, ancillary, _, _ = self._socket.recvmsg(
                    4096, socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(256 * 4)
                )
            except TimeoutError:
                break
            pid = 0
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    pid = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0]
                elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    for (descriptor,) in struct.iter_unpack("i", data[: len(data) // 4 * 4]):
                        os.close(descriptor)
            found.append(Message(time.monotonic(), pid, tuple(content.decode().split("\n"))))
        return found
