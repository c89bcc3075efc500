"""The agent as the documents install it: ``docker run``, ``/etc/ecs/ecs.config``, nothing that only a test would want."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.agent_container import IMAGE, MOUNTS, NAME, PRIVILEGED, docker, run_line
from tests.e2e.agent_process import Agent, Untrue, eventually
from tests.e2e.ecs.cluster import EcsAgent

ENV_FILE = Path("/etc/ecs/ecs.config")
DATA = Path("/var/lib/ecs/data")
_CHOSEN_BY_THE_IMAGE = ("ECS_DATADIR", "BERTH_RUN_DIRECTORY")


class InstalledAgent(Agent):
    """One installation. What a test changes before ``start``: ``image``, ``rights``, ``mounts``, ``more``."""

    def __init__(self, place: Path, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(place, settings=settings, in_container=True)
        assert not ENV_FILE.exists(), f"{ENV_FILE} is there: an agent is installed on this machine"
        ENV_FILE.parent.mkdir(parents=True, exist_ok=True)
        self.env_file = ENV_FILE
        self.data = DATA
        for name in _CHOSEN_BY_THE_IMAGE:
            del self.settings[name]
        self.image = IMAGE
        self.rights: Sequence[str] = PRIVILEGED
        self.mounts: Sequence[str] = MOUNTS
        self.more: Sequence[str] = ()

    # -- its life ------------------------------------------------------------------------------

    def launch(self) -> None:
        """``docker run``, as it is written in the documents."""
        self.env_file.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))
        docker(
            *run_line(self.env_file, image=self.image, rights=self.rights, mounts=self.mounts, more=self.more)
        )

    def ends(self, *, seconds: float = 20.0) -> int:
        """Start it and wait for its end; the exit code. What it said is in ``words``."""
        self.launch()
        eventually("the agent ends", lambda: not self.is_running, seconds=seconds)
        return int(self.state("ExitCode"))

    def wait_ready(self, *, seconds: float = 30.0) -> None:
        """Until it answers (again)."""
        try:
            eventually("the agent is ready", self._answers, seconds=seconds)
        except Untrue as error:
            tail = self.words()[-2000:]
            raise Untrue(
                f"{error}; its container is {self.state('Status')}, its log ends with:\n{tail}"
            ) from error

    def kill(self) -> None:
        """``kill -9`` of the agent's process, past Docker; to Docker it has ended, or runs anew, on return."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        # Until then ``docker start`` would do nothing, and say that all is well.
        eventually("Docker knows that it is dead", lambda: self.pid != pid, seconds=20)

    def stop(self) -> int:
        """``docker stop``; the exit code. Fine if there is none."""
        if not self.is_made:
            return 0
        docker("stop", "--time", "20", NAME)
        return int(self.state("ExitCode"))

    def remove(self) -> None:
        """``docker rm``."""
        docker("rm", "--volumes", NAME)

    def uninstall(self) -> None:
        """Nothing of it is left but what Docker keeps for tasks."""
        self.close()
        subprocess.run(("docker", "rm", "--force", "--volumes", NAME), capture_output=True, check=False)
        ENV_FILE.unlink(missing_ok=True)
        shutil.rmtree(DATA, ignore_errors=True)
        shutil.rmtree("/var/log/ecs", ignore_errors=True)

    # -- what it shows -------------------------------------------------------------------------

    @property
    def is_made(self) -> bool:
        """There is a container of its name."""
        done = subprocess.run(("docker", "inspect", NAME), capture_output=True, check=False)
        return done.returncode == 0

    @property
    def is_running(self) -> bool:
        return self.is_made and self.state("Status") == "running"

    @property
    def pid(self) -> int:
        return int(self.state("Pid"))

    def state(self, name: str) -> str:
        """One field of the state of its container."""
        return docker("inspect", "--format", "{{.State.%s}}" % name, NAME)  # noqa: UP031 - braces are Docker's

    def words(self) -> str:
        """Everything that it said on both streams."""
        done = subprocess.run(
            ("docker", "logs", NAME),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=True,
        )  # fmt: skip
        return done.stdout

    def lines(self) -> list[dict[str, Any]]:
        """Its log, as far as it is JSON."""
        self.log_file.write_text(self.words())
        return super().lines()

    def environment(self) -> dict[str, str]:
        """A command line on the machine finds the installed agent's keys."""
        return {**super().environment(), "ECS_DATADIR": str(DATA)}

    def inside(self, *words: str) -> subprocess.CompletedProcess[str]:
        """``docker exec ecs-agent ...``."""
        return subprocess.run(
            ("docker", "exec", NAME, *words),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def _is_ready(self) -> bool:
        if not self.is_running and self.state("Restarting") != "true":
            raise Untrue("the agent has ended; its log ends with:\n" + self.words()[-2000:])
        return self._answers()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.get("/v1/metadata")[0] == 200
        return False


class InstalledEcsAgent(InstalledAgent, EcsAgent):
    """One installation that belongs to a cluster."""


def processes_of(pid: int) -> dict[int, str]:
    """State letter of every process that descends from this one, itself among them."""
    parents, states = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            number = int(stat.parent.name)
            parents[number], states[number] = int(fields[1]), fields[0]
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return {number: states[number] for number in family if number in states}


def wait_changed(what: str, before: object, look: Any, *, seconds: float = 20.0) -> Any:
    """What ``look`` returns as soon as it is not ``before``."""
    until = time.monotonic() + seconds
    while (now := look()) == before:
        if time.monotonic() > until:
            raise Untrue(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)
    return now
