"""deploy/install.sh, into folders: nothing of the machine is touched."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "install.sh"


def install(to: Path, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", str(SCRIPT), *arguments],
        env={"PATH": os.environ["PATH"], "PYTHON": "/usr/bin/python3", "DESTDIR": str(to), **environ},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_the_container_needs_a_unit_a_script_and_a_file_for_settings(tmp_path: Path) -> None:
    done = install(tmp_path, "--container")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) - {"usr/lib/systemd/system/berth-container.service.d/pauses.conf"} == {
        "usr/lib/systemd/system/berth-container.service",
        "usr/lib/berth/berth-container.sh",
        "etc/ecs/ecs.config",
    }
    assert os.access(tmp_path / "usr/lib/berth/berth-container.sh", os.X_OK)
    assert stat.S_IMODE((tmp_path / "etc/ecs/ecs.config").stat().st_mode) == 0o600


def test_settings_that_are_there_are_never_touched(tmp_path: Path) -> None:
    settings = tmp_path / "etc/ecs/ecs.config"
    settings.parent.mkdir(parents=True)
    settings.write_text("ECS_CLUSTER=mine\n", encoding="utf-8")
    for _ in range(2):
        done = install(tmp_path, "--container")
        assert done.returncode == 0, done.stderr
    assert "left as it is" in done.stdout
    assert settings.read_text(encoding="utf-8") == "ECS_CLUSTER=mine\n"


def test_what_was_installed_is_taken_away_and_what_tasks_need_stays(tmp_path: Path) -> None:
    install(tmp_path, "--container")
    for name in ("var/lib/berth", "var/lib/ecs", "var/log/ecs"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "kept").touch()
    for _ in range(2):
        done = install(tmp_path, "--uninstall")
        assert done.returncode == 0, done.stderr
    assert files(tmp_path) == {
        "etc/ecs/ecs.config",
        "var/lib/berth/kept",
        "var/lib/ecs/kept",
        "var/log/ecs/kept",
    }


@pytest.mark.parametrize("argument", ["--help", "native", "--remove"])
def test_an_unknown_argument_changes_nothing(tmp_path: Path, argument: str) -> None:
    done = install(tmp_path, argument)
    assert done.returncode == 1
    assert f"unknown argument {argument}; expected" in done.stderr
    assert files(tmp_path) == set()


def test_an_interpreter_that_is_too_old_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.2"\nexit 1\n', encoding="utf-8")
    old.chmod(0o755)
    done = install(tmp_path / "to", PYTHON=str(old))
    assert done.returncode == 1
    assert "is Python 3.9.2; berth needs Python 3.11 or newer" in done.stderr
    assert files(tmp_path / "to") == set()


def test_an_interpreter_of_a_virtual_environment_is_refused_for_it_may_go_away(tmp_path: Path) -> None:
    done = install(tmp_path, PYTHON=str(ROOT / ".venv/bin/python"))
    assert done.returncode == 1
    assert "virtual environment" in done.stderr
    assert files(tmp_path) == set()


def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = install(tmp_path, PYTHON="python3.99")
    assert done.returncode == 1
    assert "there is no python3.99" in done.stderr


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_the_whole_program_is_installed_runs_and_is_brought_up_to_date_in_place(tmp_path: Path) -> None:
    if shutil.which("gcc") is None and not list((ROOT / "build/pause").glob("pause-*.json")):
        pytest.skip("neither build/pause nor gcc is there: make pause")
    if subprocess.run(["/usr/bin/python3", "-c", "import ensurepip"], check=False).returncode:
        pytest.skip("/usr/bin/python3 cannot make environments (Debian: python3-venv)")
    done = install(tmp_path)
    assert done.returncode == 0, done.stderr
    lib = tmp_path / "usr/lib/berth"
    installed = files(tmp_path)
    assert {
        "usr/bin/berth",
        "usr/lib/systemd/system/berth.service",
        "etc/ecs/ecs.config",
        "usr/lib/berth/cni/ecs-bridge",
        "usr/lib/berth/cni/ecs-plugin-host",
        "usr/lib/berth/pause/pause-amd64.tar",
        "usr/lib/berth/pause/keeper-amd64.tar",
        "usr/share/man/man1/berth.1",
    } <= installed
    # as it will run; only the place is another one
    said = subprocess.run(
        [lib / "venv/bin/python3", "-I", lib / "start.py", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert said.stdout.startswith("berth ")
    wrapper = (tmp_path / "usr/bin/berth").read_text(encoding="utf-8")
    assert "exec /usr/lib/berth/venv/bin/python3 -I /usr/lib/berth/start.py" in wrapper
    (packages,) = lib.glob("venv/lib/python3*/site-packages")
    assert str(tmp_path) not in (lib / "venv/pyvenv.cfg").read_text().replace(f"venv {lib}", "")

    # again: quick, and what an older version had is gone
    (packages / "agent/of_an_older_version.py").touch()
    environment = (lib / "venv/pyvenv.cfg").stat().st_mtime_ns
    again = install(tmp_path)
    assert again.returncode == 0, again.stderr
    assert (lib / "venv/pyvenv.cfg").stat().st_mtime_ns == environment
    assert files(tmp_path) == installed

    done = install(tmp_path, "--uninstall")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == {"etc/ecs/ecs.config"}
