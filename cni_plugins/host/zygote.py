"""The host's loop: reads requests, forks a child for each, passes its replies on, and keeps the deadlines."""

from __future__ import annotations

import gc
import posix
import select
import time

from cni_plugins.host import child
from cni_plugins.host.protocol import LARGEST_REQUEST, BadRequest, Request, format_response, parse_request
from cni_plugins.skeleton import signals

_CHUNK = 1 << 16
_GRACE_S = 2.0  # after SIGTERM, for undoing a half-done ADD; then SIGKILL


class Running:
    """A child at work. Once `is_told` the request is answered, but it may still sleep in the kernel."""

    def __init__(self, request: Request, pid: int, replies: int) -> None:
        self.request = request
        self.pid = pid
        self.replies = replies
        self.received = b""
        self.deadline = time.monotonic() + request.deadline_s
        self.is_overdue = False
        self.is_told = False


class Zygote:
    """Serves one connected stream socket until its end; `agent` is its descriptor."""

    def __init__(self, agent: int) -> None:
        self._agent = agent
        self._received = b""
        self._outgoing = b""
        self._running: dict[int, Running] = {}
        self._is_open = True
        self._is_stopping = False
        posix.set_blocking(agent, False)
        self._wake, self._wake_end = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)

    def serve(self) -> None:
        """Return when the agent has closed its end, or SIGTERM came, and no child is left."""
        signals.signal(signals.SIGTERM, self._stop)
        signals.set_wakeup_fd(self._wake_end, warn_on_full_buffer=False)
        gc.collect()
        gc.freeze()  # the children shall not copy the pages of what never changes
        while self._running or (self._is_open and not self._is_stopping):
            for descriptor in self._wait():
                if descriptor == self._agent:
                    self._exchange()
                elif descriptor == self._wake:
                    posix.read(self._wake, _CHUNK)
                else:
                    self._hear(self._running[descriptor])
            self._keep_deadlines()
        self._flush_before_the_end()

    def _stop(self, _number: int, _frame: object) -> None:
        self._is_stopping = True
        for running in self._running.values():
            running.deadline = min(running.deadline, time.monotonic())

    def _wait(self) -> list[int]:
        poll = select.poll()
        if self._is_open:
            reads = 0 if self._is_stopping else select.POLLIN
            poll.register(self._agent, reads | (select.POLLOUT if self._outgoing else 0))
        poll.register(self._wake, select.POLLIN)
        for descriptor in self._running:
            poll.register(descriptor, select.POLLIN)
        pending = [running.deadline for running in self._running.values()]
        timeout_ms = max(0.0, min(pending) - time.monotonic()) * 1000 + 1 if pending else None
        return [descriptor for descriptor, _ in poll.poll(timeout_ms)]

    def _exchange(self) -> None:
        self._send()
        if self._is_stopping:
            return
        try:
            chunk = posix.read(self._agent, _CHUNK)
        except BlockingIOError:
            return
        except ConnectionError:
            chunk = b""
        if not chunk:
            self._is_open = False
            return
        *lines, self._received = (self._received + chunk).split(b"\n")
        if len(self._received) > LARGEST_REQUEST:
            self._is_open = False  # no request of ours is that long: the other side has lost its mind
            return
        for line in lines:
            if line.strip():
                self._begin(line)

    def _begin(self, line: bytes) -> None:
        try:
            request = parse_request(line)
            self._fork(request)
        except BadRequest as error:
            self._answer(format_response(error.id, [], timed_out=False, error=str(error)))
        except OSError as error:  # no process, no descriptors: the agent may try again or execute the plugins
            self._answer(
                format_response(request.id, [], timed_out=False, error=f"cannot fork: {error.strerror}")
            )

    def _fork(self, request: Request) -> None:
        replies, replies_end = posix.pipe2(posix.O_CLOEXEC)
        try:
            pid = posix.fork()
        except OSError:
            posix.close(replies)
            posix.close(replies_end)
            raise
        if pid == 0:
            self._become_child(request, replies, replies_end)
        posix.close(replies_end)
        self._running[replies] = Running(request, pid, replies)

    def _become_child(self, request: Request, replies: int, replies_end: int) -> None:
        signals.set_wakeup_fd(-1)
        signals.signal(signals.SIGTERM, signals.SIG_DFL)
        nothing = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        posix.dup2(nothing, self._agent)  # the agent's socket is the host's alone, and so are the other pipes
        for descriptor in (nothing, replies, self._wake, self._wake_end, *self._running):
            posix.close(descriptor)
        child.carry_out(request, replies_end)

    def _hear(self, running: Running) -> None:
        chunk = posix.read(running.replies, _CHUNK)
        running.received += chunk
        if not running.is_told and running.received.endswith(child.END.encode()):
            self._tell(running)
        if not chunk:
            del self._running[running.replies]
            posix.close(running.replies)
            _, status = posix.waitpid(running.pid, 0)
            if not running.is_told:
                self._tell(running, posix.waitstatus_to_exitcode(status))

    def _tell(self, running: Running, exit_status: int = 0) -> None:
        """Answer the request with what its child has said; a death in the middle is an answer too."""
        running.is_told = True
        *lines, rest = running.received.decode().split("\n")
        replies = [line for line in lines if line and line != child.END.strip()]
        died = child.END.strip() not in lines and not running.is_overdue
        if died and len(replies) < len(running.request.calls):
            replies.append(child.format_crash(exit_status, rest))
        self._answer(format_response(running.request.id, replies, timed_out=running.is_overdue))

    def _keep_deadlines(self) -> None:
        now = time.monotonic()
        for running in self._running.values():
            if running.is_told or now < running.deadline:
                continue
            _kill_group(running.pid, signals.SIGKILL if running.is_overdue else signals.SIGTERM)
            running.is_overdue = True
            running.deadline = now + _GRACE_S

    def _answer(self, line: bytes) -> None:
        self._outgoing += line
        self._send()

    def _send(self) -> None:
        try:
            while self._outgoing:
                self._outgoing = self._outgoing[posix.write(self._agent, self._outgoing) :]
        except BlockingIOError:
            return  # poll tells when there is room again
        except (BrokenPipeError, ConnectionError):
            self._outgoing = b""
            self._is_open = False

    def _flush_before_the_end(self) -> None:
        posix.set_blocking(self._agent, True)
        self._send()


def _kill_group(pid: int, number: int) -> None:
    try:
        posix.killpg(pid, number)
    except ProcessLookupError:
        try:
            posix.kill(pid, number)  # it has not made its group yet
        except ProcessLookupError:
            return  # it has just ended; the pipe will tell
