"""The scripts that prepare a machine: they do nothing when all is there, and say what to do when they cannot."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SYSTEM_TOOLS = [
    "sh",
    "cat",
    "id",
    "mktemp",
    "rm",
    "tail",
    "timeout",
    "dirname",
    "date",
    "sleep",
    "grep",
    "awk",
    "mkdir",
    "python3",
]


class Machine:
    """A machine that has exactly the commands the test gives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self.calls.touch()
        self.bin = folder / "bin"
        self.bin.mkdir()
        (folder / "deploy").mkdir()
        for script in ("docker.sh", "packages.sh", "registry.sh"):
            (folder / "deploy" / script).write_text((ROOT / "deploy" / script).read_text())
        for tool in SYSTEM_TOOLS:
            real = subprocess.run(
                ["sh", "-c", f"command -v {tool}"], capture_output=True, text=True, check=True
            )
            self.has(tool, f'exec {real.stdout.strip()} "$@"', log=False)
        self.has("python3", f'exec {sys.executable} "$@"', log=False)

    def has(self, command: str, script: str, log: bool = True) -> None:
        path = self.bin / command
        noted = f'echo "{command} $*" >>{self.calls}\n' if log else ""
        path.write_text(f"#!/bin/sh\n{noted}{script}\n")
        path.chmod(0o755)

    def has_packages(self, *names: str) -> None:
        known = " | ".join(names) or "none"
        self.has(
            "dpkg-query", f"for last; do :; done; case $last in {known}) echo installed ;; esac", log=False
        )

    def runs(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", self.folder / "deploy" / script, *arguments],
            env={"PATH": str(self.bin), **environment},
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

    def called(self, command: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if line.startswith(f"{command} ")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    prepared = Machine(tmp_path)
    prepared.has("id", "echo 0", log=False)
    prepared.has("apt-get", "exit 0")
    prepared.has_packages("iproute2", "iptables", "nftables")
    return prepared


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Path]:
    """Something on a socket that answers a ping as Docker does."""
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nOK")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield path
        thread.join(timeout=5)


def test_packages_that_are_there_are_not_mentioned(machine: Machine) -> None:
    done = machine.runs("packages.sh", "iproute2", "nftables")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.called("apt-get") == []


def test_only_what_is_missing_is_installed_and_it_is_said_first(machine: Machine) -> None:
    done = machine.runs("packages.sh", "iproute2", "podman", "gcc")

    assert done.returncode == 0
    assert done.stdout == "packages: installing with apt: podman gcc\n"
    update, install = machine.called("apt-get")
    assert update.endswith(" update")
    assert install.endswith(" install --yes --no-install-recommends podman gcc")


def test_a_failed_install_shows_what_apt_said(machine: Machine) -> None:
    machine.has("apt-get", "echo 'E: Unable to locate package'; exit 100")

    done = machine.runs("packages.sh", "podman")

    assert done.returncode == 1
    assert done.stderr.endswith("E: Unable to locate package\npackages: apt-get could not install: podman\n")


def test_a_stale_package_list_is_no_reason_to_stop(machine: Machine) -> None:
    machine.has("apt-get", 'case "$*" in *update) exit 100 ;; esac')

    assert machine.runs("packages.sh", "podman").returncode == 0


def test_without_root_the_command_to_run_is_named(machine: Machine) -> None:
    machine.has("id", "echo 1000", log=False)

    done = machine.runs("packages.sh", "podman")

    assert done.returncode == 1
    assert done.stderr == "packages: missing: podman; run as root: apt-get install podman\n"
    assert machine.called("apt-get") == []


def test_without_apt_the_missing_packages_are_named(machine: Machine) -> None:
    (machine.bin / "apt-get").unlink()

    done = machine.runs("packages.sh", "podman")

    assert done.returncode == 1
    assert "missing: podman; this is not a Debian" in done.stderr


def test_a_daemon_that_answers_is_used_as_it_is(machine: Machine) -> None:
    machine.has("docker", "echo 20.10.24")
    machine.has("dockerd", "exit 1")

    done = machine.runs("docker.sh")

    assert (done.returncode, done.stdout) == (0, "docker: version 20.10.24 answers\n")
    assert machine.called("apt-get") + machine.called("dockerd") == []


def test_a_docker_host_that_does_not_answer_is_not_replaced_by_a_daemon_of_ours(machine: Machine) -> None:
    machine.has("docker", "exit 1")
    machine.has("dockerd", "exit 1")

    done = machine.runs("docker.sh", DOCKER_HOST="tcp://192.0.2.1:2376")

    assert done.returncode == 1
    assert "nothing answers on DOCKER_HOST=tcp://192.0.2.1:2376" in done.stderr
    assert machine.called("apt-get") + machine.called("dockerd") == []


def test_a_daemon_without_the_docker_command_is_said_and_not_disturbed(
    machine: Machine, daemon: Path
) -> None:
    done = machine.runs("docker.sh", DOCKER_HOST=f"unix://{daemon}")

    assert done.returncode == 1
    assert "there is no docker command" in done.stderr
    assert machine.called("apt-get") == []


def test_without_root_no_daemon_is_started(machine: Machine) -> None:
    machine.has("id", "echo 1000", log=False)
    machine.has("docker", "exit 1")

    done = machine.runs("docker.sh")

    assert done.returncode == 1
    assert done.stdout == "docker: no daemon answers on /var/run/docker.sock\n"
    assert "run this as root" in done.stderr


@pytest.mark.parametrize("script", ["deploy/docker.sh", "deploy/packages.sh", ".ci/run"])
def test_the_scripts_can_be_executed_and_stop_at_the_first_error(script: str) -> None:
    path = ROOT / script

    assert os.access(path, os.X_OK)
    assert "\nset -eu" in path.read_text()
    subprocess.run(["bash", "-n", path], check=True)


def test_make_alone_explains_every_target() -> None:
    done = subprocess.run(["make", "-C", ROOT], capture_output=True, text=True, check=True)

    explained = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}
    expected = (
        "help venv docker build plugins pause image demo-images format lint types imports docs docs-check unit check "
        "test bench demo demo-down run clean"
    )
    assert explained == set(expected.split())


