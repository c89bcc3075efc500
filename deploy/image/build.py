"""Builds the image of the agent: ``python -m deploy.image.build``.

Everything from outside is fetched first, into build/image: a Debian base if the public one is not to be
had, the Debian packages for the build stage, and the wheels of requirements.txt. The build itself then uses
no network.
``--from-registries`` leaves all of that to the Dockerfile, as a plain ``docker build`` does.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from agent import __version__
from deploy.image.base import make_base
from deploy.image.errors import ImageError

ROOT = Path(__file__).resolve().parents[2]
IMAGE_TAG = "berth/agent"
PUBLIC_BASE = "debian:12-slim"
"""The default of the Dockerfile."""

_PYTHON = "3.11"  # that of Debian 12
_BUILDKIT_NEEDS_BUILDX = 23  # from this version on, the docker command builds through a plugin
_LONGEST_SECONDS = 900


def main(arguments: list[str] | None = None) -> int:
    """Build the image. Return 0, or 1 after saying what is wrong."""
    parser = argparse.ArgumentParser(prog="deploy.image.build", description="Build the image of the agent.")
    parser.add_argument(
        "--base", metavar="TAG", help=f"a Debian 12 (default: {PUBLIC_BASE} if present, else one made here)"
    )
    parser.add_argument("--tag", default=IMAGE_TAG, help="the name of the image (default: %(default)s)")
    parser.add_argument("--revision", help="the git revision for the labels (default: what git says)")
    parser.add_argument("--source", default="unknown", help="the address of the source, for the labels")
    parser.add_argument("--output", type=Path, default=ROOT / "build/image", help="where downloads are kept")
    parser.add_argument(
        "--from-registries", action="store_true", help="prepare nothing: the build itself uses the network"
    )
    options = parser.parse_args(arguments)
    try:
        build(options)
    except ImageError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


def build(options: argparse.Namespace) -> None:
    """Prepare what is missing, and build. Raise ``ImageError``."""
    folder: Path = options.output
    base: str | None = options.base
    network = "host"
    if not options.from_registries:
        network = "none"
        with _timed("the base and the packages"), ThreadPoolExecutor(1) as beside:
            wheels = beside.submit(fetch_wheels, folder / "wheels")
            base = base or make_base(folder)
            wheels.result()
    given = {
        "BASE_IMAGE": base,
        "VERSION": __version__,
        "REVISION": options.revision or git_revision(),
        "SOURCE": options.source,
    }
    words = [word for name, value in given.items() if value for word in ("--build-arg", f"{name}={value}")]
    with _timed("the image"):
        done = _run(
            *("docker", "build", "--network", network, "--tag", options.tag, *words, str(ROOT)),
            variables={"DOCKER_BUILDKIT": "1" if has_buildkit() else "0"},
        )
    if done.returncode != 0:
        raise ImageError(f"docker build failed:\n{(done.stdout + done.stderr)[-6000:]}")
    size = int(_said("docker", "image", "inspect", "--format", "{{.Size}}", options.tag))
    print(f"image: {options.tag} {size / 1e6:.0f} MB, version {__version__}, revision {given['REVISION']}")


def fetch_wheels(folder: Path) -> None:
    """Download the wheels of requirements.txt, unless they are there already. Raise ``ImageError``."""
    requirements = ROOT / "requirements.txt"
    wanted = sha256(requirements.read_bytes()).hexdigest()
    stamp = folder / "fetched-for"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    done = _run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--only-binary", ":all:", "--python-version", _PYTHON, "--implementation", "cp"),
        *("--dest", str(folder), "--requirement", str(requirements)),
    )
    if done.returncode != 0:
        raise ImageError(f"pip cannot fetch the wheels of requirements.txt:\n{done.stderr.strip()[-2000:]}")
    stamp.write_text(wanted, encoding="utf-8")


def git_revision() -> str:
    """The commit of the tree, with ``-dirty`` behind it if what the image is made of was changed."""
    sources = ("Dockerfile", "agent", "cni_plugins", "pause", "deploy/image", "requirements.txt")
    try:
        revision = _said("git", "-C", str(ROOT), "rev-parse", "HEAD")
        changes = _said("git", "-C", str(ROOT), "status", "--porcelain", "--", *sources)
    except ImageError:
        return "unknown"  # an unpacked archive of the source has no revision
    return f"{revision}-dirty" if changes else revision


def has_buildkit() -> bool:
    """Whether this docker command can build with BuildKit: newer ones need their plugin for it."""
    if _run("docker", "buildx", "version").returncode == 0:
        return True
    version = _said("docker", "version", "--format", "{{.Client.Version}}")
    major = version.partition(".")[0]
    return major.isdigit() and int(major) < _BUILDKIT_NEEDS_BUILDX


@contextmanager
def _timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"image: {what} took {time.monotonic() - began:.1f} s", flush=True)


def _said(*command: str) -> str:
    done = _run(*command)
    if done.returncode != 0:
        raise ImageError(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout.strip()


def _run(*command: str, variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_SECONDS,
            env={**os.environ, **(variables or {})},  # noqa: TID251 - docker finds its daemon by it
        )
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{command[0]} did not end within {_LONGEST_SECONDS} s") from error
    except FileNotFoundError as error:
        raise ImageError(f"there is no {command[0]} here; install it") from error


if __name__ == "__main__":
    sys.exit(main())
