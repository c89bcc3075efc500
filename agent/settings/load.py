"""From environment, files and defaults to values: all problems at once, each value with its source."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from agent.model.errors import BadSettings
from agent.settings.files import ENV_FILE, JSON_FILE, Entry, FileContents, read_env_file, read_json_file
from agent.settings.ineffective import FOR_LIBRARIES, INEFFECTIVE, OF_CONTAINERS, Ineffective
from agent.settings.kinds import DURATION, BadValue, Kind
from agent.settings.variables import VARIABLES, Beyond, Computed, Machine, Variable

ENV_FILE_VARIABLE = "BERTH_ENV_FILE"
JSON_FILE_VARIABLE = "ECS_AGENT_CONFIG_FILE_PATH"


@dataclass(frozen=True, slots=True)
class Found:
    """The text of a variable and where it stands, as a phrase."""

    name: str
    text: str
    source: str
    is_from_environment: bool = False
    is_from_json: bool = False


@dataclass(frozen=True, slots=True)
class Gathered:
    """All settings before they are understood. ``found`` holds the winner for each name."""

    found: Mapping[str, Found]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Values by field, the source of each, and what the operator should know."""

    values: Mapping[str, Any]
    sources: Mapping[str, str]
    ineffective: tuple[Found, ...]
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Notes:
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def gather(environ: Mapping[str, str], env_file: Path | None = None) -> Gathered:
    """Read the environment, the env file and the JSON file. An empty value counts as not set.

    ``env_file`` (a command line option) goes before ``BERTH_ENV_FILE``, that before ``/etc/ecs/ecs.config``.
    """
    notes = _Notes()
    layers: list[Iterable[Found]] = []
    of_environment = [
        Found(name, text.strip(), "the environment", is_from_environment=True)
        for name, text in environ.items()
    ]
    named = environ.get(ENV_FILE_VARIABLE, "").strip()
    path = env_file or (Path(named) if named else ENV_FILE)
    from_env_file = read_env_file(path, must_exist=env_file is not None or bool(named))
    layers += [of_environment, _found_in(path, from_env_file)]

    json_path = next((item.text for layer in layers for item in layer if _names_json_file(item)), "")
    json_file = Path(json_path) if json_path else JSON_FILE
    from_json = read_json_file(json_file, must_exist=bool(json_path))
    layers.append(_found_in(json_file, from_json, is_json=True))

    found: dict[str, Found] = {}
    for layer in layers:
        for item in layer:
            if item.text:
                found.setdefault(item.name, item)
    for contents in (from_env_file, from_json):
        notes.problems += contents.problems
        notes.warnings += contents.warnings
    return Gathered(found, tuple(notes.problems), tuple(notes.warnings))


def load(gathered: Gathered, machine: Machine) -> Loaded:
    """Understand what was gathered. Raise ``BadSettings`` with every problem there is."""
    notes = _Notes(list(gathered.problems), list(gathered.warnings))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for variable in VARIABLES:
        found = find(gathered, variable)
        if found is not None:
            _read_into(values, variable, found, machine, notes)
        else:
            values[variable.field] = _default(variable, values, machine)
        sources[variable.field] = found.source if found is not None else "default"
    ineffective = _ineffective(gathered, notes)
    _judge_names(gathered, notes)
    if notes.problems:
        raise BadSettings(tuple(notes.problems))
    return Loaded(values, sources, ineffective, tuple(notes.warnings))


def find(gathered: Gathered, variable: Variable) -> Found | None:
    """What was set for a variable under any of its names."""
    names = (variable.name, *variable.aliases)
    candidates = [gathered.found[name] for name in (*names, *variable.json_keys) if name in gathered.found]
    # a name in the environment goes before an alias in a file, and so on
    return min(candidates, key=_rank, default=None)


def read_one(gathered: Gathered, variable: Variable, machine: Machine) -> Any:
    """The value of a single variable whose default needs no other. Raise ``BadSettings``."""
    found = find(gathered, variable)
    if found is None:
        return _default(variable, {}, machine)
    try:
        return variable.kind.read(found.text)
    except BadValue as error:
        raise BadSettings((_problem(found, str(error)),)) from error


def _rank(found: Found) -> int:
    if found.is_from_environment:
        return 0
    return 2 if found.is_from_json else 1


def _names_json_file(item: Found) -> bool:
    return item.name == JSON_FILE_VARIABLE and bool(item.text)


