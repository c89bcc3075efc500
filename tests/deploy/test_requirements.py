"""The pins: every package that is needed has one, they are what is installed, and they name no place."""

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
ASKED_FOR = ("aiohttp", "boto3", "docker", "pyroute2", "structlog")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]


def pins(name: str) -> dict[str, str]:
    pairs = (line.split("==") for line in lines(name) if not line.startswith("-r "))
    return {canonical(package): version for package, version in pairs}


def needs(package: str, extras: frozenset[str]) -> list[Requirement]:
    found = map(Requirement, importlib.metadata.requires(package) or ())
    environments = [{"extra": extra} for extra in (*extras, "")]
    return [
        need for need in found if need.marker is None or any(need.marker.evaluate(e) for e in environments)
    ]


def closure(*asked: str) -> set[str]:
    found: set[tuple[str, frozenset[str]]] = set()
    todo = [(canonical(need.name), frozenset(need.extras)) for need in map(Requirement, asked)]
    while todo:
        package, extras = todo.pop()
        if (package, extras) not in found:
            found.add((package, extras))
            todo += [(canonical(need.name), frozenset(need.extras)) for need in needs(package, extras)]
    return {package for package, _ in found}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_line_is_an_exact_version_and_names_no_place(name: str) -> None:
    wrong = [line for line in lines(name) if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]

    assert wrong == (["-r requirements.txt"] if name == "requirements-dev.txt" else [])


def test_run_time_pins_are_exactly_what_the_agent_needs_and_what_comes_with_it() -> None:
    assert set(pins("requirements.txt")) == closure(*ASKED_FOR)


def test_what_the_package_declares_is_what_is_pinned() -> None:
    declared = re.search(r"^dependencies = \[(.*)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)

    assert declared is not None
    assert re.findall(r'"([^"]+)"', declared[1]) == list(ASKED_FOR)


def test_development_pins_are_complete() -> None:
    pinned = pins("requirements-dev.txt") | pins("requirements.txt")

    assert closure(*pinned) - set(pinned) == set()
    assert closure("moto[server]") - set(pinned) == set()


def test_no_package_is_pinned_twice() -> None:
    assert set(pins("requirements.txt")) & set(pins("requirements-dev.txt")) == set()
