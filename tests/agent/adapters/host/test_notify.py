"""The messages to a supervisor, over real sockets."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.host.notify import (
    COMPONENT,
    LONGEST_MESSAGE,
    MOST_DESCRIPTORS,
    Notifier,
    extend_timeout,
    status,
)


class Board:
    def __init__(self) -> None:
        self.reports: list[tuple[str, str | None]] = []

    def report(self, component: str, problem: str | None) -> None:
        self.reports.append((component, problem))


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """Names of sockets have 107 bytes at most, and pytest's own directories can be long."""
    with tempfile.TemporaryDirectory(prefix="b-") as name:
        yield Path(name)


def listening(address: str | Path) -> socket.socket:
    end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    end.bind(str(address))
    end.settimeout(5)
    return end


def test_a_message_reaches_a_socket_with_a_path(short_directory: Path, board: Board) -> None:
    with listening(short_directory / "notify") as end:
        Notifier(str(short_directory / "notify"), board).send("READY=1\nSTATUS=all well")

        assert end.recv(9999) == b"READY=1\nSTATUS=all well"
    assert board.reports == []


def test_a_message_reaches_a_socket_with_an_abstract_name(board: Board) -> None:
    name = f"berth-test-notify-{os.getpid()}"
    with listening(f"\0{name}") as end:
        Notifier(f"@{name}", board).send("WATCHDOG=1")

        assert end.recv(9999) == b"WATCHDOG=1"


def test_descriptors_arrive_open_with_their_message(short_directory: Path, board: Board) -> None:
    reading, writing = os.pipe()
    with listening(short_directory / "notify") as end:
        Notifier(str(short_directory / "notify"), board).send("FDSTORE=1\nFDNAME=a", [writing])
        os.close(writing)
        message, descriptors, _, _ = socket.recv_fds(end, 9999, 4)
    assert message == b"FDSTORE=1\nFDNAME=a"
    (received,) = descriptors
    os.write(received, b"through")
    os.close(received)
    assert os.read(reading, 99) == b"through"
    os.close(reading)


def test_nobody_is_told_anything_when_nobody_asked(board: Board) -> None:
    notifier = Notifier(None, board)

    notifier.send("READY=1")

    assert not notifier.is_wanted
    assert board.reports == []


def test_a_socket_that_is_gone_is_said_once_and_taken_back_when_it_is_there_again(
    short_directory: Path, board: Board
) -> None:
    notifier = Notifier(str(short_directory / "notify"), board)
    for _ in range(3):
        notifier.send("WATCHDOG=1")

    ((component, problem),) = board.reports
    assert component == COMPONENT
    assert problem is not None
    assert str(short_directory / "notify") in problem
    assert "No such file" in problem

    with listening(short_directory / "notify"):
        notifier.send("WATCHDOG=1")
    assert board.reports[1:] == [(COMPONENT, None)]


def test_a_supervisor_that_reads_nothing_does_not_hold_the_agent_up(
    short_directory: Path, board: Board
) -> None:
    with listening(short_directory / "notify"):
        notifier = Notifier(str(short_directory / "notify"), board)
        for _ in range(2000):
            notifier.send("STATUS=" + "x" * 1000)

    ((component, problem),) = board.reports
    assert component == COMPONENT
    assert problem is not None
    assert "temporarily unavailable" in problem


@pytest.mark.parametrize("address", ["relative", "@", "vsock:2:1234", "/" + "x" * 200])
def test_an_address_that_cannot_be_used_is_a_health_problem_and_no_crash(address: str, board: Board) -> None:
    Notifier(address, board).send("READY=1")

    ((_, problem),) = board.reports
    assert problem is not None
    assert address in problem


@pytest.mark.parametrize("message", ["", "x" * (LONGEST_MESSAGE + 1)])
def test_a_message_that_no_supervisor_takes_is_a_mistake_of_the_caller(message: str, board: Board) -> None:
    with pytest.raises(ValueError, match=rf"message has {len(message)} bytes"):
        Notifier(None, board).send(message)


def test_more_descriptors_than_the_kernel_passes_are_a_mistake_of_the_caller(board: Board) -> None:
    with pytest.raises(ValueError, match="254 descriptors; expected at most 253"):
        Notifier(None, board).send("FDSTORE=1", [0] * (MOST_DESCRIPTORS + 1))


def test_a_status_is_one_line_and_not_too_long() -> None:
    assert status("3 tasks;\n  all well") == "STATUS=3 tasks; all well"
    long = status("ä" * 3000)
    assert len(long.encode()) <= 1024 + len("STATUS=")
    assert long.endswith("ä…")


def test_time_is_asked_for_in_microseconds() -> None:
    assert extend_timeout(1.5) == "EXTEND_TIMEOUT_USEC=1500000"
