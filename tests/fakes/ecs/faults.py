"""What can be done to the next requests of an operation instead of a good answer, or besides it."""

import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

ANY = "*"
"""Every operation of the API; handshakes (``acs``, ``tcs``) are named each."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to answer badly.

    ``code``: an error of the service; the one who answers renders it. Else ``status``, ``headers`` and ``body``
    are sent as they are. ``garbage``: these bytes instead of HTTP. ``is_hang_up``: the connection is closed
    without an answer. ``is_late``: the request takes effect first. ``delay_s``: waits before anything else; a
    fault with nothing but a delay is answered well after it.
    """

    name: str
    code: str | None = None
    message: str = "injected"
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    garbage: bytes | None = None
    is_hang_up: bool = False
    is_late: bool = False
    delay_s: float = 0.0

    @property
    def only_delays(self) -> bool:
        """Whether the request is answered well in the end."""
        return self.code is None and self.status is None and self.garbage is None and not self.is_hang_up

    def after(self, seconds: float) -> "Fault":
        """The same, late."""
        return replace(self, delay_s=seconds)


def refused(code: str, message: str = "injected", status: int = 400) -> Fault:
    """An error shape of the service."""
    return Fault(code, code=code, message=message, status=status)


def throttled() -> Fault:
    """As when there are too many requests (HTTP 400, as ECS does)."""
    return refused("ThrottlingException", "Rate exceeded")


def server_error(status: int = 500) -> Fault:
    """``ServerException`` with that status."""
    return refused("ServerException", "Service Unavailable", status)


def bare(status: int, text: str = "") -> Fault:
    """Only a status and text, as load balancers answer."""
    return Fault(f"bare {status}", status=status, body=text.encode(), headers={"Content-Type": "text/plain"})


def html(status: int = 502) -> Fault:
    """A page for people, as proxies answer."""
    page = b"<html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"
    return Fault("html", status=status, body=page, headers={"Content-Type": "text/html"})


def redirect(to: str, status: int = 302) -> Fault:
    """Send the client elsewhere, as captive portals do."""
    return Fault("redirect", status=status, headers={"Location": to})


def not_json(status: int = 200) -> Fault:
    """Text that only begins as JSON does."""
    return Fault("not json", status=status, body=b'{"broken": ', headers=_JSON)


def answered(document: object, status: int = 200) -> Fault:
    """That document, whatever the operation should answer."""
    return Fault("answered", status=status, body=json.dumps(document).encode(), headers=_JSON)


def garbage(data: bytes = b"\x16\x03\x01 this is no HTTP\r\n\r\n") -> Fault:
    """Bytes that are not HTTP, then the end of the connection."""
    return Fault("garbage", garbage=data)


def hang_up() -> Fault:
    """The connection ends without an answer; the request had no effect."""
    return Fault("hang up", is_hang_up=True)


def lost_answer() -> Fault:
    """The request has its effect, but the connection ends before the answer."""
    return Fault("lost answer", is_hang_up=True, is_late=True)


def slow(seconds: float) -> Fault:
    """A good answer, late."""
    return Fault("slow", delay_s=seconds)


class Faults:
    """Which requests are treated badly. Safe from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._planned: dict[str, deque[tuple[Fault, int | None]]] = {}

    def plan(self, target: str, fault: Fault, times: int | None = 1) -> None:
        """The next ``times`` requests of that operation (None: all, until ``heal``), after those planned before.

        ``target``: an operation, ``ANY``, or the handshakes ``acs`` and ``tcs``.
        """
        if times is not None and times < 1:
            raise ValueError(f"times {times}: expected at least 1, or None for all")
        with self._lock:
            self._planned.setdefault(target, deque()).append((fault, times))

    def heal(self, target: str | None = None) -> None:
        """Forget what was planned for that target, or everything."""
        with self._lock:
            if target is None:
                self._planned.clear()
            else:
                self._planned.pop(target, None)

    def left(self, target: str) -> int | None:
        """How many more requests of the target are treated badly; None: all of them."""
        with self._lock:
            times = [each for _, each in self._planned.get(target, ())]
        return None if None in times else sum(each for each in times if each is not None)

    def take(self, *targets: str) -> Fault | None:
        """The fault for a request that came now; None to answer it well. The first target with one counts."""
        with self._lock:
            for target in targets:
                planned = self._planned.get(target)
                if not planned:
                    continue
                fault, times = planned.popleft()
                if times is None:
                    planned.appendleft((fault, None))
                elif times > 1:
                    planned.appendleft((fault, times - 1))
                return fault
        return None


_JSON: Mapping[str, str] = {"Content-Type": "application/x-amz-json-1.1"}