def test_the_runs_on_real_docker_come_last_so_that_their_summaries_are_what_one_sees() -> None:
    done = subprocess.run(["make", "-C", ROOT, "-n", "test"], capture_output=True, text=True, check=True)

    steps = [line for line in done.stdout.splitlines() if not line.startswith("make")]
    assert steps[-1] == ".venv/bin/python -m tests.lanes"
    assert any("deploy.image.build" in line for line in steps)
    assert any("not integration and not e2e" in line for line in steps)
    assert [line for line in (ROOT / ".ci/run").read_text().splitlines() if line][
        -1
    ] == "exec make test </dev/null"


_DOWNLOADS = 'case "$*" in *download*) : >docker-registry_2_amd64.deb ;; esac'


def test_a_registry_that_is_there_is_used(machine: Machine) -> None:
    machine.has("docker-registry", "exit 0")

    done = machine.runs("registry.sh")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.called("apt-get") == []


def test_a_registry_is_unpacked_and_never_installed(machine: Machine) -> None:
    machine.has("apt-get", _DOWNLOADS)
    machine.has("dpkg-deb", "exit 0")

    done = machine.runs("registry.sh")

    assert done.returncode == 0, done.stderr
    assert [line.split()[-2:] for line in machine.called("apt-get")] == [["download", "docker-registry"]]
    assert machine.called("dpkg-deb") == [
        "dpkg-deb --extract build/registry/docker-registry_2_amd64.deb build/registry"
    ]
    assert list((machine.folder / "build" / "registry").iterdir()) == []  # the package itself goes again


def test_a_registry_is_fetched_again_when_the_package_list_was_stale(machine: Machine) -> None:
    machine.has(
        "apt-get",
        f'case "$*" in *update) : >{machine.folder}/new ;; *) [ -e {machine.folder}/new ] || exit 100 ;; esac\n'
        + _DOWNLOADS,
    )
    machine.has("dpkg-deb", "exit 0")

    assert machine.runs("registry.sh").returncode == 0
    assert [line.split()[-1] for line in machine.called("apt-get")] == [
        "docker-registry",
        "update",
        "docker-registry",
    ]


def test_a_registry_that_cannot_be_had_is_told_with_what_apt_said(machine: Machine) -> None:
    machine.has("apt-get", "echo 'E: Unable to locate package'; exit 100")
    machine.has("dpkg-deb", "exit 0")

    done = machine.runs("registry.sh")

    assert done.returncode == 1
    assert done.stderr.endswith(
        "E: Unable to locate package\nregistry: apt-get could not download docker-registry\n"
    )
    assert machine.called("dpkg-deb") == []


def test_a_registry_without_debians_tools_is_told(machine: Machine) -> None:
    done = machine.runs("registry.sh")

    assert done.returncode == 1
    assert "no dpkg-deb" in done.stderr
