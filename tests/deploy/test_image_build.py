"""How the image is built: which base, which docker command, what is fetched and what is sent."""

import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from deploy.image import build
from deploy.image.base import BASE_TAG
from deploy.image.errors import ImageError

ROOT = Path(__file__).parents[2]
LAUNCHER = ROOT / "deploy/image/launch.c"


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all there is on PATH; every call is noted in ``calls``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def a_command(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "{name} $*" >>{folder}/calls\n{script}\n')
    path.chmod(0o755)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def test_the_public_base_is_taken_when_it_is_here(commands: Path, tmp_path: Path) -> None:
    a_command(commands, "docker", "exit 0")

    assert build.choose_base(tmp_path) == build.PUBLIC_BASE
    assert calls(commands) == [f"docker image inspect {build.PUBLIC_BASE}"]


def test_the_public_base_is_pulled_when_there_is_none(commands: Path, tmp_path: Path) -> None:
    a_command(commands, "docker", 'test "$1" = pull')

    assert build.choose_base(tmp_path) == build.PUBLIC_BASE


def test_a_base_is_made_when_the_public_one_cannot_be_pulled(
    commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_command(commands, "docker", "exit 1")
    monkeypatch.setattr(build, "make_base", lambda folder: f"made in {folder.name}")

    assert build.choose_base(tmp_path / "image") == "made in image"
    assert "cannot be pulled" in capsys.readouterr().out


def test_no_registry_is_asked_when_a_base_was_made_before(
    commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_command(commands, "docker", f'test "$3" = {BASE_TAG}')
    monkeypatch.setattr(build, "make_base", lambda folder: BASE_TAG)

    assert build.choose_base(tmp_path) == BASE_TAG
    assert not any(call.startswith("docker pull") for call in calls(commands))


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ('test "$1" = buildx || echo "Docker version 28.1.0, build x"', True),
        ('test "$1" = buildx && exit 1; echo "Docker version 20.10.24+dfsg1, build x"', True),
        ('test "$1" = buildx && exit 1; echo "Docker version 28.1.0, build x"', False),
        ("exit 1", False),
    ],
    ids=["new-with-plugin", "old", "new-without-plugin", "broken"],
)
def test_buildkit_is_used_by_commands_that_have_it(commands: Path, script: str, expected: bool) -> None:
    a_command(commands, "docker", script)

    assert build.choose_builder() == (f"{commands}/docker" if expected else "docker", expected)


def test_an_older_docker_command_further_back_is_better_than_none_with_buildkit(
    commands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_command(commands, "docker", 'test "$1" = buildx && exit 1; echo "Docker version 28.1.0"')
    a_command(tmp_path / "older", "docker", 'test "$1" = buildx && exit 1; echo "Docker version 20.10.24"')
    monkeypatch.setenv("PATH", f"{commands}:{tmp_path}/older")

    assert build.choose_builder() == (f"{tmp_path}/older/docker", True)


def test_wheels_that_were_fetched_for_the_same_requirements_are_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    stamp = tmp_path / "fetched-for"
    stamp.write_text(sha256((ROOT / "requirements.txt").read_bytes()).hexdigest())
    (tmp_path / "one.whl").touch()

    build.fetch_wheels(tmp_path)

    assert (tmp_path / "one.whl").exists()


def test_wheels_of_other_requirements_go_and_a_failure_leaves_no_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    (tmp_path / "fetched-for").write_text("another")
    (tmp_path / "one.whl").touch()

    with pytest.raises(ImageError, match=r"requirements\.txt"):
        build.fetch_wheels(tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_without_git_the_revision_is_unknown(commands: Path) -> None:
    assert build.git_revision() == "unknown"


def test_a_changed_tree_is_said_to_be_dirty(commands: Path) -> None:
    a_command(commands, "git", 'case "$3" in rev-parse) echo abc ;; status) echo " M agent/x.py" ;; esac')

    assert build.git_revision() == "abc-dirty"


def test_a_docker_that_is_missing_is_named(
    commands: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "fetch_wheels", lambda folder: None)

    assert build.main([]) == 1
    assert "there is no docker here" in capsys.readouterr().err


def test_a_failed_build_is_told_with_the_last_words_of_docker(
    commands: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_command(commands, "docker", 'case "$1" in build) echo "no space left"; exit 1 ;; esac; exit 1')
    a_command(commands, "git", "exit 1")

    assert build.main(["--from-registries", "--base", "some:base"]) == 1
    assert "no space left" in capsys.readouterr().err
    (built,) = [call for call in calls(commands) if call.startswith("docker build ")]
    assert "BASE_IMAGE=some:base" in built
    assert "REVISION=unknown" in built


def test_from_registries_docker_is_sent_nothing_that_was_fetched(
    commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with build._context(is_bare=True) as folder:
        sent = {str(path.relative_to(folder)) for path in folder.rglob("*")}

    assert {"Dockerfile", "agent/__init__.py", "deploy/image/install.sh", "pause/pause.c"} <= sent
    assert not any(name.endswith((".whl", ".deb")) or "__pycache__" in name for name in sent)
    assert not folder.exists()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")
@pytest.mark.parametrize("compiler", ["gcc", "aarch64-linux-gnu-gcc"])
def test_the_launcher_compiles_without_a_warning_for_each_architecture(tmp_path: Path, compiler: str) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    probe = subprocess.run(
        [compiler, "-E", "-include", "unistd.h", "-"], input="", capture_output=True, text=True, check=False
    )
    if probe.returncode != 0:
        pytest.skip(f"{compiler} has no C library here")
    flags = ("-std=c11", "-Os", "-Wall", "-Wextra", "-Werror")
    done = subprocess.run(
        [compiler, *flags, "-o", str(tmp_path / "berth"), str(LAUNCHER)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize(("names", "is_removed"), [("0", True), ("1", False)])
def test_the_image_before_goes_when_it_has_no_other_name(
    commands: Path, names: str, is_removed: bool
) -> None:
    a_command(commands, "docker", f'test "$2" = rm || echo {names}')

    build._remove_unnamed("sha256:abc")

    assert ("docker image rm sha256:abc" in calls(commands)) is is_removed


def test_an_image_before_that_is_in_use_is_named_and_stays(
    commands: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_command(commands, "docker", 'test "$2" = rm && exit 1; echo 0')

    build._remove_unnamed("sha256:abc")

    assert "sha256:abc, is still in use" in capsys.readouterr().out
