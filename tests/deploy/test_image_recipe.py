"""The Dockerfile as a text: what it may not do, whoever builds it and wherever."""

import re
from pathlib import Path

import pytest

from agent import __version__
from deploy.image.base import FOR_BUILDING, IN_THE_BASE
from deploy.image.build import PUBLIC_BASE
from deploy.image.contents import PLACE

ROOT = Path(__file__).parents[2]


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "Dockerfile").read_text()).replace("\\\n", " ")
    found = [line.partition(" ") for line in text.splitlines() if line.strip()]
    return [(name, re.sub(r"\s+", " ", rest).strip()) for name, _, rest in found]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions by the name of their stage; the last has no name."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = "before"
    for instruction, rest in instructions():
        if instruction == "FROM":
            name = rest.partition(" AS ")[2]
        found.setdefault(name, []).append((instruction, rest))
    return found


def only(instruction: str) -> str:
    (found,) = [rest for name, rest in stages()[""] if name == instruction]
    return found


def test_the_last_stage_only_copies() -> None:
    last = stages()[""]

    assert last[0] == ("FROM", "scratch")
    assert {name for name, _ in last} <= {
        *("FROM", "COPY", "ARG", "LABEL", "ENV", "USER", "WORKDIR"),
        *("STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
    }
    assert all(rest.startswith("--from=") for name, rest in last if name == "COPY")


def test_of_the_stage_with_the_compiler_only_what_it_made_is_copied() -> None:
    with_gcc = [name for name, lines in stages().items() if any("gcc" in rest for _, rest in lines)]
    copied = [rest.split()[1:] for _, rest in instructions() if rest.startswith("--from=build")]

    assert with_gcc == ["build"]
    assert all(source == target for source, target in copied)
    assert all(source == "/usr/bin/berth" or source.startswith("/usr/lib/berth/") for source, _ in copied)


def test_the_agent_is_the_last_thing_that_is_copied() -> None:
    copied = [rest for name, rest in stages()[""] if name == "COPY"]

    assert copied[0] == "--from=files / /"
    assert copied[-1] == f"--from=build {PLACE} {PLACE}"


def test_every_stage_is_made_from_the_base_that_was_chosen_or_from_another_stage() -> None:
    froms = [rest for name, rest in instructions() if name == "FROM"]

    assert froms == ["${BASE_IMAGE} AS base", "base AS build", "base AS files", "scratch"]


def test_the_default_base_names_a_release_and_is_the_one_that_the_build_looks_for() -> None:
    (default,) = [rest for name, rest in instructions() if name == "ARG" and rest.startswith("BASE_IMAGE")]

    assert default == f"BASE_IMAGE={PUBLIC_BASE}"
    assert re.fullmatch(r"[a-z]+:[0-9]+-slim", PUBLIC_BASE)
    assert ":latest" not in (ROOT / "Dockerfile").read_text()


def test_nothing_is_fetched_by_an_address() -> None:
    names = {name for name, _ in instructions()}

    assert "ADD" not in names
    assert not re.search(r"https?://|curl|wget", (ROOT / "Dockerfile").read_text())


def test_nothing_names_an_architecture() -> None:
    sources = [ROOT / "Dockerfile", *(ROOT / "deploy/image").glob("*.*")]
    words = re.compile(r"amd64|x86_64|arm64|aarch64|--platform", re.IGNORECASE)

    assert [path.name for path in sources if words.search(path.read_text())] == []


def test_the_packages_are_those_that_are_fetched_for_a_build_without_network() -> None:
    installed = {
        name: rest.partition("install.sh ")[2].split()
        for name, lines in stages().items()
        for instruction, rest in lines
        if instruction == "RUN" and "install.sh" in rest
    }

    assert installed == {"base": list(IN_THE_BASE), "build": list(FOR_BUILDING)}


def test_the_default_version_is_that_of_the_tree() -> None:
    assert ("ARG", f"VERSION={__version__}") in stages()[""]


@pytest.mark.parametrize("label", ["title", "description", "licenses", "version", "revision", "source"])
def test_the_image_says_what_it_is(label: str) -> None:
    assert f"org.opencontainers.image.{label}=" in only("LABEL")


def test_docker_asks_for_health_longer_than_the_answer_may_take() -> None:
    asked = only("HEALTHCHECK")

    assert asked.endswith('CMD ["berth", "healthcheck"]')
    timeout = re.search(r"--timeout=(\d+)s", asked)
    assert timeout is not None
    assert int(timeout[1]) > 25


def test_it_runs_the_agent_as_root_and_is_stopped_by_term() -> None:
    assert only("USER") == "0:0"
    assert only("STOPSIGNAL") == "SIGTERM"
    assert (only("ENTRYPOINT"), only("CMD")) == ('["berth"]', '["agent"]')


def test_the_paths_of_the_settings_are_where_the_build_puts_things() -> None:
    variables = dict(word.split("=", 1) for word in only("ENV").split())
    made = " ".join(rest for name, rest in stages()["build"] if name == "RUN")

    assert (
        f'cni_plugins.build --interpreter /usr/bin/python3 --revision "${{REVISION}}" --output {variables["ECS_CNI_PLUGINS_PATH"]} '
        in made
    )
    assert f"pause.build --output {variables['BERTH_PAUSE_PATH']} " in made
    assert variables["BERTH_IN_CONTAINER"] == "true"
    assert variables["ECS_DATADIR"] == "/var/lib/ecs/data"
    assert variables["ECS_LOGFILE"].startswith("/var/log/ecs/")


def test_docker_is_sent_what_is_copied_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    sent = {line[1:] for line in rules if line.startswith("!")}
    copied = {
        word.replace("[d]", "d")
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for word in rest.split()[:-1]
    }

    assert rules[0] == "*"
    assert {"**/__pycache__"} == {line for line in rules[1:] if not line.startswith("!")}
    assert all(any(word == one or word.startswith(f"{one}/") for one in sent) for word in copied)
    assert not any(one.startswith((".git", ".venv", "tests")) or one == "build" for one in sent)


def test_the_launcher_starts_what_the_build_installs() -> None:
    launcher = (ROOT / "deploy/image/launch.c").read_text()
    made = " ".join(rest for name, rest in stages()["build"] if name == "RUN")

    assert '"/usr/lib/berth/venv/bin/python3"' in launcher
    assert f'"{PLACE}/start.py"' in launcher
    assert "environment.sh /usr/lib/berth/venv " in made
    assert "contents.py --prune /usr/lib/berth/venv" in made
    assert f"deploy.image.contents --install {PLACE}" in made
