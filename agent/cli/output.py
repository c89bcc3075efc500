"""How answers look: tables and colour for people, tabs for pipes, JSON for programs."""

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.cli.failures import Failure

_GREEN, _YELLOW, _RED = "32", "33", "31"
_COLOURS = dict.fromkeys(("RUNNING", "HEALTHY", "OK", "connected", "active", "ACTIVE"), _GREEN)
_COLOURS |= dict.fromkeys(
    (
        "PENDING",
        "PROVISIONING",
        "ACTIVATING",
        "DEPROVISIONING",
        "DEACTIVATING",
        "STOPPING",
        "warning",
        "WARNING",
        "warn",
    ),
    _YELLOW,
)
_COLOURS |= dict.fromkeys(
    (
        "STOPPED",
        "UNHEALTHY",
        "IMPAIRED",
        "PROBLEM",
        "TIMED OUT",
        "disconnected",
        "error",
        "critical",
        "crit",
    ),
    _RED,
)
_WHOLE = frozenset({"STATUS", "HEALTH", "ADDRESS", "AGE", "EXIT", "COUNT", "KIND"})
"""Columns that are never cut."""
_SHORTEST = 10
_SHORTEST_ID = 12
_AS_CHOSEN = {"color": "auto"}


def choose(color: str) -> None:
    """Take what ``--color`` says: ``auto``, ``always`` or ``never``."""
    _AS_CHOSEN["color"] = color


def print_json(document: Any) -> None:
    """The whole answer, for programs."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def note(chosen: argparse.Namespace, text: str) -> None:
    """Something that a person should know beside the answer, on stderr."""
    if chosen.json:
        warning = {"command": chosen.command, "message": text}
        print(json.dumps({"warning": warning}, ensure_ascii=False), file=sys.stderr)
    else:
        print(f"berth {chosen.command}: {text}", file=sys.stderr)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """On a terminal aligned with a header and colour; otherwise one line per row, cells divided by tabs.

    A table that is wider than the terminal has its long cells cut; in a pipe nothing is ever cut.
    """
    cells = [[_cell(cell) for cell in row] for row in rows]
    if not is_for_people():
        for row in cells:
            print("\t".join(row))
        return
    widths = [max(_width(line[index]) for line in [list(columns), *cells]) for index in range(len(columns))]
    _narrow(columns, widths, shutil.get_terminal_size((0, 0)).columns)
    print(_styled(_aligned(columns, columns, widths), "1"))
    for row in cells:
        print(_aligned(columns, row, widths, with_colour=True))


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair per line; empty values are left out."""
    shown = [(name, _cell(value)) for name, value in facts if value not in (None, "", [])]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name + ':':<{width + 2}}{coloured(value)}")


def coloured(text: str) -> str:
    """The text in the colour of the status that it is, if it is one and a person looks."""
    return _styled(text, _COLOURS[text]) if text in _COLOURS else text


def is_for_people() -> bool:
    """Whether the output goes to a terminal, or is to look as if it did."""
    return _AS_CHOSEN["color"] == "always" or sys.stdout.isatty()


def is_coloured() -> bool:
    """Whether there is colour: as ``--color`` says; else on a terminal that has it, without ``NO_COLOR``."""
    if _AS_CHOSEN["color"] != "auto":
        return _AS_CHOSEN["color"] == "always"
    if not is_for_people():
        return False
    # imported here: the settings are large, and what goes to a pipe does not need them
    from agent.settings import environment  # noqa: PLC0415

    environ = environment()
    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def span(seconds: float) -> str:
    """A length of time in its two largest units: ``45s``, ``3m 20s``, ``2h 5m``, ``4d 1h``."""
    left = timedelta(seconds=int(abs(seconds)))
    minutes, second = divmod(left.seconds, 60)
    hours, minute = divmod(minutes, 60)
    units = ((left.days, "d"), (hours, "h"), (minute, "m"), (second, "s"))
    parts = [f"{amount}{unit}" for amount, unit in units if amount]
    return " ".join(parts[:2]) or "0s"


def moment(value: object) -> datetime | None:
    """A time in an answer: seconds since 1970 (ECS) or an ISO 8601 text (introspection). None: absent.

    Raise ``Failure`` if it is neither.
    """
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        return datetime.fromisoformat(value) if isinstance(value, str) and value else None
    except (ValueError, OverflowError, OSError) as error:
        raise Failure(f"the agent's answer has {value!r} for a time") from error


def clean(text: str) -> str:
    """Without what would steer a terminal: a reason may hold what a container has printed."""
    if text.isprintable():
        return text
    return "".join(_letter(letter) for letter in text)


def _letter(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter in "\n\t\r" else letter.encode("unicode_escape").decode("ascii")


def _styled(text: str, style: str) -> str:
    return f"\033[{style}m{text}\033[0m" if is_coloured() else text


def _narrow(columns: Sequence[str], widths: list[int], room: int) -> None:
    """Take from the widest cells until the table fits. ``room`` 0: nobody knows how wide the terminal is."""
    if room <= 0:
        return
    least = [
        width if name in _WHOLE else min(width, _SHORTEST_ID if name == "TASK" else max(_SHORTEST, len(name)))
        for name, width in zip(columns, widths, strict=True)
    ]
    while sum(widths) + 2 * (len(widths) - 1) > room:
        spare, index = max((widths[index] - least[index], index) for index in range(len(widths)))
        if spare <= 0:
            return
        widths[index] -= 1


def _aligned(
    columns: Sequence[str], row: Sequence[str], widths: Sequence[int], *, with_colour: bool = False
) -> str:
    padded = []
    for name, cell, width in zip(columns, row, widths, strict=True):
        # the first characters of an id are an id: no mark says that there were more
        text = _cut(cell, width, "" if name == "TASK" else _mark())
        shown = coloured(text) if with_colour else text
        padded.append(shown + " " * (width - _width(text)))
    return "  ".join(padded).rstrip()


def _cut(text: str, width: int, mark: str) -> str:
    if _width(text) <= width:
        return text
    while text and _width(text) + len(mark) > width:
        text = text[:-1]
    return text + mark


def _mark() -> str:
    encoding = (sys.stdout.encoding or "ascii").lower()
    return "\u2026" if encoding.startswith("utf") else "~"


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # noqa: PLC0415 - rarely needed

    return sum(0 if combining(letter) else 1 + (east_asian_width(letter) in "WF") for letter in text)


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else clean(str(value))
