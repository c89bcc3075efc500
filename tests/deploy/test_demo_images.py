"""How the demo images are put together and loaded, without Docker."""

import contextlib
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.demo import build as demo_build
from deploy.demo.build import DemoBuildError, find_busybox, is_static
from deploy.demo.images import ROOTFS, demo_images
from pause.image import Image

APPLETS = ("[", "busybox", "httpd", "nc", "sh", "wget")
PT_LOAD, PT_INTERP = 1, 3


def images() -> dict[str, Image]:
    return {image.name: image for image in demo_images(b"busybox", APPLETS, "amd64")}


def inside(image: Image) -> tuple[dict[str, object], dict[str, tarfile.TarInfo]]:
    """The settings of the image, and its files by path."""
    with tarfile.open(fileobj=io.BytesIO(image.content)) as outer:
        bodies = {m.name: outer.extractfile(m).read() for m in outer.getmembers() if m.isfile()}  # type: ignore[union-attr]
    [manifest] = json.loads(bodies["manifest.json"])
    with tarfile.open(fileobj=io.BytesIO(bodies[manifest["Layers"][0]])) as layer:
        return json.loads(bodies[manifest["Config"]])["config"], {m.name: m for m in layer.getmembers()}


def an_elf(*segments: int) -> bytes:
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<HH", header, 54, 56, len(segments))
    return bytes(header) + b"".join(struct.pack("<I52x", kind) for kind in segments)


def test_two_builds_are_byte_identical() -> None:
    assert images() == images()


def test_each_image_says_what_to_run_and_where_it_listens() -> None:
    settings = {name: inside(image)[0] for name, image in images().items()}

    assert settings == {
        "berth/demo-web:latest": {"Entrypoint": ["/bin/serve"], "ExposedPorts": {"80/tcp": {}}},
        "berth/demo-api:latest": {"Entrypoint": ["/bin/serve"], "ExposedPorts": {"8080/tcp": {}}},
        "berth/demo-job:latest": {"Entrypoint": ["/bin/job"], "Cmd": ["echo", "done"]},
    }


def test_every_applet_is_a_link_to_busybox_and_every_script_can_be_executed() -> None:
    for name, image in images().items():
        _, files = inside(image)
        for applet in set(APPLETS) - {"busybox"}:
            assert files[f"bin/{applet}"].linkname == "busybox", name
        assert files["bin/busybox"].isfile()
        assert files["etc/passwd"].mode == 0o644
        scripts = [path for path in files if path.endswith(("bin/serve", "bin/job", "bin/answer"))]
        assert scripts
        assert all(files[path].mode == 0o755 for path in scripts), name


def test_the_scripts_are_executable_whatever_their_mode_in_the_working_tree() -> None:
    assert inside(images()["berth/demo-web:latest"])[1]["www/cgi-bin/whoami"].mode == 0o755
    assert inside(images()["berth/demo-web:latest"])[1]["www/index.html"].mode == 0o644


@pytest.mark.parametrize(
    "script", sorted(p for p in ROOTFS.rglob("*") if p.parent.name in ("bin", "cgi-bin"))
)
def test_every_script_is_valid_for_a_plain_shell(script: Path) -> None:
    assert script.read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", script], check=True)


def test_a_program_with_an_interpreter_is_not_static() -> None:
    assert is_static(an_elf(PT_LOAD, PT_LOAD))
    assert not is_static(an_elf(PT_LOAD, PT_INTERP))
    assert not is_static(b"#!/bin/sh\n")


def test_the_static_busybox_is_taken_and_the_other_is_passed_over(tmp_path: Path) -> None:
    dynamic, static = tmp_path / "dynamic", tmp_path / "static"
    dynamic.write_bytes(an_elf(PT_INTERP))
    static.write_bytes(an_elf(PT_LOAD))

    assert find_busybox((tmp_path / "none", dynamic, static)) == static


def test_no_static_busybox_is_an_error_that_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DemoBuildError, match="apt-get install busybox-static"):
        find_busybox((tmp_path / "none",))


@pytest.fixture
def fake_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a shell script in docker's place; it logs its arguments to the returned file."""

    def install(script: str) -> Path:
        calls = tmp_path / "calls"
        program = tmp_path / "bin" / "docker"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$*" >>{calls}\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
        return calls

    return install


def test_an_image_that_is_there_is_not_loaded_again(
    fake_docker: Callable[[str], Path], tmp_path: Path
) -> None:
    image = images()["berth/demo-job:latest"]
    calls = fake_docker(f"echo {image.image_id}")

    assert demo_build.load(image, tmp_path / "demo-job.tar") == "is loaded"

    assert calls.read_text().splitlines() == ["image inspect --format {{.Id}} berth/demo-job:latest"]


@pytest.mark.parametrize("answer", ["echo sha256:older", "echo 'Error: No such image: x' >&2; exit 1"])
def test_an_image_that_is_missing_or_older_is_loaded(
    fake_docker: Callable[[str], Path], tmp_path: Path, answer: str
) -> None:
    calls = fake_docker(f'if [ "$1" = image ]; then {answer}; fi')

    assert demo_build.load(images()["berth/demo-job:latest"], tmp_path / "demo-job.tar") == "loaded"

    assert calls.read_text().splitlines()[1] == f"load --quiet --input {tmp_path}/demo-job.tar"


def test_a_docker_that_does_not_answer_is_quoted(fake_docker: Callable[[str], Path], tmp_path: Path) -> None:
    fake_docker("echo 'Cannot connect to the Docker daemon' >&2; exit 1")

    with pytest.raises(DemoBuildError, match="Cannot connect to the Docker daemon"):
        demo_build.load(images()["berth/demo-job:latest"], tmp_path / "demo-job.tar")


def test_a_missing_docker_command_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(DemoBuildError, match="run: make docker"):
        demo_build.load(images()["berth/demo-job:latest"], tmp_path / "demo-job.tar")


@pytest.fixture
def job() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*command: str) -> subprocess.Popen[str]:
        shell = shutil.which("busybox") or pytest.skip("there is no busybox")
        script = str(ROOTFS / "job/bin/job")
        arguments = [shell, "sh", script, *command]
        started.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its command too
        process.communicate()


@pytest.mark.parametrize("code", [0, 3])
def test_the_job_ends_with_the_exit_code_of_its_command(
    job: Callable[..., subprocess.Popen[str]], code: int
) -> None:
    process = job("sh", "-c", f"echo working; exit {code}")

    out, _ = process.communicate(timeout=10)

    assert out == f"demo-job: running: sh -c echo working; exit {code}\nworking\n"
    assert process.returncode == code


def test_the_job_passes_a_stop_on_and_waits_for_its_command(
    job: Callable[..., subprocess.Popen[str]],
) -> None:
    process = job(
        "sh", "-c", "trap 'sleep 0.2; echo cleaned; exit 4' TERM; echo ready; while :; do sleep 0.05; done"
    )
    assert process.stdout is not None
    while process.stdout.readline() != "ready\n":
        assert process.poll() is None

    process.terminate()

    out, _ = process.communicate(timeout=10)
    assert out == "cleaned\n"
    assert process.returncode == 4
