"""Talks to ``ecs-plugin-host``, the warm process that runs chains of plugins without starting Python anew.

One JSON object per line in each direction over a socket that is the host's fd 0; answers carry the request's
number and may come in any order. The host is an optimisation: whoever uses it must be able to do without.
"""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from agent.adapters.cni.invoke import SYSTEM_PATH
from agent.adapters.cni.replies import PluginReply

log = structlog.get_logger()

HOST = "ecs-plugin-host"

_LONGEST_LINE = 8 * 1024 * 1024
_SLACK_S = 3.0
"""How much later than the deadline the host's answer may come, since it lets a plugin undo what it began."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_STEADY_S = 60.0
"""A host that lived so long starts the pauses anew when it dies."""

_GOODBYE_S = 2.0
_KEPT_COMPLAINT = 2048


class HostLost(Exception):
    """There is no host, or it went away: nothing is known about the outcome. Run the plugins without it."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of one plugin: executable name, complete environment, configuration as a JSON object."""

    plugin: str
    environment: dict[str, str]
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class HostAnswer:
    """The replies in the order of the calls; fewer after a failure, the deadline, or a refusal."""

    replies: tuple[PluginReply, ...]
    has_timed_out: bool


class PluginHost:
    """Client of one host process, started when first needed and started again, with pauses, when it dies.

    Requests run side by side. A request whose caller was cancelled goes on in the host until its deadline;
    ``settle`` waits for such leftovers, so that two calls never work on one sandbox at once.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / HOST
        self._link: _Link | None = None
        self._starting = asyncio.Lock()
        self._number = 0
        self._failures = 0
        self._not_before = 0.0
        self._started_at = 0.0
        self._abandoned: dict[str, asyncio.Future[HostAnswer]] = {}
        self._is_absence_told = False

    async def start(self) -> None:
        """Start the host if it is there and may be started now. Never raises: absence is no error."""
        try:
            await self._connected()
        except HostLost:
            return

    async def run(
        self, invocations: Sequence[Invocation], *, stops_on_error: bool, subject: str, limit_s: float
    ) -> HostAnswer:
        """Run the calls in order; ``subject`` is what they work on. Raise ``HostLost``."""
        link = await self._connected()
        self._number += 1
        request = {
            "id": self._number,
            "deadline_ms": max(int(limit_s * 1000), 1),
            "stop_on_error": stops_on_error,
            "calls": [
                {"type": one.plugin, "env": one.environment, "config": one.config} for one in invocations
            ],
        }
        answer = link.ask(self._number, request, len(invocations))
        try:
            async with asyncio.timeout(limit_s + _SLACK_S):
                return await asyncio.shield(answer)
        except TimeoutError:
            link.drop(f"no answer within {limit_s:g} s and {_SLACK_S:g} s more")
            raise HostLost("the plugin host hangs") from None
        except asyncio.CancelledError:
            if not answer.done():
                self._abandoned[subject] = answer
                answer.add_done_callback(lambda done: self._settled(subject, done))
            raise

    async def settle(self, subject: str, limit_s: float) -> None:
        """Wait until nothing that was cancelled works on the subject; drop the host if that lasts."""
        answer = self._abandoned.get(subject)
        if answer is None:
            return
        _, waiting = await asyncio.wait((answer,), timeout=limit_s)
        if waiting and self._link is not None:
            self._link.drop("a call that was given up does not end")

    async def aclose(self) -> None:
        """Let the host end, or kill it with all that it runs."""
        link, self._link = self._link, None
        if link is not None:
            await link.aclose()

    async def _connected(self) -> "_Link":
        async with self._starting:
            if self._link is not None and not self._link.is_lost:
                return self._link
            loop = asyncio.get_running_loop()
            if self._link is not None:
                await self._link.aclose()
                self._link = None
                lived = loop.time() - self._started_at
                self._failures = 0 if lived >= _STEADY_S else self._failures
                self._pause()
            if loop.time() < self._not_before:
                raise HostLost("the plugin host has died and is started again later")
            self._link = await self._launched()
            self._started_at = loop.time()
            return self._link

    async def _launched(self) -> "_Link":
        if not os.access(self._path, os.X_OK):
            if not self._is_absence_told:
                self._is_absence_told = True
                log.info(
                    "plugin_host.missed", path=str(self._path), meaning="each plugin is run as a process"
                )
            raise HostLost(f"there is no plugin host at {self._path}")
        try:
            return await _Link.open(self._path)
        except OSError as error:
            log.warning("plugin_host.refused", path=str(self._path), cause=str(error))
            self._pause()
            raise HostLost(f"cannot start {self._path}: {error.strerror}") from error

    def _pause(self) -> None:
        pause = min(_FIRST_PAUSE_S * 2**self._failures, _LONGEST_PAUSE_S)
        self._failures = min(self._failures + 1, 16)
        self._not_before = asyncio.get_running_loop().time() + pause

    def _settled(self, subject: str, answer: asyncio.Future[HostAnswer]) -> None:
        if self._abandoned.get(subject) is answer:
            del self._abandoned[subject]


class _Process(asyncio.SubprocessProtocol):
    """The host's process: when it ends, and its last words."""

    def __init__(self) -> None:
        self.exited = asyncio.Event()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.complaint = bytearray()
        self.when_exited: Callable[[], None] | None = None

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002 -- only stderr is a pipe
        self.complaint += data
        del self.complaint[:-_KEPT_COMPLAINT]

    def process_exited(self) -> None:
        self.exited.set()
        if self.when_exited is not None:
            self.when_exited()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- a broken pipe is an end
        if not self.closed.done():
            self.closed.set_result(None)


