"""The compiled program: one clean ELF segment, ends at once when told, reaps whatever is left to it."""

import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pause import build
from pause.build import BuildError, compile_program, find_compiler, pause_image, write_image
from pause.image import Architecture

NATIVE: Architecture = "arm64" if os.uname().machine == "aarch64" else "amd64"
ARM_EMULATOR = shutil.which("qemu-aarch64-static")
EM_X86_64, EM_AARCH64 = 62, 183
PT_LOAD, WRITABLE, EXECUTABLE = 1, 2, 1

# Makes itself the one that orphans fall to, leaves twenty orphans behind and becomes the pause program.
ORPHANAGE = textwrap.dedent(
    """
    import ctypes, os, sys
    PR_SET_CHILD_SUBREAPER = 36
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1):
        sys.exit("cannot become a subreaper")
    script = 'i=0; while [ $i -lt 20 ]; do sleep 0.3 & echo $!; i=$((i+1)); done'
    parent = os.spawnlp(os.P_WAIT, "sh", "sh", "-c", script + " | cat > $0", sys.argv[2])
    os.execv(sys.argv[1], [sys.argv[1]])
    """
)


def compiled(architecture: Architecture) -> bytes:
    compiler = find_compiler(architecture)
    if compiler is None:
        pytest.skip(f"this machine has no compiler for {architecture}")
    return compile_program(compiler, architecture)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "pause"
    path.write_bytes(compiled(NATIVE))
    path.chmod(0o755)
    return path


@pytest.fixture
def start(program: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []

    def launch(*command: str) -> subprocess.Popen[bytes]:
        running.append(subprocess.Popen(command or (str(program),)))
        wait_until(lambda: is_pausing(running[-1].pid))
        return running[-1]

    yield launch
    for process in running:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], limit: float = 10.0) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"did not happen within {limit} s"
        time.sleep(0.01)


def is_pausing(pid: int) -> bool:
    """The program runs (not what it was started by) and sleeps: it sleeps nowhere but in its wait."""
    status = status_of(pid)
    return status["Name"] == "pause" and status["State"].startswith("S")


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def exists(pid: int) -> bool:
    """True for a zombie too."""
    return Path(f"/proc/{pid}").exists()


def load_segments(program: bytes) -> list[tuple[int, int, int]]:
    """(flags, offset, address) of what the kernel maps, after the ELF64 header's program header table."""
    table, size, count = *struct.unpack_from("<Q", program, 32), *struct.unpack_from("<HH", program, 54)
    headers = [struct.unpack_from("<IIQQ", program, table + size * index) for index in range(count)]
    return [(flags, offset, address) for kind, flags, offset, address in headers if kind == PT_LOAD]


@pytest.mark.parametrize(("architecture", "machine"), [("amd64", EM_X86_64), ("arm64", EM_AARCH64)])
def test_the_program_is_a_tiny_static_executable_for_its_architecture(
    architecture: Architecture, machine: int
) -> None:
    program = compiled(architecture)

    assert program[:6] == b"\x7fELF\x02\x01"  # 64 bits, little endian
    kind, found = struct.unpack_from("<HH", program, 16)
    assert (kind, found) == (2, machine)  # ET_EXEC: no interpreter, no relocation
    assert len(program) < 1024
    [(flags, offset, address)] = load_segments(program)
    assert flags & EXECUTABLE
    assert not flags & WRITABLE
    assert address % 65536 == offset % 65536  # arm64 kernels may have pages of 64 KiB


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_compiling_twice_gives_the_same_image(architecture: Architecture) -> None:
    first = pause_image(compiled(architecture), architecture)
    second = pause_image(compiled(architecture), architecture)

    assert first == second
    assert len(first.content) <= 20480


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_0_at_once_when_told(
    start: Callable[..., subprocess.Popen[bytes]], number: signal.Signals
) -> None:
    pause = start()

    pause.send_signal(number)

    assert pause.wait(timeout=1) == 0


