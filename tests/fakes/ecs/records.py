"""What a stand-in has seen and said, with the time of each, for tests that ask from another thread."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


class NotSeen(AssertionError):
    """What a test waited for did not come. The text tells what came instead."""


@dataclass(slots=True)
class Call:
    """One HTTP request. ``status`` is None until it is answered; ``fault`` names what was done to it."""

    number: int
    at: float
    operation: str
    body: Any
    headers: Mapping[str, str]
    access_key_id: str | None = None
    status: int | None = None
    answer: Any = None
    answered_at: float | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a websocket. ``direction`` as seen by the stand-in: ``in`` or ``out``.

    ``connection`` counts the accepted connections of the channel from 1. ``is_binary`` tells the kind of frame.
    """

    at: float
    channel: str
    direction: str
    type: str
    body: Any
    connection: int
    size: int = 0
    is_binary: bool = False


@dataclass(slots=True)
class Handshake:
    """One request for a websocket, accepted (``connection`` and status 101) or not. ``query`` in sent order."""

    at: float
    channel: str
    path: str
    query: dict[str, str]
    raw_query: str
    headers: Mapping[str, str]
    status: int | None = None
    connection: int | None = None
    closed_at: float | None = None
    close_code: int | None = None
    close_text: str = ""
    fault: str | None = None


@dataclass
class Journal:
    """Everything in order. Safe from every thread; ``lock`` guards the stand-in's other state as well."""

    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._changed = threading.Condition(self.lock)
        self._version = 0
        self._calls: list[Call] = []
        self._messages: list[Message] = []
        self._handshakes: list[Handshake] = []
        self._violations: list[str] = []
        self._refusals: list[str] = []

    # -- what is written -----------------------------------------------------------------------

    def call(self, operation: str, body: Any, headers: Mapping[str, str]) -> Call:
        """Note a request that has just come."""
        with self._changed:
            made = Call(len(self._calls) + 1, time.monotonic(), operation, body, dict(headers))
            self._calls.append(made)
            self.touch()
            return made

    def message(self, message: Message) -> None:
        """Note a message."""
        with self._changed:
            self._messages.append(message)
            self.touch()

    def handshake(self, handshake: Handshake) -> None:
        """Note a request for a websocket."""
        with self._changed:
            self._handshakes.append(handshake)
            self.touch()

    def violation(self, text: str) -> None:
        """Note what the protocol does not allow."""
        with self._changed:
            self._violations.append(text)
            self.touch()

    def refusal(self, text: str) -> None:
        """Note a signature that was not accepted, and why."""
        with self._changed:
            self._refusals.append(text)
            self.touch()

    def touch(self) -> None:
        """Something that tests may wait for has changed."""
        with self._changed:
            self._version += 1
            self._changed.notify_all()

    # -- what is read --------------------------------------------------------------------------

    def calls(self, operation: str | None = None) -> list[Call]:
        """The requests of that operation, or all."""
        with self.lock:
            return [call for call in self._calls if operation in (None, call.operation)]

    def messages(
        self, channel: str | None = None, kind: str | None = None, direction: str | None = None
    ) -> list[Message]:
        """The messages of that channel, type and direction; None means any."""
        with self.lock:
            return [
                each
                for each in self._messages
                if channel in (None, each.channel)
                and kind in (None, each.type)
                and direction in (None, each.direction)
            ]

    def handshakes(self, channel: str | None = None) -> list[Handshake]:
        """The requests for that websocket, or all."""
        with self.lock:
            return [each for each in self._handshakes if channel in (None, each.channel)]

    @property
    def violations(self) -> list[str]:
        """What the protocol does not allow. A test asserts that there is none."""
        with self.lock:
            return list(self._violations)

    @property
    def refusals(self) -> list[str]:
        """Why signatures were refused."""
        with self.lock:
            return list(self._refusals)

    def forget(self) -> None:
        """Empty the journal; violations and refusals too."""
        with self._changed:
            for kept in (self._calls, self._messages, self._handshakes, self._violations, self._refusals):
                kept.clear()
            self.touch()

    def wait_for(self, predicate: Callable[[], T], seconds: float, what: str = "") -> T:
        """The predicate's first true result. Raise ``NotSeen`` after that time.

        The predicate runs on the caller's thread and may look at the outside world: it is also asked every
        50 ms without news.
        """
        until = time.monotonic() + seconds
        while True:
            with self.lock:
                seen = self._version
            result = predicate()
            if result:
                return result
            left = until - time.monotonic()
            if left <= 0:
                raise NotSeen(f"not within {seconds:g} s: {what or predicate}\n{self.tail()}")
            with self._changed:
                if self._version == seen:
                    self._changed.wait(min(left, 0.05))

    def tail(self, count: int = 12) -> str:
        """The last entries as text, and all violations and refusals."""
        with self.lock:
            lines = [
                (call.at, f"api {call.operation} -> {call.status} {_short(call.answer)}")
                for call in self._calls
            ]
            lines += [(each.at, f"{each.channel} {each.direction} {each.type} {_short(each.body)}")
                      for each in self._messages]  # fmt: skip
            lines += [(each.at, f"{each.channel} handshake -> {each.status} {each.fault or ''}")
                      for each in self._handshakes]  # fmt: skip
            last = [text for _, text in sorted(lines)[-count:]]
            return "\n".join(
                [*last, *(f"violation: {text}" for text in self._violations),
                 *(f"refused: {text}" for text in self._refusals)]
            )  # fmt: skip


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
