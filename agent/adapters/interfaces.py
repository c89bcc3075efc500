"""Watches the host's links, so that a task's ENI is noticed within milliseconds of its arrival.

It listens to the kernel's link events first and lists the links second, so nothing falls between; it lists
them again when events were lost, and every half minute on principle. The kernel's messages are read directly
(``linux/rtnetlink.h``): two message types and one attribute are all that matters, and it takes half the time
of a netlink library.
"""

import asyncio
import errno
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from agent.model.errors import CannotStart
from agent.model.ids import MacAddress
from agent.model.progress import Progress

log = structlog.get_logger()

RELIST_EVERY = timedelta(seconds=30)

_LIST_LIMIT_S = 5.0
_REOPEN_PAUSE_S = 1.0
_RECEIVE_BUFFER = 1024 * 1024
_LARGEST_DATAGRAM = 65536
_DATAGRAMS_AT_ONCE = 64

_RTMGRP_LINK = 1
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_NLM_F_REQUEST_DUMP = 0x1 | 0x300
_NLM_F_DUMP_INTR = 0x10
_IFLA_ADDRESS, _IFLA_EXT_MASK = 1, 29
_RTEXT_FILTER_SKIP_STATS = 8
_MAC_LENGTH = 6
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, device type, index, flags, change
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """A link exists (``is_gone`` False) or has gone. ``mac_address`` None: the message does not say."""

    index: int
    mac_address: MacAddress | None
    is_gone: bool


@dataclass(frozen=True, slots=True)
class ListDisturbed:
    """Links changed while the list was made: it may lack some, and must be made again."""


@dataclass(frozen=True, slots=True)
class ListEnded:
    """The list of that number is over. ``error``: an errno if the kernel refused it, otherwise 0."""

    sequence: int
    error: int


Message = LinkChanged | ListDisturbed | ListEnded


def read_messages(datagram: bytes) -> Iterator[Message]:
    """What a datagram from the kernel says about links. Pure; what is cut off or unknown is left out."""
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(datagram, offset)
        end = offset + length
        if length < _HEADER.size or end > len(datagram):
            return
        if flags & _NLM_F_DUMP_INTR:
            yield ListDisturbed()
        body = offset + _HEADER.size
        if kind in (_RTM_NEWLINK, _RTM_DELLINK) and end - body >= _LINK.size:
            family, _, index, _, _ = _LINK.unpack_from(datagram, body)
            # A port that leaves a bridge is told as a deleted link of family AF_BRIDGE, but it lives on.
            if family == socket.AF_UNSPEC:
                mac = _mac_address(datagram, body + _LINK.size, end)
                yield LinkChanged(index, mac, is_gone=kind == _RTM_DELLINK)
        elif kind in (_NLMSG_DONE, _NLMSG_ERROR):
            code = struct.unpack_from("=i", datagram, body)[0] if end - body >= 4 else 0  # noqa: PLR2004
            yield ListEnded(sequence, max(-code, 0))
        offset += (length + 3) & ~3


@dataclass(eq=False, slots=True)
class _Consumer:
    """What one reader of ``appearances`` has not taken yet. Repeats are folded, so it stays small."""

    pending: dict[MacAddress, None] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, mac_address: MacAddress) -> None:
        self.pending[mac_address] = None
        self.arrived.set()


