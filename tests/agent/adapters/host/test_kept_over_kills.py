"""A process that serves is killed while somebody connects every 5 ms: nobody is refused, all are answered."""

import asyncio
import os
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from docker import APIClient

from pause.image import File, Folder, ImageConfig, build_image
from tests.availability import OK, RESET, Asking, ask, end_keepers
from tests.pause.keeping import NATIVE, compiled_keeper

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[4]
KILLS = 3


@pytest.fixture
def image(tmp_path):
    unique = uuid.uuid4().hex[:12]
    config = ImageConfig(NATIVE, ("/keeper",), environment={"UNIQUE": unique})
    program = File("/keeper", compiled_keeper(), mode=0o555)
    made = build_image(f"berth-test/keeper:{unique}", config, [program, Folder("/keep", 0o700)])
    (tmp_path / "keeper.tar").write_bytes(made.content)
    client = APIClient(version="auto")
    yield made
    end_keepers(client, tmp_path / "keeper")
    client.remove_image(made.name, force=True)
    client.close()


class Servers:
    """Processes on one port, one after the other; each says so when its socket is kept."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.processes = []

    def start(self, command, **options):
        self.processes.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, **options)
        )
        assert self.processes[-1].stdout.readline() == "kept\n"
        return self.processes[-1], self.port

    def end(self):
        for each in self.processes:
            each.kill()
            each.wait()
            each.stdout.close()


@pytest.fixture
def servers():
    servers = Servers()
    yield servers
    servers.end()


@pytest.fixture
def start(tmp_path, image, servers):
    command = [
        *(sys.executable, "-m", "tests.agent.adapters.host.kept_server"),
        *("container", str(servers.port), str(tmp_path / "keeper")),
        *(image.image_id, image.name, str(tmp_path / "keeper.tar")),
    ]
    return lambda: servers.start(command)


class Store:
    """What systemd does with a unit that has a descriptor store: takes sockets, and hands them to the next."""

    def __init__(self):
        self.address = f"berth-test-{uuid.uuid4().hex}"
        self.kept = {}
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._end.bind(f"\0{self.address}")
        self._end.setblocking(False)

    def listen(self):
        while True:
            try:
                text, descriptors, _, _ = socket.recv_fds(self._end, 4096, 4)
            except BlockingIOError:
                return
            words = dict(line.split("=", 1) for line in text.decode().splitlines())
            if "FDSTOREREMOVE" in words and words["FDNAME"] in self.kept:
                os.close(self.kept.pop(words["FDNAME"]))
            for descriptor in descriptors:
                self.kept[words["FDNAME"]] = descriptor

    def environment(self):
        assert len(self.kept) <= 1, "the script below hands over one descriptor"
        handed = (
            {"LISTEN_FDS": str(len(self.kept)), "LISTEN_FDNAMES": ":".join(self.kept)} if self.kept else {}
        )
        return {**os.environ, "NOTIFY_SOCKET": f"@{self.address}", **handed}

    def close(self):
        self._end.close()
        for descriptor in self.kept.values():
            os.close(descriptor)


_AS_UNIT = """
export LISTEN_PID=$$
[ -z "$1" ] || exec 3<&"$1"
shift
exec "$@"
"""


@pytest.fixture
def start_as_unit(servers):
    store = Store()

    def launch():
        store.listen()
        assert bool(store.kept) == bool(servers.processes)
        handed = list(store.kept.values())
        command = [
            *("bash", "-c", _AS_UNIT, "sh", "".join(map(str, handed))),
            *(sys.executable, "-m", "tests.agent.adapters.host.kept_server", "systemd", str(servers.port)),
        ]
        return servers.start(command, env=store.environment(), pass_fds=handed)

    yield launch
    store.close()


def until_it_keeps_up(port):
    """Who waited has been answered: a kill in the middle of that would cut off many."""
    until, quick = time.monotonic() + 60, 0
    while quick < 5:
        assert time.monotonic() < until, "it does not keep up"
        began = time.monotonic()
        assert asyncio.run(ask("127.0.0.1", port, "/")) == OK
        quick = quick + 1 if time.monotonic() - began < 0.1 else 0
        time.sleep(0.05)


def test_nobody_is_refused_while_the_process_that_serves_is_killed_again_and_again(start):
    be_killed_again_and_again(start)


def test_the_same_is_so_with_the_descriptor_store_of_systemd(start_as_unit):
    be_killed_again_and_again(start_as_unit)


def be_killed_again_and_again(start):
    process, port = start()
    with Asking("127.0.0.1", port, "/", every=0.005) as asking:
        time.sleep(0.5)
        for _ in range(KILLS):
            process.kill()
            process.wait()
            process, _ = start()
            until_it_keeps_up(port)
    found = asking.findings
    assert len(found.questions) > 200
    # At the very moment of a kill, one may be cut off in the middle of its answer.
    assert set(found.outcomes) <= {OK, RESET}, found.outcomes
    assert found.count(RESET) <= 2 * KILLS, found.outcomes
    assert found.longest < 30
