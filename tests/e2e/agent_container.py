"""The agent in its image, started as its users start it: ``docker run`` with the mounts and options of the documents.

It answers to the same words as a process of Python's ``subprocess``, so that a test need not know which it has.
"""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

IMAGE = "berth/agent"
NAME = "ecs-agent"
MOUNTS = (
    "/var/run/docker.sock:/var/run/docker.sock",
    "/var/lib/ecs:/var/lib/ecs",
    "/var/log/ecs:/var/log/ecs",
    "/run/netns:/run/netns:shared",
    "/sys/fs/cgroup:/sys/fs/cgroup",
)
PRIVILEGED = ("--privileged",)
NAMESPACES = ("--net=host", "--pid=host")

PLUGINS_INSIDE = "/usr/lib/berth/cni"

ALTERED = Path(__file__).with_name("altered.py")
_ALTERED_INSIDE = "/altered.py"
_PYTHON_INSIDE = "/usr/lib/berth/venv/bin/python3"


def docker(*words: str, seconds: float = 60.0) -> str:
    """What ``docker ...`` prints. It must end with 0."""
    done = subprocess.run(
        ("docker", *words),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout.strip()


def run_line(
    env_file: Path,
    *,
    image: str = IMAGE,
    rights: Sequence[str] = PRIVILEGED,
    mounts: Sequence[str] = MOUNTS,
    more: Sequence[str] = (),
    words: Sequence[str] = (),
) -> list[str]:
    """The words after ``docker``, in the order of the documents. ``more``: what only a test needs."""
    given = [word for mount in mounts for word in ("-v", mount)]
    start = ["run", "-d", "--name", NAME, *rights, *NAMESPACES, "--env-file", str(env_file)]
    return [*start, *given, *more, image, *words]


class AgentContainer:
    """One run of the agent's container, from ``docker run`` until it has ended; then it is removed.

    ``place``: a directory that it sees under the same path, with what a test has put there.
    """

    def __init__(
        self,
        place: Path,
        env_file: Path,
        log_file: Path,
        environ: Mapping[str, str],
        *,
        image: str = IMAGE,
        rights: Sequence[str] = PRIVILEGED,
        alteration: str | None = None,
    ) -> None:
        more = ["-v", f"{place}:{place}"]
        for name, value in environ.items():
            more += ["-e", f"{name}={value}"]
        words: list[str] = []
        if alteration is not None:
            more += ["-v", f"{ALTERED}:{_ALTERED_INSIDE}:ro", "--entrypoint", _PYTHON_INSIDE]
            words = [_ALTERED_INSIDE, alteration, "agent"]
        self.args = run_line(env_file, image=image, rights=rights, more=more, words=words)
        self.returncode: int | None = None
        try:
            docker(*self.args)
        except AssertionError:
            docker("rm", "--force", NAME)  # what cannot be started is made all the same
            raise
        with log_file.open("ab") as log:
            self._log = subprocess.Popen(
                ("docker", "logs", "--follow", NAME), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._pid: int | None = None

    @property
    def pid(self) -> int:
        """The agent's process, which with ``--pid=host`` is one of this machine's."""
        if self._pid is None:
            self._pid = int(docker("inspect", "--format", "{{.State.Pid}}", NAME))
        return self._pid

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self.returncode is None and self._log.poll() is not None:
            self._collect(10)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit code, as soon as it has ended. Raise ``subprocess.TimeoutExpired``."""
        if self.returncode is None:
            until = time.monotonic() + timeout
            self._log.wait(timeout)  # the log ends when the container does, and then all of it has been read
            self._collect(max(1.0, until - time.monotonic()))
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the agent itself, past Docker."""
        if self.poll() is None and self.pid:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """``kill -9``."""
        self.send_signal(9)

    def _collect(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            state, code = docker("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", NAME).split()
            if state in {"exited", "dead"}:
                break
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(self.args, seconds)
            time.sleep(0.02)
        docker("rm", "--volumes", NAME)
        self.returncode = int(code)