class LinkWatcher:
    """``InterfaceWatcher`` of the network namespace in which the agent itself runs.

    ``start`` before anything is asked; ``run`` belongs into the daemon's task group; ``aclose`` at the end.
    """

    def __init__(self, relist_every: timedelta = RELIST_EVERY, progress: Progress | None = None) -> None:
        self._relist_every = relist_every.total_seconds()
        self._progress = progress or Progress()
        self._socket: socket.socket | None = None
        self._links: dict[int, MacAddress] = {}
        self._consumers: set[_Consumer] = set()
        self._sequence = 0
        self._listed: set[int] = set()
        self._is_listing = False
        self._must_relist = False
        self._list_ended = asyncio.Event()
        self._broken = asyncio.Event()

    # -- the port ------------------------------------------------------------------------------

    def is_present(self, mac_address: MacAddress) -> bool:
        """Whether a link with this MAC address, in upper or lower case, exists now."""
        return mac_address.lower() in self._links.values()

    async def appearances(self) -> AsyncIterator[MacAddress]:
        """Yield what is there, then every MAC address that appears. Any number of readers at once."""
        consumer = _Consumer(dict.fromkeys(self._links.values()))
        self._consumers.add(consumer)
        try:
            while True:
                while consumer.pending:
                    mac_address = next(iter(consumer.pending))
                    del consumer.pending[mac_address]
                    yield mac_address
                consumer.arrived.clear()
                await consumer.arrived.wait()
        finally:
            self._consumers.discard(consumer)

    # -- its life ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, and return when the present links are known. Raise ``CannotStart``."""
        try:
            self._open()
            async with asyncio.timeout(_LIST_LIMIT_S):
                await self._list_ended.wait()
        except TimeoutError as error:
            await self.aclose()
            raise CannotStart(
                f"the kernel did not list the network links within {_LIST_LIMIT_S:g} s", is_final=False
            ) from error
        except OSError as error:
            await self.aclose()
            raise CannotStart(
                f"cannot watch network links: {error.strerror}; the agent needs netlink sockets (AF_NETLINK)",
                is_final=False,
            ) from error

    async def run(self) -> None:
        """List the links again from time to time, and reopen the socket if it breaks. Never returns."""
        with self._progress.watched("network links") as loop:
            while True:
                loop.beat(self._relist_every)
                try:
                    async with asyncio.timeout(self._relist_every):
                        await self._broken.wait()
                except TimeoutError:
                    if self._socket is not None and not self._is_listing:
                        self._request_list()
                        continue
                    log.warning("interface_events.stalled", limit_s=self._relist_every)
                await self._reopen()

    async def aclose(self) -> None:
        """Stop listening. Readers of ``appearances`` are the caller's to end."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    # -- the socket ----------------------------------------------------------------------------

    def _open(self) -> None:
        opened = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0
        )
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            opened.bind((0, _RTMGRP_LINK))
        except OSError:
            opened.close()
            raise
        self._socket = opened
        self._is_listing = self._must_relist = False
        self._broken.clear()
        asyncio.get_running_loop().add_reader(opened, self._read)
        self._request_list()

    async def _reopen(self) -> None:
        await self.aclose()
        await asyncio.sleep(_REOPEN_PAUSE_S)
        try:
            self._open()
        except OSError as error:
            log.warning("interface_events.refused", cause=str(error))
            self._broken.set()

    def _request_list(self) -> None:
        if self._socket is None:
            return
        self._sequence += 1
        self._listed.clear()
        self._is_listing, self._must_relist = True, False
        extent = _ATTRIBUTE.pack(8, _IFLA_EXT_MASK) + struct.pack("=I", _RTEXT_FILTER_SKIP_STATS)
        body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + extent
        header = _HEADER.pack(
            _HEADER.size + len(body), _RTM_GETLINK, _NLM_F_REQUEST_DUMP, self._sequence, 0
        )  # fmt: skip
        try:
            self._socket.sendto(header + body, (0, 0))
        except OSError as error:
            self._break(error)

    def _read(self) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):  # then others get their turn; the loop calls again
            if self._socket is None:
                return
            try:
                datagram, _, flags, sender = self._socket.recvmsg(_LARGEST_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    self._break(error)
                    return
                log.warning("interface_events.lost", cause="more link events at once than the socket holds")
                self._relist()
                continue
            if sender[0] != 0:  # not from the kernel
                continue
            if flags & socket.MSG_TRUNC:
                self._relist()
            for message in read_messages(datagram):
                self._apply(message)

    def _relist(self) -> None:
        if self._is_listing:  # the kernel makes one list at a time
            self._must_relist = True
        else:
            self._request_list()

    def _break(self, error: OSError) -> None:
        log.warning("interface_events.broken", cause=str(error))
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
        self._broken.set()

    # -- what is known -------------------------------------------------------------------------

    def _apply(self, message: Message) -> None:
        match message:
            case ListDisturbed():
                self._must_relist = True
            case ListEnded():
                if message.sequence == self._sequence:
                    self._end_list(message)
            case LinkChanged(is_gone=True):
                self._links.pop(message.index, None)
                self._listed.discard(message.index)
            case LinkChanged():
                self._listed.add(message.index)
                mac_address = message.mac_address
                if mac_address is not None and self._links.get(message.index) != mac_address:
                    self._links[message.index] = mac_address
                    for consumer in self._consumers:
                        consumer.put(mac_address)

    def _end_list(self, ended: ListEnded) -> None:
        self._is_listing = False
        if ended.error:
            self._break(
                OSError(ended.error, f"cannot list links: {errno.errorcode.get(ended.error, ended.error)}")
            )
            return
        if self._must_relist:
            self._request_list()
            return
        for index in self._links.keys() - self._listed:
            del self._links[index]
        self._list_ended.set()


def _mac_address(datagram: bytes, offset: int, end: int) -> MacAddress | None:
    while offset + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(datagram, offset)
        if length < _ATTRIBUTE.size or offset + length > end:
            return None
        if kind == _IFLA_ADDRESS and length == _ATTRIBUTE.size + _MAC_LENGTH:
            return MacAddress(datagram[offset + _ATTRIBUTE.size : offset + length].hex(":"))
        offset += (length + 3) & ~3
    return None
