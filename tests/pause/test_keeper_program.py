"""The keeper: holds what it is given, gives it back to its own user, and ends when nobody comes."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pause.build import keeper_image
from pause.image import Architecture
from tests.pause.keeping import VERSION, RunningKeeper, ask, compiled_keeper, recovered

Start = Callable[..., RunningKeeper]
MOST = 16


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as ends:

        def launch(*arguments: str) -> RunningKeeper:
            keeper = RunningKeeper(tmp_path / "root", *arguments)
            ends.callback(keeper.end)
            return keeper

        yield launch


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as ends:
        yield [ends.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(MOST + 1)]


def inode(listening: socket.socket) -> int:
    return os.fstat(listening.fileno()).st_ino


@pytest.mark.parametrize(("architecture", "machine"), [("amd64", 62), ("arm64", 183)])
def test_the_program_is_small_static_and_needs_no_memory_that_can_be_written(
    architecture: Architecture, machine: int
) -> None:
    program = compiled_keeper(architecture)

    assert struct.unpack_from("<HH", program, 16) == (2, machine)  # ET_EXEC
    assert len(program) < 4096
    table, size, count = *struct.unpack_from("<Q", program, 32), *struct.unpack_from("<HH", program, 54)
    headers = [struct.unpack_from("<II", program, table + size * index) for index in range(count)]
    assert [flags & 3 for kind, flags in headers if kind == 1] == [1]  # PT_LOAD: to be executed, not written


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_compiling_the_keeper_twice_gives_the_same_image(architecture: Architecture) -> None:
    first = keeper_image(compiled_keeper(architecture), architecture)

    assert first == keeper_image(compiled_keeper(architecture), architecture)
    assert first.name == "berth/keeper:1"
    assert len(first.content) <= 20480


@pytest.mark.integration
def test_a_socket_goes_on_accepting_when_only_the_keeper_has_it(start: Start) -> None:
    keeper = start()
    listening = socket.create_server(("127.0.0.1", 0))
    place = listening.getsockname()
    with keeper.connect() as connected:
        assert ask(connected, b"Ka", listening) == b"K"
        identity = inode(listening)
    listening.close()

    with socket.create_connection(place, timeout=5) as waiting:
        waiting.send(b"hello")
        with keeper.connect() as connected:
            connected.send(b"R")
            _, (descriptor,), _, _ = socket.recv_fds(connected, 300, 4)
            with socket.socket(fileno=descriptor) as again:
                assert inode(again) == identity
                accepted, _ = again.accept()
                with accepted:
                    assert accepted.recv(10) == b"hello"


@pytest.mark.integration
def test_what_is_kept_under_a_name_is_replaced_and_forgotten_by_it(
    start: Start, sockets: list[socket.socket]
) -> None:
    keeper = start()
    with keeper.connect() as connected:
        for name, each in zip((b"a", b"b", b"c", b"b"), sockets, strict=False):
            assert ask(connected, b"K" + name, each) == b"K"
        assert recovered(connected) == {
            b"a": inode(sockets[0]),
            b"b": inode(sockets[3]),
            b"c": inode(sockets[2]),
        }
        assert ask(connected, b"Fa") == b"F"
        assert ask(connected, b"Fnothing") == b"F"
        assert recovered(connected) == {b"b": inode(sockets[3]), b"c": inode(sockets[2])}
    with keeper.connect() as another:
        assert set(recovered(another)) == {b"b", b"c"}


@pytest.mark.integration
def test_it_says_which_one_it_is(start: Start) -> None:
    with start().connect() as connected:
        assert ask(connected, b"H") == b"H" + VERSION.encode()


@pytest.mark.integration
@pytest.mark.parametrize("request_", [b"X", b"K", b"Kname", b"k", b"K" + 200 * b"n"])
def test_whoever_asks_for_something_else_is_hung_up_on_and_nobody_else_is(
    start: Start, request_: bytes
) -> None:
    keeper = start()
    with keeper.connect() as good, keeper.connect() as bad:
        assert ask(bad, request_) == b""
        assert ask(good, b"H") == b"H" + VERSION.encode()


@pytest.mark.integration
def test_descriptors_that_nobody_asked_it_to_keep_are_closed(
    start: Start, sockets: list[socket.socket]
) -> None:
    keeper = start()
    before = open_files(keeper)
    for request_, sent in ((b"H", sockets[:1]), (b"Kname", sockets[:2]), (b"X", sockets[:1])):
        with keeper.connect() as connected:
            assert ask(connected, request_, *sent) == b""
    with keeper.connect() as connected:
        assert recovered(connected) == {}
        assert open_files(keeper) == before + 1


@pytest.mark.integration
def test_there_is_room_for_so_many_and_no_more(start: Start, sockets: list[socket.socket]) -> None:
    keeper = start()
    with keeper.connect() as connected:
        for number, each in enumerate(sockets[:MOST]):
            assert ask(connected, b"K%d" % number, each) == b"K"
        assert ask(connected, b"Kone too many", sockets[MOST]) == b""
    with keeper.connect() as connected:
        assert len(recovered(connected)) == MOST


@pytest.mark.integration
def test_another_user_is_hung_up_on(start: Start) -> None:
    keeper = start()
    keeper.path.chmod(0o777)
    asking = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.settimeout(5)\n"
        "os.chdir(sys.argv[1]); os.setgid(65534); os.setuid(65534)\n"
        "s.connect('socket')\n"
        "try:\n    s.send(b'R'); print(s.recv(300))\n"
        "except OSError as error:\n    print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", asking, str(keeper.path.parent)],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.strip() in {"b''", "BrokenPipeError", "ConnectionResetError"}


@pytest.mark.integration
def test_it_ends_when_nobody_has_been_connected_for_its_time_and_not_before(start: Start) -> None:
    keeper = start("1", "short 1")
    with keeper.connect() as connected:
        time.sleep(2.5)
        assert ask(connected, b"H") == b"Hshort 1"
    began = time.monotonic()
    assert keeper.process.wait(10) == 0
    assert time.monotonic() - began < 5


@pytest.mark.integration
def test_a_newer_one_takes_the_door_over_and_the_older_one_can_be_told_to_end(
    start: Start, sockets: list[socket.socket]
) -> None:
    older = start("300", "older 300")
    with older.connect() as to_older:
        ask(to_older, b"Ka", sockets[0])
        newer = start("300", "newer 300")
        with newer.connect() as to_newer:
            assert ask(to_newer, b"H") == b"Hnewer 300"
            assert recovered(to_newer) == {}
        assert recovered(to_older) == {b"a": inode(sockets[0])}
        assert ask(to_older, b"E") == b"E"
    assert older.process.wait(10) == 0
    with newer.connect() as to_newer:
        assert ask(to_newer, b"H") == b"Hnewer 300"


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_0_when_it_is_told(start: Start, number: signal.Signals) -> None:
    keeper = start()
    keeper.process.send_signal(number)
    assert keeper.process.wait(5) == 0


@pytest.mark.integration
@pytest.mark.parametrize("arguments", [("300",), ("0", "v"), ("5m", "v"), ("99999999999999999999", "v")])
def test_arguments_that_make_no_sense_are_refused(start: Start, arguments: tuple[str, ...]) -> None:
    assert start(*arguments).process.wait(5) == 2


@pytest.mark.integration
def test_it_needs_a_few_kilobytes_and_no_processor_time(start: Start) -> None:
    keeper = start()
    with keeper.connect() as connected:
        ask(connected, b"H")
        time.sleep(0.3)
        status = Path(f"/proc/{keeper.process.pid}/status").read_text()
        ticks = Path(f"/proc/{keeper.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    assert int(status.split("VmRSS:")[1].split()[0]) <= 64
    assert [int(tick) for tick in ticks] <= [1, 1]


def open_files(keeper: RunningKeeper) -> int:
    return len(list(Path(f"/proc/{keeper.process.pid}/fd").iterdir()))
