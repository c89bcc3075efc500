"""The agent's side of the keeper program, with the real program: it is lost, stuck, old, and comes back."""

import asyncio
import contextlib
import os
import signal
import socket
import time

import pytest

from agent.adapters.host.keeper_link import end_keeper
from agent.adapters.host.program_keeper import COMPONENT, ProgramKeeper
from agent.endpoints.health import HealthBoard
from agent.model.errors import RuntimeUnavailable
from tests.fakes.clock import FakeClock
from tests.pause.keeping import RunningKeeper, ask

pytestmark = pytest.mark.integration


class Processes:
    """Runs keepers below a directory, as the container does. ``is_away``: Docker does not answer."""

    def __init__(self, place):
        self.place = place
        self.version = "one 300"
        self.is_away = False
        self.keepers = []

    async def ensure_made(self):
        if self.is_away:
            raise RuntimeUnavailable("Docker is away")
        self.keepers.append(RunningKeeper(self.place, self.version.split()[1], self.version))

    async def ensure_removed(self):
        if self.is_away:
            raise RuntimeUnavailable("Docker is away")
        for each in self.keepers:
            each.end()

    @property
    def alive(self):
        return [each for each in self.keepers if each.process.poll() is None]


@pytest.fixture
def processes(tmp_path):
    made = Processes(tmp_path / "root")
    yield made
    for each in made.keepers:
        each.end()


@pytest.fixture
def board():
    return HealthBoard(FakeClock())


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def a_keeper(processes, board):
    return ProgramKeeper(processes.place / "keep", processes, board)


