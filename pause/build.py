"""Compiles the small programs and packs them: ``python -m pause.build --output build/pause``.

They are ``pause`` and ``keeper``. For each, and each architecture whose compiler is on this machine, it
writes ``<program>-<architecture>.tar``, ready for ``docker load``, and ``<program>-<architecture>.json``,
which tells the agent the image id to look for.
"""

import argparse
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import get_args

from pause.image import Architecture, File, Folder, Image, ImageConfig, build_image

IMAGE_NAME = "amazon/amazon-ecs-pause:0.1.0"
"""The name under which tools that know Amazon ECS expect the pause image. It is never pulled."""

KEEPER_NAME = "berth/keeper:1"
"""The image of the program that holds the endpoint's sockets while the agent restarts."""

SOURCE = Path(__file__).with_name("pause.c")
KEEPER_SOURCE = Path(__file__).with_name("keeper.c")

# Nothing but the code: no C library, no start files, no notes, no symbols, one segment that may be
# executed and not written. Everything that could differ from build to build is switched off.
_FLAGS = (
    *("-std=c11", "-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror"),
    *("-nostdlib", "-nostartfiles", "-ffreestanding", "-mgeneral-regs-only"),
    *("-fno-stack-protector", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-ident"),
    *("-Wl,--build-id=none", "-Wl,-z,noseparate-code", "-Wl,-z,noexecstack", "-Wl,-n"),
)
_FLAGS_OF: dict[Architecture, tuple[str, ...]] = {
    "amd64": (*_FLAGS, "-fcf-protection=none"),
    "arm64": (*_FLAGS, "-mbranch-protection=none"),
}
_CROSS_COMPILER: dict[Architecture, str] = {
    "amd64": "x86_64-linux-gnu-gcc",
    "arm64": "aarch64-linux-gnu-gcc",
}
_ARCHITECTURE_OF_MACHINE: dict[str, Architecture] = {"x86_64": "amd64", "aarch64": "arm64"}

# `e_machine` in the ELF header: EM_X86_64 and EM_AARCH64.
_ELF_MACHINE: dict[Architecture, int] = {"amd64": 62, "arm64": 183}


class BuildError(Exception):
    """A program could not be compiled; the text says with which command and why."""


def main(arguments: list[str] | None = None) -> int:
    """Build for every architecture that has a compiler. Return 0, or 1 if there was none or one failed."""
    parser = argparse.ArgumentParser(prog="pause.build", description="Build the images of pause and keeper.")
    parser.add_argument("--output", type=Path, default=Path("build/pause"), help="folder to write to")
    output: Path = parser.parse_args(arguments).output
    output.mkdir(parents=True, exist_ok=True)
    built = 0
    for architecture in get_args(Architecture):
        compiler = find_compiler(architecture)
        if compiler is None:
            print(f"pause: {architecture} left out, there is no {_CROSS_COMPILER[architecture]}")
            continue
        try:
            pause = compile_program(compiler, architecture)
            keeper = compile_program(compiler, architecture, KEEPER_SOURCE)
        except BuildError as error:
            print(f"pause: {error}", file=sys.stderr)
            return 1
        for image, program in (
            (pause_image(pause, architecture), pause),
            (keeper_image(keeper, architecture), keeper),
        ):
            archive = write_image(image, output)
            print(f"pause: {archive} {image.image_id} (program of {len(program)} bytes)")
        built += 1
    if not built:
        print("pause: no C compiler found; install gcc", file=sys.stderr)
        return 1
    return 0


def find_compiler(architecture: Architecture) -> str | None:
    """Return the path of a compiler for the architecture, or None if this machine has none."""
    is_native = _ARCHITECTURE_OF_MACHINE.get(platform.machine()) == architecture
    return shutil.which(_CROSS_COMPILER[architecture]) or (shutil.which("gcc") if is_native else None)


def compile_program(compiler: str, architecture: Architecture, source: Path = SOURCE) -> bytes:
    """Compile and link the program and return the ELF file. Raise ``BuildError`` if that fails."""
    with tempfile.TemporaryDirectory(prefix="berth-pause-") as folder:
        program = Path(folder) / source.stem
        command = [compiler, *_FLAGS_OF[architecture], "-o", str(program), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BuildError(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
        content = program.read_bytes()
    (machine,) = struct.unpack_from("<H", content, 18)
    if machine != _ELF_MACHINE[architecture]:
        expected = _ELF_MACHINE[architecture]
        raise BuildError(f"{compiler} builds for ELF machine {machine}, expected {expected} ({architecture})")
    return content


def pause_image(program: bytes, architecture: Architecture) -> Image:
    """Pack the program as the image's only file. It runs as nobody: it needs no right at all."""
    config = ImageConfig(architecture=architecture, entrypoint=("/pause",), user="65534:65534")
    return build_image(IMAGE_NAME, config, [File("/pause", program, mode=0o555)])


def keeper_image(program: bytes, architecture: Architecture) -> Image:
    """Pack the keeper. It runs as root, without any of root's rights: only its own user may talk to it."""
    config = ImageConfig(architecture=architecture, entrypoint=("/keeper",), user="0:0")
    return build_image(KEEPER_NAME, config, [File("/keeper", program, mode=0o555), Folder("/keep", 0o700)])


def write_image(image: Image, output: Path) -> Path:
    """Write the archive and the description beside it; return the archive's path."""
    program = "keeper" if image.name == KEEPER_NAME else "pause"
    archive = output / f"{program}-{image.architecture}.tar"
    description = {
        "architecture": image.architecture,
        "archive": archive.name,
        "image_id": image.image_id,
        "name": image.name,
        "sha256": image.sha256,
    }
    _replace(archive, image.content)
    _replace(archive.with_suffix(".json"), f"{json.dumps(description, indent=2)}\n".encode())
    return archive


def _replace(path: Path, content: bytes) -> None:
    # An agent may be reading the old file: it must see all of one or all of the other.
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(content)
    aside.replace(path)


if __name__ == "__main__":
    sys.exit(main())
