"""What is in the three demo images, as data. The shell scripts in them live as files in ``rootfs/``."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pause.image import Architecture, Entry, File, Folder, Image, ImageConfig, Link, build_image

ROOTFS = Path(__file__).with_name("rootfs")


def demo_images(
    busybox: bytes, applets: Sequence[str], architecture: Architecture, tag: str = "latest"
) -> tuple[Image, ...]:
    """Build ``berth/demo-web``, ``berth/demo-api`` and ``berth/demo-job``.

    ``busybox`` is a statically linked busybox for the architecture; each of the ``applets`` (names such as
    ``wget``) becomes a link to it in ``/bin``.
    """
    base = (*_tools(busybox, applets), *_files("common"))
    web = ImageConfig(architecture, entrypoint=("/bin/serve",), ports=(80,))
    api = ImageConfig(architecture, entrypoint=("/bin/serve",), ports=(8080,))
    job = ImageConfig(architecture, entrypoint=("/bin/job",), command=("echo", "done"))
    return (
        build_image(f"berth/demo-web:{tag}", web, (*base, *_files("web"))),
        build_image(f"berth/demo-api:{tag}", api, (*base, *_files("api"))),
        build_image(f"berth/demo-job:{tag}", job, (*base, *_files("job"))),
    )


def _tools(busybox: bytes, applets: Sequence[str]) -> Iterator[Entry]:
    yield Folder("/tmp", mode=0o1777)  # noqa: S108 - a folder of the image, not of this machine
    yield File("/bin/busybox", busybox, mode=0o755)
    for applet in applets:
        if applet != "busybox":
            yield Link(f"/bin/{applet}", "busybox")


def _files(folder: str) -> Iterator[Entry]:
    root = ROOTFS / folder
    for path in sorted(root.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            # Not the mode on disk: an archive download or another umask would change the image.
            mode = 0o755 if content.startswith(b"#!") else 0o644
            yield File(f"/{path.relative_to(root)}", content, mode)
