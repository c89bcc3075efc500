"""Which kept socket is used again, and what becomes of one that is wrong, without root and without Docker."""

import asyncio
import contextlib
import errno
import os
import socket

import pytest

from agent.adapters.host.keeping import problem_of, socket_name
from agent.adapters.host.sockets import EndpointSockets, bound_socket
from agent.endpoints.health import HealthBoard
from agent.model.errors import CannotStart
from agent.model.progress import Progress
from tests.fakes.clock import FakeClock

LO = socket.if_nametoindex("lo")
HERE = "127.0.0.1"


class FakeKeeper:
    """Keeps in memory what a real one keeps elsewhere. ``secret``: what it holds and does not give back."""

    def __init__(self, kept=None, secret=None):
        self.kept = dict(kept or {})
        self.secret = secret
        self.forgotten = []

    async def recover(self):
        return {name: each.dup() for name, each in self.kept.items()}

    async def keep(self, name, listening):
        self._close(name)
        self.kept[name] = listening.dup()

    async def forget(self, name):
        self.forgotten.append(name)
        self._close(name)
        if self.secret is not None:
            self.secret.close()
        return True

    async def run(self):
        """Nothing ends in a test."""

    def _close(self, name):
        if name in self.kept:
            self.kept.pop(name).close()

    def close(self):
        for name in tuple(self.kept):
            self._close(name)


@pytest.fixture
def port():
    with socket.create_server((HERE, 0)) as taken:
        return taken.getsockname()[1]


@pytest.fixture
def make_keeper():
    with contextlib.ExitStack() as ends:

        def make(**arguments):
            keeper = FakeKeeper(**arguments)
            ends.callback(keeper.close)
            return keeper

        yield make


def sockets(port, keeper, **more):
    arguments = {"required": ("lo",), "optional": (), "address": HERE, "port": port, **more}
    return EndpointSockets(HealthBoard(FakeClock()), keeper=keeper, **arguments)


async def first(endpoint):
    listeners = endpoint.listeners()
    try:
        return (await anext(listeners)).socket
    finally:
        await listeners.aclose()


def inode(listening):
    return os.fstat(listening.fileno()).st_ino


def test_the_right_socket_has_no_problem(port):
    with bound_socket("lo", HERE, port) as listening:
        assert problem_of(listening, "lo", LO, HERE, port) is None


@pytest.mark.parametrize("address", ["127.0.0.2", "::1"])
def test_a_socket_of_another_address_is_named(port, address):
    with bound_socket("lo", HERE, port) as listening:
        assert problem_of(listening, "lo", LO, address, port) is not None


def test_a_socket_of_another_port_is_named(port):
    with bound_socket("lo", HERE, 0) as listening:
        assert f"expected {HERE}:{port}" in problem_of(listening, "lo", LO, HERE, port)


def test_a_socket_that_does_not_listen_is_named(port):
    with socket.socket() as bound:
        bound.bind((HERE, port))
        assert problem_of(bound, "lo", LO, HERE, port) == "it does not listen"


def test_a_socket_of_an_interface_that_was_made_anew_is_named(port):
    with bound_socket("lo", HERE, port) as listening:
        problem = problem_of(listening, "lo", LO + 7, HERE, port)
    assert problem == f"it is bound to interface number {LO}, expected {LO + 7} (lo)"


def test_a_socket_of_no_interface_is_named(port):
    with bound_socket(None, HERE, port) as listening:
        assert "interface number 0" in problem_of(listening, "lo", LO, HERE, port)


