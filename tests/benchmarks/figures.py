"""What a benchmark found, and how it is shown: a table for people, a file for programs."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. ``floor``: the least that the same work takes here, measured in the same run, same unit.

    ``peer``: what a mature agent written in Go was seen to need: the ratio where there is a floor, the value
    where there is none or ``peer_is_value``. It comes from another day of the same machine and is only quoted.
    """

    name: str
    value: float
    unit: str
    floor: float | None = None
    peer: float | None = None
    peer_is_value: bool = False

    @property
    def ratio(self) -> float | None:
        """How many times the floor; None where there is none."""
        return None if not self.floor else self.value / self.floor

    def as_json(self) -> dict[str, Any]:
        """The entry of the file."""
        found: dict[str, Any] = {
            "value": _short(self.value),
            "unit": self.unit,
            "floor": None if self.floor is None else _short(self.floor),
            "ratio": None if self.ratio is None else _short(self.ratio),
        }
        if self.peer is not None:
            found["peer"] = self.peer
            found["peer_is_value"] = self.peer_is_value or self.floor is None
        return found


def median(values: Iterable[float]) -> float:
    """The middle one: what a noisy machine disturbs least."""
    return statistics.median(values)


def high(values: Sequence[float]) -> float:
    """The value that one in twenty exceeds."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]


def table(figures: Iterable[Figure]) -> str:
    """The figures in columns."""
    rows = [("", "value", "unit", "floor", "ratio", "peer")]
    for one in figures:
        optional = (one.floor, one.ratio)
        peer = "" if one.peer is None else _text(one.peer)
        if one.peer is not None:
            peer += f" {one.unit}" if one.peer_is_value or one.floor is None else " x"
        rows.append(
            (
                one.name,
                _text(one.value),
                one.unit,
                *("" if each is None else _text(each) for each in optional),
                peer,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in {0, 2} else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def write(path: Path, figures: Iterable[Figure]) -> None:
    """Put the figures into the file; those of benchmarks that did not run this time stay."""
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    known.update({one.name: one.as_json() for one in figures})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


def _short(value: float) -> float:
    return round(value, 3)


def _text(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