@contextlib.asynccontextmanager
async def running(keeper):
    """An agent's life with that keeper."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keeper.run())
        try:
            yield keeper
        finally:
            task.cancel()


async def eventually(condition, seconds=15.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        await asyncio.sleep(0.01)


async def what_is_kept(processes, board):
    """Inodes by name, as the next agent gets them; and hang up, as at its end."""
    keeper = a_keeper(processes, board)
    found = await keeper.recover()
    keeper._hang_up()
    identities = {name: os.fstat(each.fileno()).st_ino for name, each in found.items()}
    for each in found.values():
        each.close()
    return identities


def problems(board):
    return [each for each in board.snapshot() if each.reason]


def inode(listening):
    return os.fstat(listening.fileno()).st_ino


async def test_without_a_keeper_nothing_is_recovered(processes, board):
    assert await a_keeper(processes, board).recover() == {}


async def test_the_next_agent_gets_what_this_one_had(processes, board, listening):
    async with running(a_keeper(processes, board)) as keeper:
        await keeper.keep("a", listening)
        await eventually(lambda: "a" in keeper._given)
    assert await what_is_kept(processes, board) == {"a": inode(listening)}
    assert problems(board) == []
    assert len(processes.keepers) == 1


async def test_what_was_recovered_is_kept_by_the_same_keeper_again(processes, board, listening):
    for _ in range(3):
        async with running(a_keeper(processes, board)) as keeper:
            for each in (await keeper.recover()).values():
                each.close()
            await keeper.keep("a", listening)
            await eventually(lambda: "a" in keeper._given)
    assert len(processes.keepers) == 1


async def test_a_keeper_that_is_killed_is_made_again_with_everything(
    processes, board, listening, monkeypatch
):
    monkeypatch.setattr("agent.adapters.host.program_keeper.SHORTEST_LIFE", 0.0)
    async with running(a_keeper(processes, board)) as keeper:
        await keeper.keep("a", listening)
        await keeper.keep("b", listening)
        await eventually(lambda: len(keeper._given) == 2)
        processes.keepers[0].end()
        await eventually(lambda: len(processes.alive) == 1 and len(keeper._given) == 2)
    assert set(await what_is_kept(processes, board)) == {"a", "b"}


async def test_a_keeper_that_ends_again_at_once_is_not_made_again_at_once(processes, board, listening):
    async with running(a_keeper(processes, board)) as keeper:
        await keeper.keep("a", listening)
        await eventually(lambda: "a" in keeper._given)
        processes.keepers[0].end()
        await eventually(lambda: problems(board))
        assert "ended soon after it had been started" in problems(board)[0].reason
        assert len(processes.keepers) == 1


async def test_one_of_another_version_is_replaced_and_loses_nothing(processes, board, listening, monkeypatch):
    monkeypatch.setattr("agent.adapters.host.program_keeper.SHORTEST_LIFE", 0.0)
    async with running(a_keeper(processes, board)) as keeper:
        await keeper.keep("a", listening)
        await eventually(lambda: "a" in keeper._given)
    processes.version = "two 200"
    async with running(a_keeper(processes, board)) as keeper:
        (found,) = (await keeper.recover()).values()
        with found:
            await keeper.keep("a", found)
            await eventually(lambda: processes.keepers[0].process.poll() == 0)
            await eventually(lambda: "a" in keeper._given)
    assert await what_is_kept(processes, board) == {"a": inode(listening)}
    assert processes.alive == processes.keepers[1:]


async def test_an_older_one_stays_while_docker_is_away(processes, board, listening):
    async with running(a_keeper(processes, board)) as keeper:
        await keeper.keep("a", listening)
        await eventually(lambda: "a" in keeper._given)
    processes.version, processes.is_away = "two 200", True
    async with running(a_keeper(processes, board)) as keeper:
        with (await keeper.recover())["a"] as found:
            await keeper.keep("a", found)
            await keeper.keep("b", found)
            await eventually(lambda: problems(board))
            assert "cannot be replaced: Docker is away" in problems(board)[0].reason
    assert set(await what_is_kept(processes, board)) == {"a", "b"}


async def test_without_docker_the_agent_says_that_nobody_keeps_its_sockets(processes, board, listening):
    processes.is_away = True
    async with running(a_keeper(processes, board)) as keeper:
        await keeper.keep("a", listening)
        await eventually(lambda: problems(board))
        (entry,) = problems(board)
        assert entry.component == COMPONENT
        assert "nobody keeps the endpoint's sockets" in entry.reason
        processes.is_away = False
        await eventually(lambda: not problems(board))
    assert set(await what_is_kept(processes, board)) == {"a"}


async def test_a_socket_that_is_forgotten_is_closed_by_the_keeper(processes, board):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place = listening.getsockname()
        async with running(a_keeper(processes, board)) as keeper:
            await keeper.keep("a", listening)
            await eventually(lambda: "a" in keeper._given)
            listening.close()
            socket.create_connection(place, timeout=5).close()
            assert await keeper.forget("a")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(place, timeout=5)


async def test_a_keeper_that_does_not_answer_is_given_up_and_its_sockets_are_let_go(
    processes, board, monkeypatch
):
    monkeypatch.setattr("agent.adapters.host.keeper_link.ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        place = listening.getsockname()
        async with running(a_keeper(processes, board)) as keeper:
            await keeper.keep("a", listening)
            await eventually(lambda: "a" in keeper._given)
    processes.keepers[0].process.send_signal(signal.SIGSTOP)
    keeper = a_keeper(processes, board)
    assert await keeper.recover() == {}
    assert await keeper.forget("a")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place, timeout=5)


async def test_when_nothing_can_end_a_stuck_keeper_the_agent_goes_on(processes, board, listening):
    processes.is_away = True
    assert await a_keeper(processes, board).forget("a")


async def test_a_docker_that_hangs_while_a_keeper_is_made_holds_up_nobody_who_lets_go(
    processes, board, listening, monkeypatch
):
    monkeypatch.setattr("agent.adapters.host.program_keeper.FORGET_SECONDS", 0.2)
    asked = asyncio.Event()

    async def hang():
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(processes, "ensure_made", hang)
    async with running(a_keeper(processes, board)) as keeper:
        await keeper.keep("a", listening)
        await asked.wait()
        async with asyncio.timeout(5):
            assert await keeper.forget("a")
        assert not keeper._wanted


async def test_an_end_in_the_middle_of_a_question_is_no_error(processes, board, listening):
    async with running(a_keeper(processes, board)) as keeper:
        await keeper.keep("a", listening)
        await eventually(lambda: "a" in keeper._given)
        processes.keepers[0].process.send_signal(signal.SIGSTOP)
        forgetting = asyncio.create_task(keeper.forget("b"))
        await asyncio.sleep(0.1)
    keeper._hang_up()
    forgetting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await forgetting


async def test_a_keeper_that_is_not_chosen_any_more_is_ended(processes, board, listening):
    async with running(a_keeper(processes, board)) as keeper:
        await keeper.keep("a", listening)
        await eventually(lambda: "a" in keeper._given)
    path = processes.place / "keep/socket"
    end_keeper(path)
    assert processes.keepers[0].process.wait(5) == 0
    end_keeper(path)  # nobody is there any more: fine


async def test_what_is_no_socket_is_not_recovered(processes, board, listening):
    await processes.ensure_made()
    reading, writing = os.pipe()
    with processes.keepers[0].connect() as connected:
        socket.send_fds(connected, [b"Kpipe"], [reading])
        assert connected.recv(300) == b"K"
        assert ask(connected, b"Ka", listening) == b"K"
    os.close(reading)
    os.close(writing)
    assert await what_is_kept(processes, board) == {"a": inode(listening)}


async def test_a_door_in_a_deep_directory_is_found(tmp_path, board, listening):
    processes = Processes(tmp_path / "/".join(30 * "d" for _ in range(5)))
    try:
        async with running(a_keeper(processes, board)) as keeper:
            await keeper.keep("a", listening)
            await eventually(lambda: "a" in keeper._given)
    finally:
        for each in processes.keepers:
            each.end()
