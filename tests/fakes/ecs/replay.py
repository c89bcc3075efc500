"""Recorded messages, and a comparison of ours with them: same names, same kinds of values."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("wire-examples.jsonl")
#: Strings that hold JSON; what is in them is compared too.
_ENCODED = {"overrides", "config", "hostConfig"}


@dataclass(frozen=True, slots=True)
class Example:
    """One recorded message. ``direction`` as seen by the control plane; ``document`` is the whole line."""

    channel: str
    direction: str
    type: str
    body: Any
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Explained:
    """A difference that is meant to be. ``path`` as in the differences, ``[]`` for every element of a list."""

    path: str
    why: str


@cache
def examples() -> tuple[Example, ...]:
    """All recorded messages, in order."""
    lines = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return tuple(Example(line["chan"], line["dir"], line["type"], line.get("body"), line) for line in lines)


def example(kind: str, *, direction: str | None = None, number: int = 0, **members: Any) -> Example:
    """The ``number``-th recorded message of that type whose body has those members. Raise ``LookupError``."""
    found = [
        each
        for each in examples()
        if each.type == kind
        and direction in (None, each.direction)
        and all(each.body.get(name) == value for name, value in members.items())
    ]
    if number >= len(found):
        raise LookupError(f"{kind} {members}: {len(found)} were recorded, number {number} was asked for")
    return found[number]


def same_shape(ours: Any, theirs: Any, explained: Iterable[Explained] = ()) -> list[str]:
    """Each difference as ``path: what``; none when names and kinds of values are the same.

    A list is compared element by element with whichever recorded element is most alike. Whole numbers and
    fractions are one kind. An explanation for which there is no difference is itself one.
    """
    reasons = {each.path: each.why for each in explained}
    found, used = [], set()
    for path, text in _differences(ours, theirs, ""):
        if path in reasons:
            used.add(path)
        else:
            found.append(f"{path}: {text}")
    found += [
        f"{path}: explained ({why}), but there is no difference"
        for path, why in reasons.items()
        if path not in used
    ]
    return list(dict.fromkeys(found))


def _differences(ours: Any, theirs: Any, path: str) -> Iterator[tuple[str, str]]:
    if path.rpartition(".")[2] in _ENCODED and isinstance(ours, str) and isinstance(theirs, str):
        # Every key of Docker's own is optional there, so only wrong kinds count.
        mine, other = json.loads(ours), json.loads(theirs)
        shared = set(mine) & set(other)
        for name in sorted(shared):
            yield from _differences(mine[name], other[name], f"{path}.{name}")
    elif _kind(ours) != _kind(theirs):
        yield path, f"{_kind(ours)}, recorded {_kind(theirs)}"
    elif isinstance(ours, dict):
        for name in sorted(set(ours) | set(theirs)):
            inner = f"{path}.{name}" if path else name
            if name not in theirs:
                yield inner, "not recorded"
            elif name not in ours:
                yield inner, "absent, but recorded"
            else:
                yield from _differences(ours[name], theirs[name], inner)
    elif isinstance(ours, list) and theirs:
        for element in ours:
            each = [list(_differences(element, other, f"{path}[]")) for other in theirs]
            yield from min(each, key=len)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "list"
        case dict():
            return "object"
        case _:
            raise TypeError(f"{type(value).__name__}: expected a JSON value")
