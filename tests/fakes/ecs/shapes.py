"""A small language for the shape of JSON documents, and a judge that names everything that is off."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Text:
    """A string. ``pattern`` must match all of it."""

    longest: int | None = None
    one_of: tuple[str, ...] = ()
    pattern: str | None = None
    may_be_empty: bool = True


@dataclass(frozen=True, slots=True)
class Number:
    """A number that is not a boolean."""

    is_whole: bool = False
    least: float | None = None


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of such elements."""

    element: "Shape"
    longest: int | None = None
    shortest: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """An object with these members and no others. ``needed`` ones may not be absent."""

    members: Mapping[str, "Shape"]
    needed: frozenset[str] = field(default_factory=frozenset)


Shape = Text | Number | Flag | ListOf | Record


def record(needed: str = "", **members: Shape) -> Record:
    """A record; ``needed`` are names separated by spaces, or ``*`` for all."""
    names = frozenset(members) if needed == "*" else frozenset(needed.split())
    unknown = names - set(members)
    if unknown:
        raise ValueError(f"needed {sorted(unknown)}: expected members of the record")
    return Record(members, names)


def problems(value: Any, shape: Shape, where: str = "") -> Iterator[str]:
    """Each thing that is off, as ``path: what, expected what``. Nothing when the value has the shape."""
    match shape:
        case Text():
            yield from _of_text(value, shape, where)
        case Number():
            if isinstance(value, bool) or not isinstance(value, int | float):
                yield f"{where}: {_kind(value)}, expected a number"
            elif shape.is_whole and not isinstance(value, int):
                yield f"{where}: {value!r}, expected a whole number"
            elif shape.least is not None and value < shape.least:
                yield f"{where}: {value!r}, expected at least {shape.least:g}"
        case Flag():
            if not isinstance(value, bool):
                yield f"{where}: {_kind(value)}, expected true or false"
        case ListOf():
            if not isinstance(value, list):
                yield f"{where}: {_kind(value)}, expected a list"
                return
            if shape.longest is not None and len(value) > shape.longest:
                yield f"{where}: {len(value)} elements, expected at most {shape.longest}"
            if len(value) < shape.shortest:
                yield f"{where}: {len(value)} elements, expected at least {shape.shortest}"
            for number, element in enumerate(value):
                yield from problems(element, shape.element, f"{where}[{number}]")
        case Record():
            yield from _of_record(value, shape, where)


def _of_text(value: Any, shape: Text, where: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{where}: {_kind(value)}, expected a string"
        return
    if not value and not shape.may_be_empty:
        yield f"{where}: empty, expected text"
    if shape.longest is not None and len(value) > shape.longest:
        yield f"{where}: {len(value)} characters, expected at most {shape.longest}"
    if shape.one_of and value not in shape.one_of:
        yield f"{where}: {value[:80]!r}, expected one of {', '.join(shape.one_of)}"
    if shape.pattern is not None and not re.fullmatch(shape.pattern, value):
        yield f"{where}: {value[:80]!r}, expected {shape.pattern}"


def _of_record(value: Any, shape: Record, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: {_kind(value)}, expected an object"
        return
    dot = f"{where}." if where else ""
    for name in sorted(shape.needed - set(value)):
        yield f"{dot}{name}: absent, expected it to be there"
    for name, member in value.items():
        if name not in shape.members:
            yield f"{dot}{name}: not a member of the protocol"
        else:
            yield from problems(member, shape.members[name], f"{dot}{name}")


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
