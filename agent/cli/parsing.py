"""From what was typed to what is meant: one parser for one word, made when the word is used."""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Never

from agent.cli.failures import USAGE, Failure
from agent.cli.words import Option, Word

LONGEST_CHECK = 25
"""Seconds for ``berth healthcheck`` (ecs-protocol 0.3)."""

_LONGEST_NUMBER = 9  # digits; more is a slip of the hand


class HelpWanted(Exception):
    """Somebody has typed ``--help``."""


def parse(word: Word, given: Sequence[str]) -> argparse.Namespace:
    """Read what stands after the word. Raise ``Failure`` with a suggestion, or ``HelpWanted``."""
    # intermixed: as in berth logs TASK -f CONTAINER
    chosen, strange = parser_of(word).parse_known_intermixed_args(given)
    if strange:
        raise _not_known(word, strange)
    return chosen


def parser_of(word: Word) -> argparse.ArgumentParser:
    """The parser of what stands after a word."""
    parser = _Parser(prog=f"berth {word.name}", add_help=False, allow_abbrev=False)
    parser.set_defaults(command=word.name, does=word.does, env_file=None, json=False, color="auto")
    parser.add_argument("-h", "--help", action=_Help)
    for option in word.options:
        _add(parser, option)
    return parser


def suggestion(wrong: str, right: Sequence[str], meanings: Mapping[str, str] | None = None) -> str:
    """``; did you mean this or that?``, or nothing. ``meanings``: other names for what is right."""
    meanings = meanings or {}
    if wrong in meanings:
        return f"; did you mean {meanings[wrong]}?"
    # only somebody who has mistyped waits for this import
    from difflib import get_close_matches  # noqa: PLC0415

    close = [name for name in right if len(wrong) > 1 and name.startswith(wrong)]
    close = close or get_close_matches(wrong, right, n=2, cutoff=0.6)
    close = close or [meanings[name] for name in get_close_matches(wrong, meanings, n=1, cutoff=0.7)]
    return f"; did you mean {' or '.join(close[:3])}?" if close else ""


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    details: dict[str, Any] = {}
    if option.is_positional:
        details["nargs"] = {"one": None, "optional": "?", "many": "+", "any": "*"}[option.takes]
    elif not option.metavar:
        parser.add_argument(*option.names, action="store_true")
        return
    else:
        if option.dest:
            details["dest"] = option.dest
        if option.takes == "any":
            details["action"] = "append"
        details["default"] = [] if option.takes == "any" else option.default
    names = [option.flags.lower()] if option.is_positional else option.names
    parser.add_argument(
        *names,
        metavar=option.metavar,
        type=KINDS[option.kind],
        choices=option.choices or None,
        **details,
    )


def _not_known(word: Word, strange: Sequence[str]) -> Failure:
    wrong = strange[0]
    if not wrong.startswith("-"):
        return Failure(f"{wrong!r} is too much; usage: {word.usage}", USAGE)
    flags = [name for option in word.options if not option.is_positional for name in option.names]
    name = wrong.split("=", 1)[0]
    hint = suggestion(name, flags) or f"; berth help {word.name} has all options"
    return Failure(f"there is no option {name}{hint}", USAGE)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Never:
        word = self.prog.removeprefix("berth ")
        raise Failure(f"{message}; berth help {word} says more", USAGE)


class _Help(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS)

    def __call__(self, *_: object, **__: object) -> Never:
        raise HelpWanted


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _LONGEST_NUMBER:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number")
    return int(text)


def _positive(text: str) -> int:
    number = _number(text)
    if number == 0:
        raise argparse.ArgumentTypeError("expected a number of at least 1")
    return number


def _check(text: str) -> int:
    number = _positive(text)
    if number > LONGEST_CHECK:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 1 to {LONGEST_CHECK} seconds")
    return number


def _since(text: str) -> float:
    """Seconds since 1970."""
    # only --since pays for these imports
    import time  # noqa: PLC0415
    from datetime import UTC, datetime  # noqa: PLC0415

    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text, re.ASCII):
        return time.time() - int(match[1]) * units[match[2]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected a length of time like 90s, 15m, 2h, 3d, or a time like 2026-01-31T12:00:00Z"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


KINDS: dict[str, Callable[[str], Any]] = {
    "text": str,
    "number": _number,
    "positive": _positive,
    "check": _check,
    "since": _since,
    "status": str.upper,
}
"""How the value of an option is read, by the name of its kind."""
