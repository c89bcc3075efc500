"""The built image on a real Docker: nothing that is needed was taken out, and it behaves as process 1."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import __version__
from deploy.image.build import IMAGE_TAG
from deploy.image.contents import SERVICES

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/lib/berth/venv/bin/python3"
PROGRAM = "/usr/lib/berth/app/start.py"
MOST_BYTES = 160_000_000

# Stands in for the agent, which refuses to run where these tests put it.
WAITS_FOR_TERM = """
import signal, sys
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
print("ready", flush=True)
while True:
    signal.pause()
"""

Start = Callable[..., str]


def run(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments], input=given, capture_output=True, text=True, timeout=120, check=False
    )


def docker(*arguments: str, given: str | None = None) -> str:
    done = run(*arguments, given=given)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image() -> str:
    """The image as it was built for this tree; built now if there is none."""
    if run("image", "inspect", IMAGE_TAG).returncode != 0:
        build = [sys.executable, "-m", "deploy.image.build"]
        done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=580, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return IMAGE_TAG


@pytest.fixture
def inside(image: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program of the image to its end, with no network."""

    def run_inside(
        program: str, *arguments: str, given: str | None = None, options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        words = ("run", "--rm", "--interactive", "--network", "none", "--label", "berth.test=image")
        return run(*words, *options, "--entrypoint", program, image, *arguments, given=given)

    return run_inside


@pytest.fixture
def start(image: str, tmp_path: Path) -> Iterator[Start]:
    """Starts a container whose agent is replaced by the given program; waits for its first line."""
    names: list[str] = []

    def start_container(program: str, *options: str, arguments: tuple[str, ...] = ()) -> str:
        source = tmp_path / "start.py"
        source.write_text(program)
        names.append(f"berth-test-{uuid.uuid4().hex[:12]}")
        mount = f"{source}:{PROGRAM}:ro"
        words = ("run", "--detach", "--network", "none", "--name", names[-1], "--volume", mount)
        docker(*words, *options, image, *arguments)
        end = time.monotonic() + 30
        while not docker("logs", names[-1]):
            assert time.monotonic() < end, "the program in the container says nothing"
            time.sleep(0.1)
        return names[-1]

    yield start_container
    for name in names:
        run("rm", "--force", "--volumes", name)


def orphan_in(container: str) -> None:
    """Leave a process behind that has no parent but process 1, and ends soon after."""
    docker("exec", container, "sh", "-c", "(sleep 0.2 &)")
    time.sleep(1)


def zombies_in(container: str) -> list[str]:
    shown = docker("exec", container, "sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null || true")
    return [line for line in shown.splitlines() if line.rpartition(")")[2].split()[0] == "Z"]


def test_the_labels_tell_what_it_is(image: str) -> None:
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", image))
    told = {name.removeprefix("org.opencontainers.image."): text for name, text in labels.items()}

    assert told["title"] == "berth"
    assert told["version"] == __version__
    assert told["licenses"] == "Apache-2.0"
    assert told["revision"]


def test_it_is_small(image: str) -> None:
    assert int(docker("image", "inspect", "--format", "{{.Size}}", image)) < MOST_BYTES


def test_its_version_is_that_of_the_tree(image: str) -> None:
    assert docker("run", "--rm", "--network", "none", image, "version") == f"berth {__version__}"


def test_nothing_in_it_compiles_or_installs(inside: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    tools = ("gcc", "cc", "ld", "as", "make", "pip", "pip3", "apt-get", "perl", "curl", "wget")
    looks = f"for tool in {' '.join(tools)}; do command -v $tool; done; ls -d /etc/apt /tmp/*; true"

    assert inside("sh", "-c", looks).stdout == ""
    assert inside(PYTHON, "-c", "import pip").returncode == 1


def test_every_program_and_extension_finds_its_libraries(
    inside: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    looks = (
        "find / -xdev \\( -path /proc -o -path /sys \\) -prune -o -type f "
        "\\( -name '*.so' -o -path '/usr/*bin/*' \\) -print | xargs ldd 2>/dev/null"
    )
    said = inside("sh", "-c", looks).stdout.splitlines()
    lost = {line.split()[0] for line in said if "not found" in line}

    assert len(said) > 500
    assert lost == set()


def test_every_module_of_the_agent_can_be_imported_and_every_client_made(
    inside: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    program = f"""
import importlib, pkgutil
import agent
names = [found.name for found in pkgutil.walk_packages(agent.__path__, "agent.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
import boto3
from agent.adapters.local.shapes import Shapes
for service in {SERVICES!r}:
    boto3.client(service, region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="y")
Shapes(["RunTask"], with_answers=True)
print(len(names))
"""
    done = inside(PYTHON, "-I", "-", given=program)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 200


def test_another_service_would_be_missed(inside: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    program = "import boto3; boto3.client('s3', region_name='eu-central-1')"

    assert "Unknown service: 's3'" in inside(PYTHON, "-I", "-c", program).stderr


def test_no_start_compiles_anything(inside: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    program = """
import importlib.util, pathlib, sys
places = [pathlib.Path(importlib.util.find_spec(name).origin).parents[1] for name in ("agent", "docker")]
assert len(set(places)) == 2
for path in [path for place in places for path in place.rglob("*.py")]:
    stored = pathlib.Path(importlib.util.cache_from_source(str(path)))
    # bytes 4 to 8 of the header: 1 is "by hash, and never compared" (PEP 552)
    if not stored.is_file() or stored.read_bytes()[:8] != importlib.util.MAGIC_NUMBER + bytes([1, 0, 0, 0]):
        print(path)
print("looked")
"""
    assert inside(PYTHON, "-I", "-", given=program).stdout == "looked\n"


@pytest.mark.parametrize("plugin", ["ecs-eni", "ecs-bridge", "ecs-ipam"])
def test_a_plugin_runs_and_tells_the_revision_of_the_image(
    inside: Callable[..., subprocess.CompletedProcess[str]], image: str, plugin: str
) -> None:
    path = f"/usr/lib/berth/cni/{plugin}"
    asked = inside(path, given="{}", options=("--env", "CNI_COMMAND=VERSION"))
    label = '{{index .Config.Labels "org.opencontainers.image.revision"}}'
    revision = docker("image", "inspect", "--format", label, image).partition("-")[0]

    assert "1.0.0" in json.loads(asked.stdout)["supportedVersions"]
    assert json.loads(inside(path, "--version").stdout)["gitShortHash"] == revision[:8]


def test_pause_for_this_machine_is_in_it(inside: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    program = """
import hashlib, json, pathlib
for path in pathlib.Path("/usr/lib/berth/pause").glob("pause-*.json"):
    told = json.loads(path.read_text())
    assert hashlib.sha256(path.with_name(told["archive"]).read_bytes()).hexdigest() == told["sha256"]
    print(told["architecture"])
"""
    native = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]

    assert native in inside(PYTHON, "-I", "-", given=program).stdout.split()


def test_the_tools_that_the_agent_runs_are_in_it(
    inside: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = inside("sh", "-c", "nft --version && nsenter --version && command -v systemctl")

    assert done.returncode == 0, done.stdout + done.stderr


def test_without_an_agent_it_is_not_healthy(image: str) -> None:
    assert run("run", "--rm", "--network", "none", image, "healthcheck").returncode == 1


def test_an_agent_without_what_it_needs_ends_for_good_through_process_1(image: str) -> None:
    done = run("run", "--rm", "--network", "none", image)

    assert done.returncode == 5, done.stderr
    assert "--privileged" in done.stdout + done.stderr


def test_as_process_1_it_reaps_orphans_and_ends_with_0_when_told(start: Start) -> None:
    container = start(WAITS_FOR_TERM)

    orphan_in(container)
    left = zombies_in(container)
    began = time.monotonic()
    docker("stop", "--time", "20", container)

    assert left == []
    assert docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0"
    assert time.monotonic() - began < 10


def test_python_alone_as_process_1_would_leave_the_orphans(start: Start) -> None:
    container = start(WAITS_FOR_TERM, "--entrypoint", PYTHON, arguments=("-I", PROGRAM))

    orphan_in(container)

    assert len(zombies_in(container)) == 1


def test_as_process_1_it_ends_as_the_agent_ends(start: Start) -> None:
    failing = start("print('ready', flush=True); raise SystemExit(7)")
    killed = start("import os; print('ready', flush=True); os.kill(os.getpid(), 9)")

    assert [docker("wait", name) for name in (failing, killed)] == ["7", "137"]


def test_with_the_pids_of_the_machine_nothing_stands_between_docker_and_the_agent(start: Start) -> None:
    container = start(WAITS_FOR_TERM, "--pid", "host")

    pid = docker("inspect", "--format", "{{.State.Pid}}", container)

    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    assert words[:4] == [PYTHON, "-I", PROGRAM, "agent"]
    docker("stop", "--time", "20", container)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0"
