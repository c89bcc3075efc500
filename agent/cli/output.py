"""How answers look: tables and colour for people, tabs for pipes, JSON for programs."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

_COLOURS = {"RUNNING": "32", "HEALTHY": "32", "OK": "32", "PENDING": "33", "STOPPED": "31", "UNHEALTHY": "31"}
_COLOURS |= {
    "IMPAIRED": "31",
    "PROVISIONING": "33",
    "ACTIVATING": "33",
    "DEPROVISIONING": "33",
    "STOPPING": "33",
}


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
    """On a terminal aligned with a header and colour; otherwise one line per row, cells divided by tabs."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    if not is_for_people():
        for row in cells:
            print("\t".join(row))
        return
    widths = [max(len(line[index]) for line in [list(columns), *cells]) for index in range(len(columns))]
    print("\033[1m" + _aligned(columns, widths) + "\033[0m")
    for row in cells:
        print(_aligned(row, widths, with_colour=True))


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair per line; empty values are left out."""
    shown = [(name, _cell(value)) for name, value in facts if value not in (None, "", [])]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print(f"{name + ':':<{width + 2}}{coloured(value)}")


def coloured(text: str) -> str:
    """The text in the colour of the status that it is, if it is one and a person looks."""
    colour = _COLOURS.get(text)
    return f"\033[{colour}m{text}\033[0m" if colour and is_for_people() else text


def is_for_people() -> bool:
    """Whether the output goes to a terminal."""
    return sys.stdout.isatty()


def span(seconds: float) -> str:
    """A length of time in its two largest units: ``45s``, ``3m 20s``, ``2h 5m``, ``4d 1h``."""
    left = timedelta(seconds=int(abs(seconds)))
    minutes, second = divmod(left.seconds, 60)
    hours, minute = divmod(minutes, 60)
    units = ((left.days, "d"), (hours, "h"), (minute, "m"), (second, "s"))
    parts = [f"{amount}{unit}" for amount, unit in units if amount]
    return " ".join(parts[:2]) or "0s"


def moment(value: object) -> datetime | None:
    """A time in an answer: seconds since 1970 (ECS) or an ISO 8601 text (introspection). None: absent."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str) and value:
        return datetime.fromisoformat(value)
    return None


def _aligned(row: Sequence[str], widths: Sequence[int], *, with_colour: bool = False) -> str:
    padded = []
    for cell, width in zip(row, widths, strict=True):
        shown = coloured(cell) if with_colour else cell
        padded.append(shown + " " * (width - len(cell)))
    return "  ".join(padded).rstrip()


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else str(value).replace("\n", " ").replace("\t", " ")
