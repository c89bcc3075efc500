"""Help that teaches: an overview in groups, and for each word what it is for, with examples."""

import argparse
import textwrap
from collections.abc import Iterator

from agent import __version__
from agent.cli.failures import OK, USAGE, Failure
from agent.cli.vocabulary import WORDS, word_named
from agent.cli.words import EXIT_CODES, GROUPS, Option, Word

WIDTH = 90
"""Letters in a line of help: what a terminal holds and an eye follows."""

PURPOSE = "Run awsvpc tasks on the Docker Engine of this machine, with the API of Amazon ECS."


def show(chosen: argparse.Namespace) -> int:
    """``berth help [WORD]``."""
    if chosen.word is None:
        print(overview())
        return OK
    word = word_named(chosen.word)
    if word is None:
        raise unknown(chosen.word)
    print(about(word))
    return OK


def overview() -> str:
    """Everything there is, in groups."""
    lines = ["usage: berth WORD [options] ...", "", PURPOSE]
    width = max(len(word.name) for word in WORDS) + 2
    for key, title in GROUPS:
        lines += ["", f"{title}:"]
        lines += [f"  {word.name:<{width}}{word.summary}" for word in WORDS if word.group == key]
    lines += ["", "Exit codes:", *_codes(EXIT_CODES), ""]
    lines += ["berth help WORD explains one of them, with examples.", f"This is berth {__version__}."]
    return "\n".join(lines)


def about(word: Word) -> str:
    """One word explained."""
    lines = [*_usage(word), "", *textwrap.wrap(word.text, WIDTH)]
    given = [option for option in word.options if option.is_positional]
    options = [option for option in word.options if not option.is_positional]
    for title, some in (("Given", given), ("Options", [*options, _HELP])):
        if some:
            lines += ["", f"{title}:", *_options(some)]
    if word.examples:
        lines += ["", "Examples:"]
    for example in word.examples:
        lines += [f"  $ {example.command}", *(f"  {line}".rstrip() for line in example.output.splitlines())]
        lines += [""] if example.output and example is not word.examples[-1] else []
    if word.codes:
        lines += ["", "Exit codes:", *_codes(word.codes), "  Others are as in berth help."]
    if word.related:
        lines += ["", "See also: " + ", ".join(f"berth {name}" for name in word.related)]
    return "\n".join(lines)


def unknown(name: str) -> Failure:
    """That there is no such word, with what may have been meant."""
    # only somebody who has mistyped waits for this import
    from agent.cli.parsing import suggestion  # noqa: PLC0415

    hint = suggestion(name, [word.name for word in WORDS], _ALIASES)
    return Failure(f"there is no word {name!r}{hint or '; berth help lists them'}", USAGE)


def _usage(word: Word) -> list[str]:
    first, *rest = textwrap.wrap(
        "usage: " + word.usage.replace("] [", "]\0[").replace(" ", "\1").replace("\0", " "),
        WIDTH,
        subsequent_indent=" " * (len("usage: berth ") + len(word.name) + 1),
        break_on_hyphens=False,
        break_long_words=False,
    )
    return [line.replace("\1", " ") for line in (first, *rest)]


def _options(options: list[Option]) -> Iterator[str]:
    width = max(len(option.shown) for option in options) + 2
    for option in options:
        indent = " " * (width + 2)
        yield from textwrap.wrap(f"  {option.shown:<{width}}{option.text}", WIDTH, subsequent_indent=indent)


def _codes(codes: tuple[tuple[int, str], ...]) -> Iterator[str]:
    return (f"  {code}  {meaning}" for code, meaning in codes)


_HELP = Option("-h --help", "this text")
_ALIASES = {
    "list": "ps",
    "ls": "ps",
    "inspect": "describe",
    "show": "describe",
    "kill": "stop",
    "rm": "stop",
    "start": "run",
    "health": "healthcheck",
    "why": "explain",
    "settings": "config",
    "info": "status",
    "daemon": "agent",
}
"""What other programs call our words."""
