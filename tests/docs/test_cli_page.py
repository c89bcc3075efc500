import re
import shutil
import subprocess

import pytest

from agent.cli import man
from agent.cli.vocabulary import WORDS
from agent.cli.words import EXIT_CODES
from docs import generate
from docs.pages import cli


def test_every_word_has_a_part_with_its_options_and_examples() -> None:
    parts = re.split(r"^## ", cli.page(), flags=re.MULTILINE)
    for word in WORDS:
        part = next(each for each in parts if each.startswith(f"`berth {word.name}`\n"))
        assert word.text in part
        assert all(f"$ {example.command}" in part for example in word.examples)
        assert all(option.names[-1] in part for option in word.options)


def test_the_exit_codes_are_the_same_in_help_page_and_manual() -> None:
    for code, meaning in EXIT_CODES:
        assert f"| {code} | {meaning} |" in cli.page()
        assert f".B {code}\n{meaning[0].upper()}" in man.page()


def test_the_manual_is_a_page_that_is_generated() -> None:
    assert generate.PAGES["man/berth.1"]() == man.page()


def test_groff_has_nothing_to_say_about_the_manual() -> None:
    if shutil.which("groff") is None:
        pytest.skip("there is no groff here")
    seen = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-rLL=100n"],
        input=man.page(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stderr == ""
    plain = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", seen.stdout)
    for word in WORDS:
        assert f"berth {word.name}" in plain
        for option in word.options:
            assert option.names[-1] in plain
        for example in word.examples:
            assert f"$ {example.command}" in plain, "an example is shown letter by letter"


def test_no_line_of_the_manual_is_taken_for_a_command_by_accident() -> None:
    known = {"TH", "SH", "SS", "B", "I", "BR", "TP", "PP", "nf", "fi", "RS", "RE"}
    commands = [line for line in man.page().splitlines() if line.startswith((".", "'"))]
    assert {re.split(r"[ .]", line[1:])[0] for line in commands} == known