class _Link(asyncio.Protocol):
    """The socket to one host process, and the requests that wait for an answer."""

    def __init__(self, transport: asyncio.SubprocessTransport, process: _Process) -> None:
        self.is_lost = False
        self._transport = transport
        self._process = process
        self._socket: asyncio.Transport | None = None
        self._received = bytearray()
        self._waiting: dict[int, tuple[asyncio.Future[HostAnswer], int]] = {}
        # The socket's end does not tell, if the host left a child behind that holds it open.
        process.when_exited = self._lose_soon
        if process.exited.is_set():
            self._lose_soon()

    @classmethod
    async def open(cls, path: Path) -> "_Link":
        """Start the host and connect. Raise ``OSError``."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                transport, process = await loop.subprocess_exec(
                    _Process,
                    str(path),
                    stdin=theirs.fileno(),
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    env={"PATH": SYSTEM_PATH},
                    cwd="/",
                    start_new_session=True,  # its children have process groups of their own; see _kill
                )
            ours.setblocking(False)
            _, link = await loop.create_connection(lambda: cls(transport, process), sock=ours)
        except BaseException:
            ours.close()
            raise
        return link

    def ask(self, number: int, request: dict[str, Any], calls: int) -> asyncio.Future[HostAnswer]:
        """Send a request; the future ends with its answer, or with ``HostLost``."""
        answer: asyncio.Future[HostAnswer] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_retrieve)
        self._waiting[number] = (answer, calls)
        if self._socket is not None:
            self._socket.write(json.dumps(request, separators=(",", ":")).encode() + b"\n")
        return answer

    def drop(self, cause: str) -> None:
        """Give the host up: kill it with all that it runs, and fail every request. Once."""
        if self.is_lost:
            return
        self.is_lost = True
        complaint = self._process.complaint.decode("utf-8", "replace").strip()
        log.warning("plugin_host.lost", cause=cause, stderr=complaint, requests=len(self._waiting))
        self._kill()
        if self._socket is not None:
            self._socket.abort()
        self._fail_all(cause)

    async def aclose(self) -> None:
        """Close the socket, which tells the host to end; kill it if it does not."""
        self.is_lost = True
        if self._socket is not None:
            self._socket.abort()
        self._fail_all("the agent stops")
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self._process.exited.wait()
        except TimeoutError:
            log.warning("plugin_host.killed", cause="it did not end by itself", limit_s=_GOODBYE_S)
        finally:
            self._kill()
            self._transport.close()
            await asyncio.wait((self._process.closed,), timeout=_GOODBYE_S)

    # -- called by the loop --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- for the type checker
        self._socket = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\n")) >= 0:
            line = bytes(self._received[:end])
            del self._received[: end + 1]
            problem = self._take(line)
            if problem is not None:
                self.drop(f"{problem}: {line[:200].decode('utf-8', 'replace')!r}")
                return
        if len(self._received) > _LONGEST_LINE:
            self.drop(f"an answer is longer than {_LONGEST_LINE} bytes")

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose_soon("it closed the connection" if exc is None else str(exc))

    def _lose_soon(self, cause: str = "it ended") -> None:
        # Soon, not now: what the host wrote to stderr before its end may be read after the end of its socket.
        asyncio.get_running_loop().call_soon(self.drop, cause)

    # -- the protocol --------------------------------------------------------------------------

    def _take(self, line: bytes) -> str | None:
        """Hand an answer to whoever waits for it; what is wrong with it, if anything."""
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            return "an answer is not JSON"
        if not isinstance(document, dict) or document.get("id") not in self._waiting:
            return "an answer is to no request"
        answer, calls = self._waiting.pop(document["id"])
        if document.get("error"):
            log.warning("plugin_host.refused", cause=str(document["error"]))
        read = _read_answer(document, calls)
        if read is None:
            answer.set_exception(HostLost("the plugin host's answer cannot be read"))
            return "an answer has not the agreed form"
        if not answer.done():
            answer.set_result(read)
        return None

    def _fail_all(self, cause: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for answer, _ in waiting.values():
            if not answer.done():
                answer.set_exception(HostLost(f"the plugin host was lost: {cause}"))

    def _kill(self) -> None:
        """Kill the host and all it has started: they share a session, also after the host's own death."""
        session = self._transport.get_pid()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and _session(entry) == session:
                try:
                    os.kill(int(entry.name), signal.SIGKILL)
                except ProcessLookupError:
                    continue


def _retrieve(answer: asyncio.Future[HostAnswer]) -> None:
    """Keep asyncio from complaining of an error for which nobody waits any more."""
    if not answer.cancelled():
        answer.exception()


def _session(process: Path) -> int | None:
    try:
        stat = (process / "stat").read_bytes()
    except OSError:
        return None  # it has just ended
    return int(stat.rpartition(b")")[2].split()[3])


def _read_answer(document: dict[str, Any], calls: int) -> HostAnswer | None:
    listed, has_timed_out = document.get("replies"), document.get("timed_out", False)
    if not isinstance(listed, list) or type(has_timed_out) is not bool or len(listed) > calls:
        return None
    replies = []
    for entry in listed:
        if not isinstance(entry, dict):
            return None
        status, stdout, stderr = entry.get("exit"), entry.get("stdout", ""), entry.get("stderr", "")
        if type(status) is not int or not isinstance(stdout, str) or not isinstance(stderr, str):
            return None
        replies.append(PluginReply(status, stdout, stderr))
    return HostAnswer(tuple(replies), has_timed_out)
