"""Reading the files and the user data that settings may stand in, with the line each value came from."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENV_FILE = Path("/etc/ecs/ecs.config")
"""Where the ECS agent's users keep their settings; read if it exists."""

JSON_FILES = (Path("/etc/ecs/ecs.config.json"), Path("/etc/ecs_container_agent/config.json"))
"""The ECS agent's JSON file, where its init and where the agent itself looks; the first there is is read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting in a file. ``line`` counts from 1; None in a JSON file. The text may be a secret."""

    name: str
    text: str = field(repr=False)
    line: int | None = None


@dataclass(frozen=True, slots=True)
class FileContents:
    """What a file says. ``problems`` are whole sentences that name the file.

    ``bare``: names alone on their line; Docker gives them the value that they have in its environment.
    """

    entries: tuple[Entry, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    bare: tuple[Entry, ...] = ()


def read_env_file(path: Path, *, must_exist: bool) -> FileContents:
    """Read ``NAME=VALUE`` lines. A file that need not exist may be absent, but never unreadable."""
    text, problems = _read(path, must_exist=must_exist)
    if text is None:
        return FileContents(problems=problems)
    return parse_env_file(text, str(path))


def parse_env_file(text: str, where: str) -> FileContents:
    """The settings in an env file, read as systemd reads it; what Docker can read is read the same way.

    ``#`` and ``;`` begin comment lines; the first ``=`` splits; a value that stands in quotes loses them,
    with backslash escapes inside double quotes; a backslash at the end of a line joins it with the next.
    """
    entries: dict[str, Entry] = {}
    problems: list[str] = []
    warnings: list[str] = []
    bare: list[Entry] = []
    for number, line in _joined_lines(text):
        if not line.strip() or line.lstrip()[0] in "#;":
            continue
        name, equals, raw = line.partition("=")
        name = name.strip()
        place = f"{where}, line {number}"
        if not equals and _NAME.fullmatch(name):
            bare.append(Entry(name, "", number))
        elif not equals:
            problems.append(f"{place}: expected NAME=VALUE, found {_shortened(line.strip())}")
        elif name.startswith("export "):
            problems.append(f"{place}: this is no shell script; write {name[7:].strip()}=… without 'export'")
        elif not _NAME.fullmatch(name):
            problems.append(
                f"{place}: {_shortened(name)} is no name of a variable (letters, digits, underscores)"
            )
        else:
            try:
                value = _unquoted(raw.strip())
            except ValueError as error:
                problems.append(f"{place}: {name}: {error}")
                continue
            if name in entries:
                warnings.append(f"{place}: {name} stands there twice; the last one counts")
            entries[name] = Entry(name, value, number)
    return FileContents(tuple(entries.values()), tuple(problems), tuple(warnings), tuple(bare))


def read_json_file(path: Path, *, must_exist: bool) -> FileContents:
    """Read one JSON object. Values keep their JSON text, except strings, which lose their quotes."""
    text, problems = _read(path, must_exist=must_exist)
    if text is None:
        return FileContents(problems=problems)
    twice: list[str] = []
    try:
        document = json.loads(text, object_pairs_hook=lambda pairs: _noting_twice(pairs, twice))
    except ValueError as error:
        return FileContents(problems=(f"{path}: expected one JSON object: {error}",))
    if not isinstance(document, dict):
        return FileContents(problems=(f"{path}: expected one JSON object, found {type(document).__name__}",))
    warnings = tuple(f"{path}: {name} stands there twice; the last one counts" for name in twice)
    return FileContents(_entries(document), warnings=warnings)


def read_user_data(user_data: Mapping[str, Any] | str) -> FileContents:
    """The settings in an instance's user data: ``{"ECSAgentConfiguration": {…}}`` (ecs-protocol 8.1).

    ``user_data``: a JSON document or its text. A script for somebody else says nothing to us. What looks as
    if it were meant for us and cannot be read gets a warning: it must not keep the instance from starting.
    """
    document: Any = user_data
    if isinstance(user_data, str):
        if not user_data.lstrip().startswith("{"):
            return FileContents()
        try:
            document = json.loads(user_data)
        except ValueError as error:
            return FileContents(warnings=(f"{USER_DATA}: expected one JSON object: {error}; it is ignored",))
    if not isinstance(document, Mapping) or _IN_USER_DATA not in document:
        return FileContents()
    inner = document[_IN_USER_DATA]
    if not isinstance(inner, Mapping):
        return FileContents(
            warnings=(f"{USER_DATA}: {_IN_USER_DATA}: expected one JSON object; it is ignored",)
        )
    return FileContents(_entries(inner))


USER_DATA = "the instance's user data"
"""How the user data is called where a source is named."""

_IN_USER_DATA = "ECSAgentConfiguration"


def _entries(document: Mapping[str, Any]) -> tuple[Entry, ...]:
    return tuple(
        Entry(name, value if isinstance(value, str) else json.dumps(value))
        for name, value in document.items()
        if value is not None  # as good as not written
    )


def _noting_twice(pairs: list[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for name, value in pairs:
        if name in seen:
            twice.append(name)
        seen[name] = value
    return seen


def quoted(text: str) -> str | None:
    """What stands between quotes around the whole text; None: there are none.

    Docker hands a value of its env file on as it stands, quotes and all; systemd and shells take them away.
    """
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return None


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHOWN = 60
_ESCAPED = re.compile(r'\\(["\\$`])')
_IN_DOUBLE_QUOTES = re.compile(r'"((?:[^"\\]|\\.)*)"')
_IN_SINGLE_QUOTES = re.compile(r"'([^']*)'")


def _read(path: Path, *, must_exist: bool) -> tuple[str | None, tuple[str, ...]]:
    try:
        # utf-8-sig: editors of other systems put a byte order mark in front
        return path.read_text(encoding="utf-8-sig"), ()
    except FileNotFoundError:
        return None, (f"{path}: no such file",) if must_exist else ()
    except UnicodeDecodeError as error:
        return None, (f"{path}: expected text in UTF-8: {error.reason} at byte {error.start}",)
    except OSError as error:
        return None, (f"{path}: cannot be read: {error.strerror or error}",)


def _joined_lines(text: str) -> list[tuple[int, str]]:
    joined: list[tuple[int, str]] = []
    continues = False
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        is_comment = not continues and raw.lstrip().startswith(("#", ";"))
        ends_open = raw.endswith("\\") and not is_comment
        line = raw[:-1] if ends_open else raw
        if continues:
            first, before = joined[-1]
            joined[-1] = (first, before + line)
        else:
            joined.append((number, line))
        continues = ends_open
    return joined


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        quoted = _IN_DOUBLE_QUOTES.fullmatch(value)
        if quoted is None:
            raise ValueError('the value begins with " and does not end with the matching one')
        return _ESCAPED.sub(r"\1", quoted[1])
    if value.startswith("'"):
        quoted = _IN_SINGLE_QUOTES.fullmatch(value)
        if quoted is None:
            raise ValueError("the value begins with ' and does not end with the matching one")
        return quoted[1]
    return value


def _shortened(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
