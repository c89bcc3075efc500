import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.host.inside import Way
from agent.cli.doctor.asking import Reached
from agent.cli.doctor.facts import Done, Facts
from agent.settings import Settings, environment
from tests.fakes.docker_socket import DockerSocket


class World:
    """A machine as a tree of files, programs with canned answers, and a Docker."""

    def __init__(self, root: Path, settings: Settings, docker: DockerSocket) -> None:
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
def world(tmp_path: Path, data_directory: Path, docker: DockerSocket) -> World:
    root = tmp_path / "root"
    (root / "proc").mkdir(parents=True)
    (root / "sys/class/net").mkdir(parents=True)
    settings = replace(Settings.load(environment()), docker_host=docker.host, data_directory=Path("/data"))
    return World(root, settings, docker)
