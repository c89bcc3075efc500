"""The pause image on a real Docker: its id is the predicted one, and a task can live in its namespaces."""

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.demo.build import find_busybox
from pause.build import compile_program, find_compiler
from pause.image import Architecture, File, Image, ImageConfig, Link, build_image

pytestmark = pytest.mark.integration

Start = Callable[..., str]


def docker(*arguments: str, stdin: bytes | None = None) -> str:
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr.decode()}"
    return done.stdout.decode().strip()


def server_architecture() -> Architecture:
    return "arm64" if docker("version", "--format", "{{.Server.Arch}}") == "arm64" else "amd64"


@pytest.fixture
def load() -> Iterator[Callable[[Image], None]]:
    names: list[str] = []

    def load_image(image: Image) -> None:
        names.append(image.name)
        docker("load", "--quiet", stdin=image.content)

    yield load_image
    for name in names:
        docker("image", "rm", "--force", name)


@pytest.fixture
def start() -> Iterator[Start]:
    names: list[str] = []

    def start_container(*arguments: str) -> str:
        names.append(f"berth-test-{uuid.uuid4().hex[:12]}")
        docker("run", "--detach", "--name", names[-1], *arguments)
        return names[-1]

    yield start_container
    for name in reversed(names):
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)


def a_pause_image() -> Image:
    """The product's program and settings, in an image of its own: nobody else's copy is ever removed."""
    architecture = server_architecture()
    compiler = find_compiler(architecture)
    assert compiler is not None
    unique = uuid.uuid4().hex
    config = ImageConfig(architecture, ("/pause",), user="65534:65534", environment={"UNIQUE": unique})
    program = File("/pause", compile_program(compiler, architecture), mode=0o555)
    return build_image(f"berth-test/pause:{unique}", config, [program])


def a_shell_image() -> Image:
    unique = uuid.uuid4().hex
    config = ImageConfig(server_architecture(), command=("/bin/sh",), environment={"UNIQUE": unique})
    tools = [Link(f"/bin/{name}", "busybox") for name in ("sh", "sleep", "ps")]
    busybox = File("/bin/busybox", find_busybox().read_bytes(), mode=0o755)
    return build_image(f"berth-test/shell:{unique}", config, [busybox, *tools])


def pid_of(container: str) -> int:
    return int(docker("inspect", "--format", "{{.State.Pid}}", container))


def test_docker_gives_the_loaded_image_the_predicted_id(load: Callable[[Image], None]) -> None:
    image = a_pause_image()

    load(image)

    [loaded] = json.loads(docker("image", "inspect", image.name))
    assert loaded["Id"] == image.image_id
    assert loaded["Architecture"] == image.architecture
    assert loaded["Size"] < 4096


def test_loading_twice_is_loading_once(load: Callable[[Image], None]) -> None:
    image = a_pause_image()

    load(image)
    load(image)

    assert docker("image", "ls", "--quiet", "--no-trunc", image.name) == image.image_id


def test_another_architecture_can_be_loaded_too(load: Callable[[Image], None]) -> None:
    native = a_pause_image()
    other: Architecture = "amd64" if native.architecture == "arm64" else "arm64"
    config = ImageConfig(other, ("/pause",))
    foreign = build_image(f"{native.name}-{other}", config, [File("/pause", b"for another machine")])

    load(foreign)

    assert json.loads(docker("image", "inspect", foreign.name))[0]["Architecture"] == other


@pytest.mark.parametrize("stop", [("stop", "--time", "20"), ("kill", "--signal", "INT")])
def test_the_container_ends_with_0_at_once_when_told(
    load: Callable[[Image], None], start: Start, stop: tuple[str, ...]
) -> None:
    image = a_pause_image()
    load(image)
    pause = start("--network", "none", image.name)

    began = time.monotonic()
    docker(*stop, pause)
    code = docker("wait", pause)

    assert code == "0"
    assert time.monotonic() - began < 5  # a busy machine; without a reaction it would be 20


def test_the_container_takes_next_to_no_memory(load: Callable[[Image], None], start: Start) -> None:
    image = a_pause_image()
    load(image)
    pause = start("--network", "none", image.name)

    status = Path(f"/proc/{pid_of(pause)}/status").read_text().splitlines()

    [resident] = [int(line.split()[1]) for line in status if line.startswith("VmRSS:")]
    assert resident <= 64  # kB


def test_orphans_of_a_container_in_its_process_namespace_are_reaped(
    load: Callable[[Image], None], start: Start
) -> None:
    pause_image, shell_image = a_pause_image(), a_shell_image()
    load(pause_image)
    load(shell_image)
    pause = start("--network", "none", pause_image.name)
    joined = start(
        *("--network", "none", "--pid", f"container:{pause}", shell_image.name),
        *(
            "sh",
            "-c",
            "i=0; while [ $i -lt 10 ]; do (sleep 0.2 &); i=$((i+1)); done; echo orphaned; sleep 60",
        ),
    )

    deadline = time.monotonic() + 20
    while docker("logs", joined) != "orphaned":
        assert time.monotonic() < deadline, "the orphans were never started"
    while True:
        time.sleep(0.5)
        processes = docker("exec", joined, "ps", "-o", "pid,ppid,comm,stat").splitlines()[1:]
        children_of_pause = [line for line in processes if line.split()[1] == "1"]
        if not children_of_pause:
            break
        assert time.monotonic() < deadline, processes

    assert any(line.split()[:3:2] == ["1", "pause"] for line in processes), processes
    assert not any("Z" in line.split()[3] for line in processes), processes
