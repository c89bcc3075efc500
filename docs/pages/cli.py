"""``docs/cli.md`` and ``docs/man/berth.1``: the command line, from the words of ``agent.cli``."""

from agent.cli import man
from agent.cli.vocabulary import WORDS
from agent.cli.words import EXIT_CODES, FILES, GENERAL, GROUPS, OUTPUT, Option, Word
from docs.pages.table import code, table

_INTRODUCTION = """\
# The command line

*Generated from `agent/cli/vocabulary`. Change it there, then run `make docs`.*

`berth help WORD` and `man -l docs/man/berth.1` say the same; `berth man` prints the page where it is not
installed. `eval "$(berth completion bash)"` makes the shell complete words, options, ids of tasks and names
of containers; there are scripts for zsh and fish as well.
"""


def page() -> str:
    """The page."""
    parts = [_INTRODUCTION, "## What there is\n"]
    for key, title in GROUPS:
        rows = [(f"[`berth {word.name}`](#berth-{word.name})", word.summary) for word in _of(key)]
        parts += [f"### {title}\n", table(("Word", "What for"), rows), ""]
    parts += ["## What holds for every word\n", OUTPUT, ""]
    parts += [_options(GENERAL), ""]
    parts += ["## Exit codes\n", table(("Code", "Meaning"), [(str(n), text) for n, text in EXIT_CODES]), ""]
    parts += ["## Files\n", table(("File", "Meaning"), [(code(name), text) for name, text in FILES]), ""]
    for key, _ in GROUPS:
        for word in _of(key):
            parts += _word(word)
    return "\n".join(parts).rstrip() + "\n"


def manual() -> str:
    """The manual page, as ``berth man`` prints it."""
    return man.page()


def _of(group: str) -> list[Word]:
    return [word for word in WORDS if word.group == group]


def _word(word: Word) -> list[str]:
    parts = [f"## `berth {word.name}`\n", f"```\n{word.usage}\n```\n", word.text, ""]
    own = tuple(option for option in word.options if option not in GENERAL)
    if own:
        parts += [_options(own), ""]
    general = [code(option.names[-1]) for option in word.options if option in GENERAL]
    if general:
        parts += [f"And {', '.join(general)}.\n"]
    if word.codes:
        parts += [table(("Exit code", "Here it means"), [(str(n), text) for n, text in word.codes]), ""]
    lines = []
    for example in word.examples:
        lines += [f"$ {example.command}", *example.output.splitlines()]
    if lines:
        parts += ["```console", *lines, "```", ""]
    if word.related:
        links = ", ".join(f"[`berth {name}`](#berth-{name})" for name in word.related)
        parts += [f"See also: {links}.\n"]
    return parts


def _options(options: tuple[Option, ...]) -> str:
    return table(("Option", "Meaning"), [(code(option.shown), option.text) for option in options])
