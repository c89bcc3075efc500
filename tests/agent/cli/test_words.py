import argparse
import importlib
import json
import re

import pytest

from agent.cli import failures
from agent.cli import help as texts
from agent.cli.main import main
from agent.cli.parsing import KINDS, parse, parser_of
from agent.cli.vocabulary import WORDS, word_named
from agent.cli.words import EXIT_CODES, GROUPS, Word

NAMES = [word.name for word in WORDS]


def each_word() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("word", WORDS, ids=NAMES)


@each_word()
def test_a_word_leads_to_a_function_that_takes_what_was_parsed(word: Word) -> None:
    module, name = word.does.split(":")
    function = getattr(importlib.import_module(module), name)
    assert callable(function)
    assert function.__doc__


@each_word()
def test_a_word_teaches(word: Word) -> None:
    assert word.group in dict(GROUPS)
    assert len(word.summary) <= 70, "the overview is for a terminal of 90 letters"
    assert word.summary[0].islower()
    assert not word.summary.endswith(".")
    assert word.text.endswith(".")
    assert len(word.text) > 80
    assert word.examples
    assert word.related
    assert all(word_named(name) is not None and name != word.name for name in word.related)
    assert all(kind in KINDS for kind in (option.kind for option in word.options))
    assert all(code in dict(EXIT_CODES) for code, _ in word.codes)


@each_word()
def test_the_help_of_a_word_names_everything_and_fits(word: Word, capsys) -> None:
    assert main([word.name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert main(["help", word.name]) == 0
    assert capsys.readouterr().out == shown
    assert shown.startswith(f"usage: berth {word.name}")
    for option in word.options:
        assert option.shown in shown
    prose = shown.partition("Examples:")[0]
    assert max(map(len, prose.splitlines())) <= texts.WIDTH


@each_word()
def test_an_example_is_something_that_can_be_typed(word: Word) -> None:
    found = 0
    for example in word.examples:
        for _, arguments in re.findall(r"\b(berth) ([a-z]+[^|;)#>]*)", example.command):
            name, *rest = arguments.partition("||")[0].replace('"', "").split()
            typed = [each.strip("'") for each in rest if "$(" not in each]
            asked = word_named(name)
            assert asked is not None, example.command
            if "'" not in example.command and "$(" not in example.command:
                parser_of(asked).parse_args(typed)
            found += 1
    assert found


def test_every_word_that_answers_has_json_but_those_whose_output_is_for_a_shell_or_a_reader() -> None:
    without = {word.name for word in WORDS if not word.takes_json}
    assert without == {"agent", "help", "man", "completion"}


def test_the_codes_of_failures_are_those_that_are_explained() -> None:
    codes = {value for name, value in vars(failures).items() if name.isupper()}
    assert codes | {5} == set(dict(EXIT_CODES))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["lgos"], "there is no word 'lgos'; did you mean logs?"),
        (["ls"], "did you mean ps?"),
        (["kill", "x"], "did you mean stop?"),
        (["stat"], "did you mean status?"),
        (["zzzz"], "berth help lists them"),
        (["help", "explian"], "did you mean explain?"),
        (["logs", "abcd", "--folow"], "there is no option --folow; did you mean --follow"),
        (["ps", "--al"], "did you mean --all"),
        (["ps", "--famly=x"], "there is no option --famly; did you mean --family"),
        (["ps", "abcd"], "'abcd' is too much; usage: berth ps"),
        (["--json", "ps"], "a word comes first, as in berth ps --json"),
        (["stop"], "the following arguments are required: TASK; berth help stop says more"),
        (["ps", "--status", "DEAD"], "invalid choice: 'DEAD'"),
        (["logs", "--since", "noon", "abcd"], "expected a length of time like 90s, 15m, 2h, 3d"),
        (["logs"], "which task?"),
        (["logs", "abcd", "--level", "warn"], "--level is for the agent's own log; add --agent"),
        (["logs", "--agent", "abcd"], "berth logs --agent --task abcd"),
    ],
)
def test_a_slip_of_the_hand_is_answered_with_what_may_have_been_meant(typed, said, capsys) -> None:
    assert main(typed) == 2
    assert said in capsys.readouterr().err


def test_a_failure_with_json_is_one_object_on_stderr(data_directory, monkeypatch, capsys) -> None:
    monkeypatch.setenv("BERTH_INTROSPECTION_ADDRESS", "127.0.0.1:1")
    for typed, code in ((["status", "--json"], 4), (["ps", "--json", "--al"], 2), (["fly", "--json"], 2)):
        assert main(typed) == code
        told = capsys.readouterr()
        assert told.out == ""
        error = json.loads(told.err)["error"]
        assert (error["command"], error["exit_code"]) == (typed[0], code)
        assert error["message"]


def test_a_note_beside_a_json_answer_is_json_too(data_directory, monkeypatch, capsys) -> None:
    monkeypatch.setenv("BERTH_INTROSPECTION_ADDRESS", "127.0.0.1:1")
    assert main(["config", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["settings"]
    for line in told.err.splitlines():
        assert json.loads(line)["warning"]["command"] == "config"


@pytest.mark.parametrize(
    "typed", ["logs 8f0c -f web --tail 5", "logs -f --tail=5 8f0c web", "logs 8f0c web --tail 5 --follow"]
)
def test_options_may_stand_anywhere(typed: str) -> None:
    word = word_named("logs")
    assert word is not None
    chosen = parse(word, typed.split()[1:])
    assert (chosen.task, chosen.container, chosen.follow, chosen.tail) == ("8f0c", "web", True, 5)
    stop = word_named("stop")
    assert stop is not None
    assert parse(stop, ["a", "--json", "b", "--", "-c"]).task == ["a", "b", "-c"]


def test_what_is_parsed_has_what_every_command_reads() -> None:
    for word in WORDS:
        required = [option.flags for option in word.options if option.is_positional and option.takes == "one"]
        values = ["bash" if flags == "SHELL" else "x" for flags in required]
        values += ["x" for option in word.options if option.takes == "many"]
        chosen = parser_of(word).parse_args(values)
        assert isinstance(chosen, argparse.Namespace)
        assert {"command", "does", "env_file", "json", "color"} <= set(vars(chosen))
