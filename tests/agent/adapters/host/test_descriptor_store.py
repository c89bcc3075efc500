"""systemd's store, as the messages to it and the descriptors from it."""

import os
import socket

import pytest

from agent.adapters.host.descriptor_store import DescriptorStore, let_go
from agent.adapters.host.notify import Notifier
from agent.endpoints.health import HealthBoard
from tests.fakes.clock import FakeClock


@pytest.fixture
def systemd(tmp_path):
    address = f"\0berth-test-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(address)
        made.setblocking(False)
        yield made


@pytest.fixture
def notifier(systemd):
    return Notifier("@" + systemd.getsockname()[1:].decode(), HealthBoard(FakeClock()))


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def heard(systemd):
    """The messages since the last look, with the inode of the descriptor that came along."""
    found = []
    while True:
        try:
            text, descriptors, _, _ = socket.recv_fds(systemd, 4096, 4)
        except BlockingIOError:
            return found
        inodes = [os.fstat(each).st_ino for each in descriptors]
        for each in descriptors:
            os.close(each)
        found.append((text.decode().split("\n"), *inodes))


def inode(listening):
    return os.fstat(listening.fileno()).st_ino


async def test_a_socket_is_stored_under_its_name_once(systemd, notifier, listening):
    store = DescriptorStore(notifier, ())
    assert await store.recover() == {}
    await store.keep("a", listening)
    await store.keep("a", listening)
    assert heard(systemd) == [(["FDSTORE=1", "FDNAME=a"], inode(listening))]


async def test_another_socket_of_that_name_takes_the_place_of_the_first(systemd, notifier, listening):
    store = DescriptorStore(notifier, ())
    with socket.create_server(("127.0.0.1", 0)) as first:
        await store.keep("a", first)
        heard(systemd)
        await store.keep("a", listening)
    assert heard(systemd) == [
        (["FDSTOREREMOVE=1", "FDNAME=a"],),
        (["FDSTORE=1", "FDNAME=a"], inode(listening)),
    ]


async def test_what_came_from_the_store_is_not_stored_again_and_not_inherited(systemd, notifier, listening):
    descriptor = os.dup(listening.fileno())
    os.set_inheritable(descriptor, True)
    store = DescriptorStore(notifier, (("a", descriptor),))
    with (await store.recover())["a"] as recovered:
        assert inode(recovered) == inode(listening)
        assert not os.get_inheritable(recovered.fileno())
        assert not recovered.getblocking()
        await store.keep("a", recovered)
    assert heard(systemd) == []
    assert await store.recover() == {}


async def test_of_two_with_one_name_the_last_is_used_and_stored_alone(systemd, notifier, listening):
    with socket.create_server(("127.0.0.1", 0)) as other:
        received = (("a", os.dup(other.fileno())), ("a", os.dup(listening.fileno())))
    store = DescriptorStore(notifier, received)
    with (await store.recover())["a"] as recovered:
        assert inode(recovered) == inode(listening)
        await store.keep("a", recovered)
    assert heard(systemd) == [
        (["FDSTOREREMOVE=1", "FDNAME=a"],),
        (["FDSTORE=1", "FDNAME=a"], inode(listening)),
    ]


async def test_what_is_no_socket_or_not_there_is_taken_out_of_the_store(systemd, notifier):
    reading, writing = os.pipe()
    try:
        store = DescriptorStore(notifier, (("pipe", reading), ("nothing", 1_000_000)))
        assert await store.recover() == {}
    finally:
        os.close(writing)
        os.close(reading)
    assert [message[0][1] for message in heard(systemd)] == ["FDNAME=pipe", "FDNAME=nothing"]


async def test_forgetting_takes_it_out_of_the_store(systemd, notifier):
    assert await DescriptorStore(notifier, ()).forget("a")
    assert heard(systemd) == [(["FDSTOREREMOVE=1", "FDNAME=a"],)]


def test_what_nobody_wants_is_closed_here_and_there(systemd, notifier, listening):
    descriptor = os.dup(listening.fileno())
    let_go(notifier, (("a", descriptor), ("gone", 1_000_000)))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    assert [message[0] for message in heard(systemd)] == [
        ["FDSTOREREMOVE=1", "FDNAME=a"],
        ["FDSTOREREMOVE=1", "FDNAME=gone"],
    ]
