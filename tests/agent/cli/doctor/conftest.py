import json
import os
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.host.inside import Way
from agent.cli.doctor.asking import Reached
from agent.cli.doctor.facts import Done, Facts
from agent.settings import Settings, environment


class Docker:
    """A Docker that answers on a socket of its own what a test has put into ``answers``; ``is_silent``: never."""

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, tuple[int, Any]] = {
            "/_ping": (200, "OK"),
            "/info": (200, {"CgroupVersion": "2", "CgroupDriver": "systemd", "LiveRestoreEnabled": True}),
            "/version": (200, {"Version": "27.0.1", "ApiVersion": "1.46"}),
            "/containers/json": (200, []),
        }
        self.asked: list[str] = []
        self.silence = threading.Event()
        self.is_silent = False
        outer = self

        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                outer.asked.append(f"{self.command} {self.path}")
                if outer.is_silent:
                    outer.silence.wait(20)
                    return
                status, document = outer.answers.get(path, (404, {"message": f"no {path}"}))
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_DELETE(self) -> None:
                self.do_GET()

            def do_POST(self) -> None:
                self.do_GET()

            def address_string(self) -> str:
                return "test"

            def log_message(self, *_: object) -> None:
                return None

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                return None

        self.host = f"unix://{path}"
        self.server = Server(str(path), Answering)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def end(self) -> None:
        self.silence.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class World:
    """A machine as a tree of files, programs with canned answers, and a Docker."""

    def __init__(self, root: Path, settings: Settings, docker: Docker) -> None:
        self.root = root
        self.settings = settings
        self.docker = docker
        self.programs: dict[str, Done | Exception] = {}
        self.ran: list[tuple[str, ...]] = []
        self.free = 0.5
        self.inodes = 0.5
        self.read_only = False
        self.now = 1_800_000_000.0
        self.is_synchronised: bool | None = True
        self.refused: dict[str, str] = {}
        self.ways: dict[str, Way] = {}
        self.reached: dict[str, Reached] = {}
        self.environ: dict[str, str] = {}
        self.hung_up: list[int] = []

    def file(self, path: str, text: str = "") -> Path:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return place

    def choose(self, **more: Any) -> None:
        self.settings = replace(self.settings, **more)

    def process(self, pid: int, name: str, groups: str = "") -> None:
        self.file(f"proc/{pid}/comm", f"{name}\n")
        self.file(f"proc/{pid}/cmdline", f"/usr/sbin/{name}\0--flag\0")
        self.file(f"proc/{pid}/cgroup", groups)

    def facts(self) -> Facts:
        return Facts(
            self.settings,
            environ=self.environ,
            root=self.root,
            run=self._run,
            disk=self._disk,
            now=lambda: self.now,
            is_synchronised=lambda: self.is_synchronised,
            refused_links=lambda: self.refused,
            way_to=lambda address, _: self.ways.get(address, Way("", "a blackhole")),
            look_at=lambda url, _: self.reached[url],
            hang_up=self.hung_up.append,
        )

    def _run(self, words, text="", **variables):
        self.ran.append(tuple(words))
        answer = self.programs.get(words[0].rpartition("/")[2])
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return answer(words, text, variables)
        return answer

    def _disk(self, _path):
        blocks, files = 10_000_000, 1_000_000
        return os.statvfs_result(
            (
                4096,
                4096,
                blocks,
                int(blocks * self.free),
                int(blocks * self.free),
                files,
                int(files * self.inodes),
                int(files * self.inodes),
                os.ST_RDONLY if self.read_only else 0,
                255,
            )
        )


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[Docker]:
    docker = Docker(tmp_path / "d.sock")
    yield docker
    docker.end()


@pytest.fixture
def world(tmp_path: Path, data_directory: Path, docker: Docker) -> World:
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    (root / "sys/class/net").mkdir(parents=True)
    settings = replace(Settings.load(environment()), docker_host=docker.host, data_directory=Path("/data"))
    return World(root, settings, docker)
