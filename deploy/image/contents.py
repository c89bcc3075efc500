"""Puts the agent's folder in the image into shape, in the build stage.

``python contents.py --prune VENV`` takes from the Python environment what the agent does not use.
``python -m deploy.image.contents --install FOLDER`` puts the agent there. Both compile what they leave, so
that no start does. They are two steps, because the packages change seldom and the agent often.
"""

import argparse
import compileall
import shutil
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

SERVICES = ("ec2", "ecr", "ecs", "secretsmanager", "signin", "sso", "sso-oidc", "sts")
"""The AWS services whose descriptions stay in botocore: those that the agent calls or describes to others.

``ecs`` is read by the local backend, which checks requests with it; ``signin``, ``sso``, ``sso-oidc`` and
``sts`` are asked by botocore's own search for credentials. tests/deploy/test_image_contents.py compares this
list with the source.
"""

PLACE = "/usr/lib/berth/app"
"""Where the agent stands in the image: the environment looks for modules there too."""

_USED_MODELS = ("service-2.*", "endpoint-rule-set-1.*", "paginators-1.*", "waiters-2.*")
_NOT_USED = ("*.pyi", "*.pyx", "*.pxd", "*.c", "*.h", "py.typed")
_TEST_FOLDERS = frozenset({"test", "tests"})


class ContentsError(Exception):
    """The folder cannot be filled; the text says what is missing."""


def main(arguments: list[str] | None = None) -> int:
    """Do what is asked. Return 0, or 1 after saying what is wrong."""
    parser = argparse.ArgumentParser(prog="contents", description="Put the image's folder into shape.")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument(
        "--prune", type=Path, metavar="VENV", help="take out of it what the agent does not use"
    )
    asked.add_argument("--install", type=Path, metavar="FOLDER", help="put the agent there")
    options = parser.parse_args(arguments)
    try:
        if options.prune:
            packages = packages_of(options.prune)
            prune_environment(packages)
            prune_commands(options.prune / "bin")
            (packages / "berth.pth").write_text(f"{PLACE}\n", encoding="utf-8")
            compile_all(packages)
        else:
            install_agent(options.install)
            compile_all(options.install)
    except ContentsError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


def packages_of(environment: Path) -> Path:
    """The folder of installed packages of a virtual environment. Raise ``ContentsError`` if there is none."""
    found = sorted(environment.glob("lib/python3*/site-packages"))
    if len(found) != 1:
        raise ContentsError(f"{environment} is no environment of one Python: {len(found)} x site-packages")
    return found[0]


def prune_environment(packages: Path) -> None:
    """Remove tests, sources of extensions, and the descriptions of AWS services that are not in SERVICES."""
    prune_models(packages / "botocore" / "data")
    shutil.rmtree(packages / "boto3" / "examples", ignore_errors=True)
    for folder in [path for path in packages.rglob("*") if path.is_dir() and path.name in _TEST_FOLDERS]:
        shutil.rmtree(folder, ignore_errors=True)  # one may stand inside another that is gone
    for pattern in _NOT_USED:
        for path in packages.rglob(pattern):
            path.unlink()


def prune_commands(folder: Path) -> None:
    """Keep the interpreter only: nobody activates this environment, or runs the packages' own commands."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif not path.name.startswith("python"):
            path.unlink()


def prune_models(data: Path) -> None:
    """Keep of botocore's data the general files, and of each needed service its newest description.

    Raise ``ContentsError`` if a needed service has none: botocore may have renamed it.
    """
    for path in list(data.iterdir()):
        if path.is_dir() and path.name not in SERVICES:
            shutil.rmtree(path)
    for service in SERVICES:
        versions = sorted((path for path in data.glob(f"{service}/*") if path.is_dir()), reverse=True)
        if not versions:
            raise ContentsError(f"botocore has no description of {service!r} in {data}")
        for older in versions[1:]:
            shutil.rmtree(older)
        kept = {path for pattern in _USED_MODELS for path in versions[0].glob(pattern)}
        for path in set(versions[0].iterdir()) - kept:
            path.unlink()


def install_agent(folder: Path) -> None:
    """Copy the agent, its licence beside it, and the program that starts it."""
    root = Path(__file__).resolve().parents[2]
    shutil.copytree(root / "agent", folder / "agent", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(root / "LICENSE", folder / "LICENSE")
    shutil.copyfile(Path(__file__).with_name("start.py"), folder / "start.py")


def compile_all(folder: Path) -> None:
    """Store the bytecode of every module. It is not compared with the source at a start: neither changes.

    Raise ``ContentsError`` if a module cannot be compiled.
    """
    is_compiled = compileall.compile_dir(
        folder, quiet=1, force=True, workers=0, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
    )
    if not is_compiled:
        raise ContentsError(f"not everything in {folder} can be compiled")


if __name__ == "__main__":
    sys.exit(main())