def _found_in(path: Path, contents: FileContents, *, is_json: bool = False) -> list[Found]:
    return [
        Found(entry.name, entry.text.strip(), _place(path, entry), is_from_json=is_json)
        for entry in contents.entries
    ]


def _place(path: Path, entry: Entry) -> str:
    return str(path) if entry.line is None else f"{path}, line {entry.line}"


def _default(variable: Variable, values: Mapping[str, Any], machine: Machine) -> Any:
    if variable.default is None:
        return None
    if isinstance(variable.default, Computed):
        return variable.kind.read(variable.default.of(values, machine))
    return variable.kind.read(variable.default)


def _read_into(
    values: dict[str, Any], variable: Variable, found: Found, machine: Machine, notes: _Notes
) -> None:
    default = _default(variable, values, machine)
    try:
        value = variable.kind.read(_as_text(variable.kind, found))
    except BadValue as error:
        notes.problems.append(_problem(found, str(error)))
        # other defaults may be computed from this one; the problem ends the start anyway
        values[variable.field] = default
        return
    values[variable.field] = _within_limits(variable, found, value, default, notes)


def _as_text(kind: Kind, found: Found) -> str:
    # Go writes durations into JSON as nanoseconds
    if found.is_from_json and kind is DURATION and found.text.isdigit() and found.text != "0":
        return f"{found.text}ns"
    return found.text


def _within_limits(variable: Variable, found: Found, value: Any, default: Any, notes: _Notes) -> Any:
    too_low = variable.low is not None and value < variable.low
    too_high = variable.high is not None and value > variable.high
    if not too_low and not too_high:
        return value
    show = variable.kind.show
    limit = f"at least {show(variable.low)}" if too_low else f"at most {show(variable.high)}"
    if variable.beyond is Beyond.REFUSED:
        notes.problems.append(_problem(found, limit))
        return default
    # zero is how one asks the ECS agent for its default (ecs-protocol 8.1)
    is_zero = value == timedelta() or value == 0
    replacement = default
    if variable.beyond is Beyond.NEAREST_LIMIT and not is_zero:
        replacement = variable.low if too_low else variable.high
    notes.warnings.append(f"{_problem(found, limit)}; {show(replacement)} is used")
    return replacement


def _problem(found: Found, expected: str) -> str:
    text = found.text if len(found.text) <= _SHOWN else found.text[:_SHOWN] + "…"
    return f"{found.name}={text!r} ({found.source}): expected {expected}"


def _ineffective(gathered: Gathered, notes: _Notes) -> tuple[Found, ...]:
    without_effect: list[Found] = []
    for known in INEFFECTIVE:
        found = gathered.found.get(known.name)
        if found is None:
            continue
        without_effect.append(found)
        if not _holds(known, found.text):
            notes.warnings.append(f"{found.name} ({found.source}) has no effect: {known.reason}")
    for known in FOR_LIBRARIES:
        found = gathered.found.get(known.name)
        if found is not None and not found.is_from_environment:
            without_effect.append(found)
            notes.warnings.append(f"{found.name} ({found.source}) has no effect there: it is {known.reason}")
    return tuple(without_effect)


def _holds(known: Ineffective, text: str) -> bool:
    if known.holds is None:
        return False
    spellings = {"true": {"1", "t", "true"}, "false": {"0", "f", "false"}, "0": {"0", "0s"}}
    return text.lower() in spellings.get(known.holds, {known.holds})


def _judge_names(gathered: Gathered, notes: _Notes) -> None:
    for found in gathered.found.values():
        if found.name in _KNOWN or (found.is_from_environment and not found.name.startswith(_PREFIXES)):
            continue
        if found.name in OF_CONTAINERS and found.is_from_environment:
            continue
        candidates = _JSON_KEYS | _NAMES if found.is_from_json else _NAMES
        alike = difflib.get_close_matches(found.name, candidates, n=1, cutoff=0.7)
        hint = f"; did you mean {alike[0]}?" if alike else "; see docs/settings.md"
        notes.warnings.append(
            f"{found.name} ({found.source}) is no variable of berth and has no effect{hint}"
        )


_SHOWN = 80
_PREFIXES = ("ECS_", "BERTH_")
_NAMES = frozenset(
    {name for variable in VARIABLES for name in (variable.name, *variable.aliases)}
    | {known.name for known in (*INEFFECTIVE, *FOR_LIBRARIES)}
    | {ENV_FILE_VARIABLE, JSON_FILE_VARIABLE}
)
_JSON_KEYS = frozenset(key for variable in VARIABLES for key in variable.json_keys)
_KNOWN = _NAMES | _JSON_KEYS
