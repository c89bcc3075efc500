"""rtnetlink, the little of it that plugins need: requests with acknowledgements, and dumps.

Numbers and layouts are from the kernel's uapi headers (netlink.h, rtnetlink.h, if_link.h, neighbour.h).
"""

from __future__ import annotations

import _socket
from _struct import Struct

from cni_plugins.kernel.errors import KernelRefused
from cni_plugins.skeleton.record import Record

NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30

REQUEST, ACK, DUMP = 1, 4, 0x300
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400
NESTED = 0x8000

GROUP_LINK = 1
_NETLINK_ROUTE = 0
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_ERROR, _DONE = 2, 3
_DUMP_INTERRUPTED = 0x10
_CAPPED, _TLVS = 0x100, 0x200
_ERROR_TEXT = 1  # NLMSGERR_ATTR_MSG
_HEADER = Struct("=IHHII")
_ATTRIBUTE = Struct("=HH")
_INT = Struct("=i")
_BUFFER_BYTES = 1 << 16  # the kernel fills dumps in pieces of at most 32 KiB
_DUMP_ATTEMPTS = 10


class Message(Record):
    """One request without its header: kind, flags beyond REQUEST and ACK, and the encoded body."""

    kind: int
    flags: int
    body: bytes


class Reply(Record):
    """One message of a dump or a notification."""

    kind: int
    body: bytes


class Netlink:
    """A netlink socket in the namespace in which it was made; it stays there, wherever its process goes."""

    def __init__(self, groups: int = 0) -> None:
        # SOCK_CLOEXEC: a delegated plugin must not inherit it
        self._socket = _socket.socket(
            _socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _NETLINK_ROUTE
        )
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._socket.bind((0, groups))
        self._sequence = 0

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def send(self, messages: list[Message]) -> list[KernelRefused | None]:
        """Send all in one datagram and return each message's outcome, in order.

        The kernel carries them out one after the other and goes on after one that fails.
        """
        if not messages:
            return []
        first = self._sequence + 1
        datagram = b"".join(self._framed(message, REQUEST | ACK) for message in messages)
        self._socket.send(datagram)
        outcomes: dict[int, KernelRefused | None] = {}
        while len(outcomes) < len(messages):
            for kind, flags, sequence, body in self._receive():
                if kind == _ERROR and first <= sequence <= self._sequence:
                    outcomes[sequence] = _refusal(body, flags)
        return [outcomes[first + index] for index in range(len(messages))]

    def ask(self, message: Message) -> list[Reply]:
        """One request that is answered with an object, such as GETLINK. Raises KernelRefused."""
        self._socket.send(self._framed(message, REQUEST | ACK))
        replies: list[Reply] = []
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence != self._sequence:
                    continue
                if kind != _ERROR:
                    replies.append(Reply(kind, body))
                    continue
                refusal = _refusal(body, flags)
                if refusal is not None:
                    raise refusal
                return replies

    def dump(self, kind: int, body: bytes) -> list[Reply]:
        """All objects of a kind. A dump that the kernel calls interrupted is begun anew."""
        for _ in range(_DUMP_ATTEMPTS):
            replies, whole = self._dump_once(kind, body)
            if whole:
                return replies
        raise KernelRefused(11, f"the table of kind {kind} changed during {_DUMP_ATTEMPTS} readings")

    def notifications(self) -> list[Reply]:
        """What a socket with groups has received; blocks until there is something."""
        return [Reply(kind, body) for kind, _, _, body in self._receive()]

    def _dump_once(self, kind: int, body: bytes) -> tuple[list[Reply], bool]:
        self._socket.send(self._framed(Message(kind, 0, body), REQUEST | DUMP))
        replies: list[Reply] = []
        whole = True
        while True:
            for answer, flags, sequence, content in self._receive():
                if sequence != self._sequence:
                    continue
                whole = whole and not flags & _DUMP_INTERRUPTED
                if answer == _DONE:
                    return replies, whole
                if answer == _ERROR:
                    refusal = _refusal(content, flags)
                    if refusal is not None:
                        raise refusal
                    continue
                replies.append(Reply(answer, content))

    def _framed(self, message: Message, flags: int) -> bytes:
        self._sequence += 1
        body = message.body
        header = _HEADER.pack(
            _HEADER.size + len(body), message.kind, flags | message.flags, self._sequence, 0
        )
        return header + body + bytes(-len(body) % 4)

    def _receive(self) -> list[tuple[int, int, int, bytes]]:
        data = self._socket.recv(_BUFFER_BYTES)
        messages = []
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            messages.append((kind, flags, sequence, data[offset + _HEADER.size : offset + length]))
            offset += length + -length % 4
        return messages


def attribute(kind: int, value: bytes) -> bytes:
    """One encoded attribute, padded."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def number(kind: int, value: int) -> bytes:
    """A 32-bit attribute."""
    return attribute(kind, value.to_bytes(4, "little"))


def text(kind: int, value: str) -> bytes:
    """A zero-terminated attribute."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(parts))


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes that follow a fixed header of `offset` bytes; of a repeated one the last."""
    found: dict[int, bytes] = {}
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:  # noqa: PLR2004 -- shorter than its own header: the rest is padding
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += length + -length % 4
    return found


def _refusal(body: bytes, flags: int) -> KernelRefused | None:
    (code,) = _INT.unpack_from(body)
    if code == 0:
        return None
    said = ""
    if flags & _TLVS:
        echoed = 20 if flags & _CAPPED else 4 + max(16, int.from_bytes(body[4:8], "little"))
        said = attributes(body, echoed).get(_ERROR_TEXT, b"").rstrip(b"\0").decode("utf-8", "replace")
    return KernelRefused(-code, said)
