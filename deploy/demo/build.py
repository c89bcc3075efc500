"""Writes the demo images and loads them: ``python -m deploy.demo.build --output build/demo --load``.

They are made from Debian's ``busybox-static``, so that the demonstration pulls nothing from anywhere.
"""

import argparse
import platform
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from deploy.demo.images import demo_images
from pause.image import Architecture, Image

BUSYBOX_PLACES = (Path("/bin/busybox"), Path("/usr/bin/busybox"))

_ARCHITECTURE_OF_MACHINE: dict[str, Architecture] = {"x86_64": "amd64", "aarch64": "arm64"}
_PT_INTERP = 3


class DemoBuildError(Exception):
    """An image could not be built or loaded; the text says what to do."""


def main(arguments: list[str] | None = None) -> int:
    """Build the images, load them with ``--load``. Return 0, or 1 after saying what is wrong."""
    parser = argparse.ArgumentParser(prog="deploy.demo.build", description="Build the demo images.")
    parser.add_argument("--output", type=Path, default=Path("build/demo"), help="folder to write to")
    parser.add_argument("--load", action="store_true", help="load the images into Docker")
    options = parser.parse_args(arguments)
    try:
        for image in build():
            archive = write_image(image, options.output)
            state = load(image, archive) if options.load else str(archive)
            print(f"demo: {image.name} {image.image_id[:19]} {state}")
    except DemoBuildError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def build(tag: str = "latest") -> tuple[Image, ...]:
    """Build the images for this machine. Raise ``DemoBuildError`` if there is no static busybox."""
    architecture = _ARCHITECTURE_OF_MACHINE.get(platform.machine())
    if architecture is None:
        raise DemoBuildError(f"machine {platform.machine()!r} is not supported; expected x86_64 or aarch64")
    busybox = find_busybox()
    listing = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    return demo_images(busybox.read_bytes(), sorted(listing.stdout.split()), architecture, tag)


def find_busybox(places: tuple[Path, ...] = BUSYBOX_PLACES) -> Path:
    """Return the path of a statically linked busybox. Raise ``DemoBuildError`` if there is none."""
    for path in places:
        if path.is_file() and is_static(path.read_bytes()):
            return path
    found = ", ".join(map(str, places))
    raise DemoBuildError(f"no statically linked busybox at {found}; run: apt-get install busybox-static")


def is_static(program: bytes) -> bool:
    """Say whether a 64-bit ELF program asks for no interpreter, so that it runs in an empty image."""
    return program.startswith(b"\x7fELF\x02") and _PT_INTERP not in _segment_types(program)


def write_image(image: Image, output: Path) -> Path:
    """Write the archive as ``demo-<name>.tar`` and return its path."""
    output.mkdir(parents=True, exist_ok=True)
    archive = output / f"{image.name.rpartition('/')[2].partition(':')[0]}.tar"
    archive.write_bytes(image.content)
    return archive


def load(image: Image, archive: Path) -> str:
    """Load the archive unless Docker has this very image. Return what was done, for printing.

    Raises ``DemoBuildError`` if Docker does not answer or refuses the archive.
    """
    if _docker("image", "inspect", "--format", "{{.Id}}", image.name, missing_is_fine=True) == image.image_id:
        return "is loaded"
    _docker("load", "--quiet", "--input", str(archive))
    return "loaded"


def _docker(*arguments: str, missing_is_fine: bool = False) -> str:
    command = ["docker", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise DemoBuildError(f"docker {arguments[0]} cannot be run ({error}); run: make docker") from error
    is_missing = done.returncode == 1 and "No such image" in done.stderr
    if done.returncode != 0 and not (is_missing and missing_is_fine):
        raise DemoBuildError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def _segment_types(program: bytes) -> Iterator[int]:
    (table,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    for index in range(count):
        yield struct.unpack_from("<I", program, table + size * index)[0]


if __name__ == "__main__":
    sys.exit(main())
