"""What the pages for operators name is there under that name."""

import re
from pathlib import Path

import pytest

from agent.cli.doctor.listing import CHECKS
from agent.cli.vocabulary import WORDS
from agent.settings.ineffective import INEFFECTIVE
from agent.settings.libraries import FOR_LIBRARIES
from agent.settings.variables import VARIABLES
from docs.pages import log_events
from tests.e2e.agent_container import run_line

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("README.md", "docs/deploy.md", "docs/runbook.md", "docs/security.md", "docs/state.md", "docs/ecs.md")
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}
OF_THE_SCRIPT = {"ECS_CLUSTR", "BERTH_IN_CONTAINER"}
"""A misspelt one, which the README shows, and one that only an image sets."""


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_that_a_page_names_is_known(page: str) -> None:
    known = {
        name
        for table in (VARIABLES, INEFFECTIVE, FOR_LIBRARIES)
        for each in table
        for name in (each.name, *getattr(each, "aliases", ()))
    }
    named = set(re.findall(r"\b(?:ECS|BERTH)_[A-Z][A-Z_]*[A-Z]\b", PAGES[page]))
    assert named
    assert named - known - OF_THE_SCRIPT == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_word_of_the_command_that_a_page_types_is_one(page: str) -> None:
    known = {word.name for word in WORDS}
    typed = set(re.findall(r"`(?:docker exec (?:-\w+ )?ecs-agent )?berth ([a-z]+)", PAGES[page]))
    for block in re.findall(r"^```sh\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL):
        typed |= set(re.findall(r"^(?:docker exec (?:-\w+ )?ecs-agent )?berth ([a-z]+)", block, re.MULTILINE))
    assert typed - known == set()


def test_every_check_that_a_page_names_is_one_of_the_doctors() -> None:
    known = {check.name for check in CHECKS}
    named = {
        name
        for text in PAGES.values()
        for names in re.findall(r"berth doctor((?: (?:--fix|[a-z][a-z-]+))+)`", text)
        for name in names.split()
    } - {"--fix"}
    assert len(named) >= 8
    assert named - known == set()


def test_every_log_event_in_the_runbook_is_logged() -> None:
    logged = {call.name for call in log_events.log_calls()}
    words = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", PAGES["docs/runbook.md"]))
    named = {
        word for word in words if log_events.EVENT.fullmatch(word) and not word.endswith((".json", ".md"))
    }
    assert {"agent.failed", "agent.stalled"} <= named
    assert named - logged == set()


@pytest.mark.parametrize("page", ["README.md", "docs/deploy.md"])
def test_the_command_that_starts_the_container_is_the_tested_one_and_starts_again_by_itself(
    page: str,
) -> None:
    (block,) = re.findall(
        r"^docker run -d .*?--privileged.*?berth/agent$", PAGES[page], re.MULTILINE | re.DOTALL
    )
    words = block.replace("\\\n", " ").split()
    assert words[:1] == ["docker"]
    assert sorted(words[1:]) == sorted([*run_line(Path("/etc/ecs/ecs.config")), "--restart=always"])
