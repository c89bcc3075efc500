"""The keeper program without Docker: in a directory of its own as root directory, and how one talks to it."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from pause.build import KEEPER_SOURCE, compile_program, find_compiler
from pause.image import Architecture

NATIVE: Architecture = "arm64" if os.uname().machine == "aarch64" else "amd64"
VERSION = "test 300"


def compiled_keeper(architecture: Architecture = NATIVE) -> bytes:
    compiler = find_compiler(architecture)
    assert compiler is not None, f"no compiler for {architecture}"
    return compile_program(compiler, architecture, KEEPER_SOURCE)


class RunningKeeper:
    """A keeper whose root directory is ``place``. It needs root for that."""

    def __init__(self, place: Path, *arguments: str, program: Path | None = None) -> None:
        (place / "keep").mkdir(parents=True, exist_ok=True)
        if program is None:
            program = place / "keeper"
            if not program.exists():
                program.write_bytes(compiled_keeper())
                program.chmod(0o755)
        else:
            shutil.copy2(program, place / "keeper")
        self.path = place / "keep/socket"
        before = self._identity()
        self.process = subprocess.Popen(["chroot", str(place), "/keeper", *(arguments or ("300", VERSION))])
        until = time.monotonic() + 10
        while self._identity() in (None, before):
            if self.process.poll() is not None:
                break
            assert time.monotonic() < until, "the keeper does not listen"
            time.sleep(0.005)

    def connect(self) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connected.settimeout(5)
        directory = os.open(self.path.parent, os.O_PATH)
        try:
            connected.connect(f"/proc/self/fd/{directory}/{self.path.name}")
        finally:
            os.close(directory)
        return connected

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def _identity(self) -> int | None:
        try:
            return self.path.stat().st_ino
        except FileNotFoundError:
            return None


def ask(connected: socket.socket, request: bytes, *sockets: socket.socket) -> bytes:
    """One request with one answer; empty: it has hung up."""
    socket.send_fds(connected, [request], [each.fileno() for each in sockets])
    try:
        return connected.recv(300)
    except ConnectionResetError:
        return b""


def recovered(connected: socket.socket) -> dict[bytes, int]:
    """What it gives back: the inode of each socket by its name."""
    connected.send(b"R")
    found: dict[bytes, int] = {}
    while True:
        packet, descriptors, _, _ = socket.recv_fds(connected, 300, 4)
        for descriptor in descriptors:
            found[packet[1:]] = os.fstat(descriptor).st_ino
            os.close(descriptor)
        if packet == b"R":
            return found
        assert packet[:1] == b"S"
