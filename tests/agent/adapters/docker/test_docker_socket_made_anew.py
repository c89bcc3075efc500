"""A container has mounted the socket of a daemon that has made another one since then."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent.adapters.docker.dial import connect

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK"


def serve(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def answer() -> None:
        while True:
            taken, _ = listening.accept()
            with taken:
                taken.recv(4096)
                taken.sendall(ANSWER)

    threading.Thread(target=answer, daemon=True).start()
    return listening


def test_where_nobody_listens_and_the_socket_is_still_there_the_refusal_stands(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
    with socket.socket(socket.AF_UNIX) as asking, pytest.raises(ConnectionRefusedError):
        connect(asking, str(path))
    with socket.socket(socket.AF_UNIX) as asking, pytest.raises(FileNotFoundError):
        connect(asking, str(tmp_path / "none"))


IN_A_CONTAINER = """
import subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from agent.adapters.docker import dial, transport
from agent.cli.dockerd import Dockerd
from tests.agent.adapters.docker.test_docker_socket_made_anew import serve

place = Path(sys.argv[1])
outside, inside = place / "machine/run/docker.sock", place / "run/docker.sock"
outside.parent.mkdir(parents=True)
inside.parent.mkdir()
inside.touch()
(place / "var").symlink_to(".")
first = serve(outside)
subprocess.run(["mount", "--bind", outside, inside], check=True)
dial.MACHINE = str(place / "machine")
real = dial.os.path.realpath
dial.os.path.realpath = lambda path: real(path).removeprefix(str(place))
host = f"unix://{place}/var/run/docker.sock"
print(transport.new_client(host, "1.41", 5).ping())
first.close()
outside.unlink()
second = serve(outside)
print(transport.new_client(host, "1.41", 5).ping(), Dockerd(host).get("/_ping"))
"""


@pytest.mark.integration
def test_the_new_socket_is_found_through_the_root_of_the_machine(tmp_path: Path) -> None:
    tree = Path(__file__).resolve().parents[4]
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", IN_A_CONTAINER, str(tmp_path), str(tree)],
        capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "PYTHONPATH": str(tree)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "True\nTrue OK\n"), done.stderr
