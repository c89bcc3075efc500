"""Builds the image of the agent: ``python -m deploy.image.build``.

Everything from outside is fetched first, into build/image: a Debian base if the public one is not to be
had, the Debian packages for the build stage, and the wheels of requirements.txt. The build itself then uses
no network.
``--from-registries`` leaves all of that to the Dockerfile, as a plain ``docker build`` does.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from agent import __version__
from deploy.image.base import BASE_TAG, make_base
from deploy.image.errors import ImageError

ROOT = Path(__file__).resolve().parents[2]
FETCHED = ROOT / "build/image"
"""Where the Dockerfile finds what was fetched."""

IMAGE_TAG = "berth/agent"
PUBLIC_BASE = "debian:12-slim"
"""The default of the Dockerfile."""

_PYTHON = "3.11"  # that of Debian 12
_BUILDKIT_NEEDS_BUILDX = 23  # from this version on, the docker command builds through a plugin
_LONGEST_SECONDS = 900
_LONGEST_PULL = 60
_INPUTS = ("Dockerfile", ".dockerignore", "LICENSE", "requirements.txt", "agent", "cni_plugins", "pause")
_INPUTS_OF_DEPLOY = ("deploy/__init__.py", "deploy/image")


def main(arguments: list[str] | None = None) -> int:
    """Build the image. Return 0, or 1 after saying what is wrong."""
    parser = argparse.ArgumentParser(prog="deploy.image.build", description="Build the image of the agent.")
    parser.add_argument(
        "--base",
        metavar="TAG",
        help=f"a Debian 12 (default: {PUBLIC_BASE} if it can be had, else one made here)",
    )
    parser.add_argument("--tag", default=IMAGE_TAG, help="the name of the image (default: %(default)s)")
    parser.add_argument("--revision", help="the git revision for the labels (default: what git says)")
    parser.add_argument("--source", default="unknown", help="the address of the source, for the labels")
    parser.add_argument(
        "--from-registries",
        action="store_true",
        help="use nothing prepared: the build itself uses the network",
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
    base: str | None = options.base
    if not options.from_registries:
        with _timed("the base and the packages"), ThreadPoolExecutor(1) as beside:
            wheels = beside.submit(fetch_wheels, FETCHED / "wheels")
            base = base or choose_base(FETCHED)
            wheels.result()
    given = {
        "BASE_IMAGE": base,
        "VERSION": __version__,
        "REVISION": options.revision or git_revision(),
        "SOURCE": options.source,
    }
    words = [word for name, value in given.items() if value for word in ("--build-arg", f"{name}={value}")]
    # Only the base made here has its packages beside it.
    network = "none" if base == BASE_TAG and not options.from_registries else "host"
    docker, has_buildkit = choose_builder()
    before = _run("docker", "image", "inspect", "--format", "{{.Id}}", options.tag).stdout.strip()
    with _timed("the image"), _context(is_bare=options.from_registries) as context:
        done = _run(
            *(docker, "build", "--network", network, "--tag", options.tag, *words, str(context)),
            variables={"DOCKER_BUILDKIT": "1" if has_buildkit else "0"},
        )
    if done.returncode != 0:
        raise ImageError(f"docker build failed:\n{(done.stdout + done.stderr)[-6000:]}")
    _remove_unnamed(before)
    size = int(_said("docker", "image", "inspect", "--format", "{{.Size}}", options.tag))
    print(f"image: {options.tag} {size / 1e6:.0f} MB, version {__version__}, revision {given['REVISION']}")


def _remove_unnamed(image: str) -> None:
    """Remove an image that has lost its name to the new one, unless a container still runs from it."""
    left = _run("docker", "image", "inspect", "--format", "{{len .RepoTags}}", image) if image else None
    if (
        left is not None
        and left.stdout.strip() == "0"
        and _run("docker", "image", "rm", image).returncode != 0
    ):
        print(f"image: the one before, {image[:19]}, is still in use and stays")


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
    try:
        revision = _said("git", "-C", str(ROOT), "rev-parse", "HEAD")
        changes = _said("git", "-C", str(ROOT), "status", "--porcelain", "--", *_INPUTS, *_INPUTS_OF_DEPLOY)
    except ImageError:
        return "unknown"  # an unpacked archive of the source has no revision
    return f"{revision}-dirty" if changes else revision


def choose_base(folder: Path) -> str:
    """The public base if it is here or can be pulled; else the one made here. Raise ``ImageError``."""
    if _run("docker", "image", "inspect", PUBLIC_BASE).returncode == 0:
        return PUBLIC_BASE
    if _run("docker", "image", "inspect", BASE_TAG).returncode != 0:
        try:
            if _run("docker", "pull", "--quiet", PUBLIC_BASE, limit=_LONGEST_PULL).returncode == 0:
                return PUBLIC_BASE
        except ImageError as slow:
            print(f"image: {slow}")
        print(f"image: {PUBLIC_BASE} cannot be pulled, a Debian base is made here", flush=True)
    return make_base(folder)


def choose_builder() -> tuple[str, bool]:
    """A docker command, and whether it builds with BuildKit: quicker; newer commands need a plugin for it."""
    commands = [f"{folder}/docker" for folder in os.get_exec_path() if os.access(f"{folder}/docker", os.X_OK)]
    for command in commands:
        if _run(command, "buildx", "version").returncode == 0:
            return command, True
        version = _run(command, "--version").stdout.removeprefix("Docker version ")
        major = version.partition(".")[0]
        if major.isdigit() and int(major) < _BUILDKIT_NEEDS_BUILDX:
            return command, True
    return "docker", False


@contextmanager
def _context(*, is_bare: bool) -> Iterator[Path]:
    """What is sent to Docker: the tree, or a copy of what the Dockerfile names without anything fetched."""
    if not is_bare:
        yield ROOT
        return
    with TemporaryDirectory(prefix="berth-image-") as folder:
        for name in (*_INPUTS, *_INPUTS_OF_DEPLOY):
            copy = Path(folder) / name
            copy.parent.mkdir(exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(ROOT / name, copy)
        authorities = pip_authorities()
        if authorities is not None:
            wheels = Path(folder) / "build/image/wheels"
            wheels.mkdir(parents=True)
            shutil.copyfile(authorities, wheels / "authorities.pem")
        yield Path(folder)


def pip_authorities() -> Path | None:
    """The certificates that this machine's pip was told to trust: pip in the image must trust them too."""
    for line in _run(sys.executable, "-m", "pip", "config", "list").stdout.splitlines():
        name, _, value = line.partition("=")
        if name.endswith(".cert"):
            return Path(value.strip("'"))
    return None


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


def _run(
    *command: str, variables: dict[str, str] | None = None, limit: float = _LONGEST_SECONDS
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
            env={**os.environ, **(variables or {})},  # noqa: TID251 - docker finds its daemon by it
        )
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{command[0]} did not end within {limit} s") from error
    except FileNotFoundError as error:
        raise ImageError(f"there is no {command[0]} here; install it") from error


if __name__ == "__main__":
    sys.exit(main())
