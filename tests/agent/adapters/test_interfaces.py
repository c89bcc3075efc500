"""The watcher reads the kernel's link messages right, whatever is cut off, foreign or lost."""

import errno
import socket
import struct

import pytest

from agent.adapters.interfaces import LinkChanged, LinkWatcher, ListDisturbed, ListEnded, read_messages
from agent.model.errors import CannotStart

NEWLINK, DELLINK, DONE, ERROR = 16, 17, 3, 2
MAC = bytes.fromhex("0e0102030405")


def attribute(kind: int, value: bytes) -> bytes:
    text = struct.pack("=HH", 4 + len(value), kind) + value
    return text + b"\0" * (-len(text) % 4)


def message(kind: int, body: bytes, *, flags: int = 0, sequence: int = 0) -> bytes:
    text = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body
    return text + b"\0" * (-len(text) % 4)


def link(kind: int, index: int, *attributes: bytes, family: int = 0, flags: int = 0) -> bytes:
    return message(kind, struct.pack("=BxHiII", family, 1, index, 0, 0) + b"".join(attributes), flags=flags)


NAME = attribute(3, b"eth7\0")
ADDRESS = attribute(1, MAC)


def test_a_new_link_is_read_with_its_address_in_lower_case():
    assert list(read_messages(link(NEWLINK, 7, NAME, ADDRESS))) == [
        LinkChanged(7, "0e:01:02:03:04:05", is_gone=False)
    ]


def test_several_messages_of_one_datagram_are_read_in_order():
    datagram = (
        link(NEWLINK, 7, NAME, ADDRESS) + link(DELLINK, 8) + message(DONE, struct.pack("=i", 0), sequence=5)
    )
    assert list(read_messages(datagram)) == [
        LinkChanged(7, "0e:01:02:03:04:05", is_gone=False),
        LinkChanged(8, None, is_gone=True),
        ListEnded(5, 0),
    ]


def test_a_port_that_leaves_a_bridge_is_not_a_link_that_has_gone():
    assert list(read_messages(link(DELLINK, 7, ADDRESS, family=socket.AF_BRIDGE))) == []


def test_an_address_that_is_no_mac_is_left_out():
    assert list(read_messages(link(NEWLINK, 7, attribute(1, bytes(20))))) == [
        LinkChanged(7, None, is_gone=False)
    ]
    assert list(read_messages(link(NEWLINK, 7, attribute(1, b"")))) == [LinkChanged(7, None, is_gone=False)]


def test_a_refusal_ends_the_list_with_its_errno():
    assert list(read_messages(message(ERROR, struct.pack("=i", -errno.EBUSY), sequence=3))) == [
        ListEnded(3, errno.EBUSY)
    ]


def test_a_list_that_was_disturbed_says_so():
    found = list(read_messages(link(NEWLINK, 7, ADDRESS, flags=0x10)))
    assert found == [ListDisturbed(), LinkChanged(7, "0e:01:02:03:04:05", is_gone=False)]


def test_a_datagram_cut_off_anywhere_yields_only_whole_messages():
    datagram = link(NEWLINK, 7, NAME, ADDRESS) + link(DELLINK, 8)
    whole = list(read_messages(datagram))
    for length in range(len(datagram)):
        found = list(read_messages(datagram[:length]))
        assert found == whole[: len(found)]
        assert len(found) < len(whole)


@pytest.mark.parametrize("length", [0, 3, 15])
def test_a_message_shorter_than_its_header_ends_the_reading(length):
    assert list(read_messages(struct.pack("=IHHII", length, NEWLINK, 0, 0, 0))) == []


def test_attributes_with_impossible_lengths_are_not_followed():
    broken = struct.pack("=HH", 0, 3) + b"\0" * 8
    assert list(read_messages(link(NEWLINK, 7, broken, ADDRESS))) == [LinkChanged(7, None, is_gone=False)]


async def test_a_host_without_netlink_is_told_at_start(monkeypatch):
    def refused(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr("agent.adapters.interfaces.socket.socket", refused)
    with pytest.raises(
        CannotStart, match="cannot watch network links: Address family not supported"
    ) as caught:
        await LinkWatcher().start()
    assert not caught.value.is_final


async def test_the_loopback_link_of_this_machine_is_found_without_privileges():
    watcher = LinkWatcher()
    await watcher.start()
    try:
        assert watcher.is_present("00:00:00:00:00:00")
    finally:
        await watcher.aclose()
