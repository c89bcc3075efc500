"""The executables: one file each, the right interpreter, the same bytes for the same tree, quick to start."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cni_plugins import build
from cni_plugins.build import BuildFailed

pytestmark = pytest.mark.integration  # needs no root, but many processes


def test_each_product_is_one_executable_file(plugins: Path) -> None:
    assert sorted(path.name for path in plugins.iterdir()) == [
        "ecs-bridge",
        "ecs-eni",
        "ecs-ipam",
        "ecs-plugin-host",
    ]
    assert all(os.access(path, os.X_OK) and path.is_file() for path in plugins.iterdir())


def test_the_shebang_names_a_real_interpreter_without_site(plugins: Path) -> None:
    first = (plugins / "ecs-eni").read_text().splitlines()[0]
    found = re.fullmatch(r"#!(/\S+) -IS", first)
    assert found is not None
    interpreter = Path(found.group(1))
    assert interpreter.resolve() == interpreter
    assert interpreter.read_bytes()[:4] == b"\x7fELF"
    assert "shims" not in first


def test_the_same_tree_gives_the_same_bytes(plugins: Path, tmp_path: Path) -> None:
    for path in build.build(tmp_path):
        assert path.read_bytes() == (plugins / path.name).read_bytes(), path.name
        assert path.stat().st_mtime == 0


def test_no_path_of_the_building_machine_is_in_an_executable(plugins: Path) -> None:
    root = str(Path(build.__file__).parent.parent).encode()
    assert not any(root in path.read_bytes() for path in plugins.iterdir())


@pytest.mark.parametrize("name", ["ecs-eni", "ecs-bridge", "ecs-ipam"])
def test_nothing_slow_is_imported_at_a_cold_start(plugins: Path, name: str) -> None:
    slow = (
        "os",
        "re",
        "json",
        "typing",
        "enum",
        "dataclasses",
        "socket",
        "ctypes",
        "logging",
        "argparse",
        "asyncio",
    )
    text = (plugins / name).read_text()
    interpreter = text.splitlines()[0][2:].split()[0]
    done = subprocess.run(
        [interpreter, "-X", "importtime", "-IS", str(plugins / name), "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert imported & set(slow) == set()
    assert "cni_plugins.skeleton.run" in imported


def test_another_python_runs_the_sources_instead(plugins: Path, tmp_path: Path) -> None:
    text = (plugins / "ecs-ipam").read_text()
    foreign = re.sub(r'MAGIC_NUMBER.hex\(\) == "\w+"', 'MAGIC_NUMBER.hex() == "00000000"', text)
    assert foreign != text
    copy = tmp_path / "ecs-ipam"
    copy.write_text(foreign)
    copy.chmod(0o755)
    for options in (["--version"], ["--capabilities"]):
        said = [
            subprocess.run([str(path), *options], capture_output=True, check=True).stdout
            for path in (copy, plugins / "ecs-ipam")
        ]
        assert said[0] == said[1]


def test_a_copied_executable_needs_nothing_beside_it(plugins: Path, tmp_path: Path) -> None:
    shutil.copy(plugins / "ecs-bridge", tmp_path / "alone")
    done = subprocess.run(
        [str(tmp_path / "alone"), "--version"], capture_output=True, env={}, cwd="/", check=True
    )
    assert set(json.loads(done.stdout)) == {"version", "dirty", "gitShortHash"}


def test_a_given_interpreter_is_used(tmp_path: Path) -> None:
    real = Path(sys.executable).resolve()
    build.build(tmp_path, Path(sys.executable))
    assert (tmp_path / "ecs-eni").read_text().startswith(f"#!{real} -IS\n")
    subprocess.run([str(tmp_path / "ecs-eni"), "--version"], check=True, capture_output=True)


def test_an_interpreter_that_does_not_fit_a_shebang_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="does not fit into a shebang line"):
        build.build(tmp_path / "out", tmp_path / ("x" * 130))


def test_an_interpreter_that_cannot_compile_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="cannot compile ecs-eni"):
        build.build(tmp_path, Path(shutil.which("false") or "/bin/false"))


def test_the_command_line_prints_what_it_built(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cni_plugins.build", "--output", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(build.__file__).parent.parent
    )
    assert done.stdout.split() == [str(tmp_path / name) for name in build.PRODUCTS]


def test_only_what_a_plugin_needs_is_in_it() -> None:
    modules = build.needed_modules("cni_plugins.ipam.__main__")
    assert "cni_plugins.ipam.store" in modules
    assert not any(
        name.startswith(("cni_plugins.kernel", "cni_plugins.eni", "cni_plugins.bridge")) for name in modules
    )