def test_something_that_is_no_tcp_socket_is_named(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        assert "expected a TCP socket" in problem_of(other, "lo", LO, HERE, port)


def test_names_have_no_colon_because_systemd_does_not_take_one():
    assert ":" not in socket_name("lo", "fd00::1", 80)
    assert socket_name("lo", "fd00::1", 80) != socket_name("lo", "fd00::1", 81)


async def test_a_kept_socket_is_used_again_and_whoever_waits_in_it_is_not_lost(port, make_keeper):
    kept = bound_socket("lo", HERE, port)
    keeper = make_keeper(kept={socket_name("lo", HERE, port): kept})
    with socket.create_connection((HERE, port)) as waiting:
        with await first(sockets(port, keeper)) as listening:
            assert inode(listening) == inode(keeper.kept[socket_name("lo", HERE, port)])
            accepted, peer = listening.accept()
            accepted.close()
        assert peer == waiting.getsockname()
    assert keeper.forgotten == []


async def test_a_new_socket_is_given_to_the_keeper(port, make_keeper):
    keeper = make_keeper()
    with await first(sockets(port, keeper)) as listening:
        assert inode(listening) == inode(keeper.kept[socket_name("lo", HERE, port)])


async def test_a_wrong_one_at_the_same_place_is_closed_before_a_new_one_is_made(port, make_keeper):
    # not bound to the interface, so that it is in the way of the one that is
    wrong = bound_socket(None, HERE, port)
    name = socket_name("lo", HERE, port)
    keeper = make_keeper(kept={name: wrong})
    identity = inode(wrong)
    with await first(sockets(port, keeper)) as listening:
        assert inode(listening) != identity
        assert problem_of(listening, "lo", LO, HERE, port) is None
    assert keeper.forgotten == [name]


@pytest.mark.parametrize(
    "name", ["endpoint/lo/127.0.0.1/1", "endpoint/gone0/127.0.0.1/80", "stored-by-hand", ""]
)
async def test_a_socket_for_no_place_that_is_served_is_forgotten(port, make_keeper, name):
    keeper = make_keeper(kept={name: bound_socket("lo", HERE, 0)})
    with await first(sockets(port, keeper)):
        assert keeper.forgotten == [name]


async def test_a_keeper_that_has_a_socket_and_does_not_give_it_back_is_made_to_let_go(port, make_keeper):
    keeper = make_keeper(secret=bound_socket("lo", HERE, port))
    with await first(sockets(port, keeper)) as listening:
        assert listening.getsockname() == (HERE, port)
    assert keeper.forgotten == [socket_name("lo", HERE, port)]


async def test_a_port_that_somebody_else_has_is_still_an_error(port, make_keeper):
    with bound_socket(None, HERE, port), pytest.raises(CannotStart, match="is taken by"):
        await first(sockets(port, make_keeper()))


async def test_without_a_keeper_a_taken_port_is_an_error_at_once(port):
    with bound_socket(None, HERE, port), pytest.raises(CannotStart, match="is taken by"):
        await first(sockets(port, None))


async def test_what_was_kept_and_not_used_is_closed_with_the_listeners(port, make_keeper):
    name = socket_name("lo", HERE, port)
    keeper = make_keeper(kept={name: bound_socket("lo", HERE, port)})
    with pytest.raises(CannotStart, match="no interface gone0"):
        await first(sockets(port, keeper, required=("gone0", "lo")))
    assert keeper.forgotten == []
    keeper.close()
    with socket.socket() as asking:
        assert asking.connect_ex((HERE, port)) == errno.ECONNREFUSED


class HangingKeeper(FakeKeeper):
    """Answers when it is let, as one does that is stuck while Docker is, too."""

    def __init__(self):
        super().__init__()
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def recover(self):
        self.asked.set()
        await self.may_answer.wait()
        return {}


async def test_a_keeper_that_takes_a_minute_is_waited_for_and_one_that_never_answers_is_noticed(port):
    keeper, progress = HangingKeeper(), Progress()
    with contextlib.closing(keeper):
        listeners = sockets(port, keeper, progress=progress).listeners()
        opened = asyncio.ensure_future(anext(listeners))
        await keeper.asked.wait()
        progress.tick(60.0, 60.0)
        assert progress.late(10.0) == ()
        progress.tick(60.0, 60.0)
        assert [each.name for each in progress.late(10.0)] == ["credentials endpoint"]
        keeper.may_answer.set()
        (await opened).socket.close()
        await listeners.aclose()
