"""What is taken out of the image's Python environment, and that the agent needs nothing of it."""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from deploy.image import contents

ROOT = Path(__file__).parents[2]
ASKED_BY_THE_SEARCH_FOR_CREDENTIALS = {"signin", "sso", "sso-oidc", "sts"}
"""Named in botocore's credentials.py and tokens.py; see the test."""


def services_named_in(folder: Path) -> set[str]:
    """First arguments of every call that makes a client or reads a service's description."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"client", "client_with", "create_client", "load_service_model"}
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
            ):
                found.add(node.args[0].value)
    return found


def a_service(data: Path, name: str, *versions: str) -> None:
    for version in versions:
        folder = data / name / version
        folder.mkdir(parents=True)
        for file in (
            "service-2.json.gz",
            "endpoint-rule-set-1.json.gz",
            "paginators-1.json",
            "examples-1.json",
        ):
            (folder / file).write_text(version)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for service in contents.SERVICES:
        a_service(folder, service, "2014-11-13")
    (folder / "partitions.json").write_text("{}")
    return folder


def test_what_stays_of_botocore_is_what_the_agent_asks_and_what_botocore_asks_for_credentials() -> None:
    assert set(contents.SERVICES) == services_named_in(ROOT / "agent") | ASKED_BY_THE_SEARCH_FOR_CREDENTIALS


def test_botocores_search_for_credentials_asks_no_other_service() -> None:
    spec = find_spec("botocore.credentials")
    assert spec is not None
    assert spec.origin is not None
    sources = [Path(spec.origin), Path(spec.origin).with_name("tokens.py")]
    calls = re.compile(r"client(?:_creator)?\(\s*(?:self\._session,\s*)?['\"]([a-z0-9-]+)['\"]")

    assert {
        name for source in sources for name in calls.findall(source.read_text())
    } == ASKED_BY_THE_SEARCH_FOR_CREDENTIALS


def test_other_services_go_and_the_general_files_stay(data: Path) -> None:
    a_service(data, "s3", "2006-03-01")

    contents.prune_models(data)

    assert not (data / "s3").exists()
    assert (data / "partitions.json").is_file()
    assert {path.name for path in data.iterdir() if path.is_dir()} == set(contents.SERVICES)


def test_of_several_descriptions_the_newest_stays_without_its_examples(data: Path) -> None:
    a_service(data, "ec2", "2016-11-15", "2014-09-01", "2015-10-01")

    contents.prune_models(data)

    assert [path.name for path in (data / "ec2").iterdir()] == ["2016-11-15"]
    left = {path.name for path in (data / "ec2" / "2016-11-15").iterdir()}
    assert left == {"service-2.json.gz", "endpoint-rule-set-1.json.gz", "paginators-1.json"}


def test_a_service_that_botocore_no_longer_describes_ends_the_build(data: Path) -> None:
    (data / "ecr").rename(data / "registry")

    with pytest.raises(contents.ContentsError, match="no description of 'ecr'"):
        contents.prune_models(data)


def test_tests_and_sources_of_extensions_go(tmp_path: Path, data: Path) -> None:
    packages = tmp_path / "site-packages"
    (packages / "botocore").mkdir(parents=True)
    data.rename(packages / "botocore" / "data")
    (packages / "thing" / "tests" / "test").mkdir(parents=True)
    for name in (
        "__init__.py",
        "fast.pyx",
        "fast.c",
        "fast.cpython-311.so",
        "__init__.pyi",
        "tests/test_it.py",
    ):
        (packages / "thing" / name).write_text("x = 1\n")

    contents.prune_environment(packages)

    assert {path.name for path in (packages / "thing").iterdir()} == {"__init__.py", "fast.cpython-311.so"}


def test_of_the_commands_only_the_interpreter_stays(tmp_path: Path) -> None:
    for name in ("python3", "pip", "activate", "idna"):
        (tmp_path / name).write_text("")
    (tmp_path / "python").symlink_to("python3")
    (tmp_path / "__pycache__").mkdir()

    contents.prune_commands(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {"python", "python3"}


def test_a_module_that_does_not_compile_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def (:\n")

    with pytest.raises(contents.ContentsError, match="compiled"):
        contents.compile_all(tmp_path)


def test_a_folder_without_an_environment_is_said_to_be_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert contents.main(["--prune", str(tmp_path)]) == 1

    assert "is no environment" in capsys.readouterr().err