def test_it_waits_and_neither_ends_nor_spins_on_other_signals(
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    pause = start()

    for number in (signal.SIGCHLD, signal.SIGSTOP, signal.SIGCONT, signal.SIGWINCH):
        pause.send_signal(number)
    time.sleep(0.3)

    assert pause.poll() is None
    assert status_of(pause.pid)["State"].startswith("S")
    ticks = Path(f"/proc/{pause.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    assert [int(tick) for tick in ticks] == [0, 0]


def test_it_reaps_orphans(
    start: Callable[..., subprocess.Popen[bytes]], program: Path, tmp_path: Path
) -> None:
    children = tmp_path / "children"

    pause = start(sys.executable, "-c", ORPHANAGE, str(program), str(children))

    orphans = [int(line) for line in children.read_text().split()]
    assert len(orphans) == 20
    wait_until(lambda: not any(exists(orphan) for orphan in orphans))
    assert pause.poll() is None


def test_it_needs_a_few_kilobytes_of_memory(start: Callable[..., subprocess.Popen[bytes]]) -> None:
    pause = start()

    resident, unit = status_of(pause.pid)["VmRSS"].split()

    assert unit == "kB"
    assert int(resident) <= 64


@pytest.mark.skipif(ARM_EMULATOR is None, reason="there is no qemu-aarch64-static")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_arm64_program_ends_with_0_when_told(tmp_path: Path, number: signal.Signals) -> None:
    program = tmp_path / "pause"
    program.write_bytes(compiled("arm64"))
    program.chmod(0o755)
    assert ARM_EMULATOR is not None

    with subprocess.Popen([ARM_EMULATOR, str(program)]) as pause:
        with contextlib.suppress(subprocess.TimeoutExpired):
            pause.wait(timeout=1)
        pause.send_signal(number)

        assert pause.wait(timeout=5) == 0


def test_the_command_writes_the_archive_and_its_description(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pause_image(compiled(NATIVE), NATIVE)

    assert build.main(["--output", str(tmp_path)]) == 0

    description = json.loads((tmp_path / f"pause-{NATIVE}.json").read_text())
    assert description == {
        "image_id": image.image_id,
        "name": "amazon/amazon-ecs-pause:0.1.0",
        "architecture": NATIVE,
        "archive": f"pause-{NATIVE}.tar",
        "sha256": image.sha256,
    }
    assert (tmp_path / description["archive"]).read_bytes() == image.content
    assert image.image_id in capsys.readouterr().out


def test_writing_leaves_only_the_archive_and_its_description(tmp_path: Path) -> None:
    archive = write_image(pause_image(b"program", "arm64"), tmp_path)

    assert archive == tmp_path / "pause-arm64.tar"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pause-arm64.json", "pause-arm64.tar"]


def test_no_compiler_at_all_is_an_error_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert build.main(["--output", str(tmp_path / "out")]) == 1

    assert "install gcc" in capsys.readouterr().err


def test_a_compiler_that_fails_is_quoted(tmp_path: Path) -> None:
    source = tmp_path / "broken.c"
    source.write_text("int main( {\n")
    compiler = find_compiler(NATIVE)
    assert compiler is not None

    with pytest.raises(BuildError, match=r"(?s)gcc .*broken\.c failed:.*error"):
        compile_program(compiler, NATIVE, source)


def test_a_compiler_for_another_machine_is_found_out(tmp_path: Path) -> None:
    compiler = tmp_path / "gcc"
    compiler.write_text(
        "#!/bin/sh\n"
        'while [ "$1" != -o ]; do shift; done\n'
        "printf '\\177ELF\\2\\1\\1\\0\\0\\0\\0\\0\\0\\0\\0\\0\\2\\0\\3\\0' > \"$2\"\n"
    )
    compiler.chmod(0o755)

    with pytest.raises(BuildError, match="builds for ELF machine 3, expected 62"):
        compile_program(str(compiler), "amd64")
