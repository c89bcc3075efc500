"""From environment, files and defaults to values: all problems at once, each value with its source."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any

from agent.model.errors import BadSettings
from agent.settings.files import (
    ENV_FILE,
    JSON_FILES,
    USER_DATA,
    Entry,
    FileContents,
    quoted,
    read_env_file,
    read_json_file,
    read_user_data,
)
from agent.settings.ineffective import INEFFECTIVE, OF_CONTAINERS, ONLY_IN_JSON, Ineffective
from agent.settings.kinds import DURATION, BadValue, Kind, RefusedValue
from agent.settings.libraries import FOR_LIBRARIES
from agent.settings.together import doubts_about, problems_among, settled
from agent.settings.variables import VARIABLES, Basis, Beyond, Computed, Machine, Variable

ENV_FILE_VARIABLE = "BERTH_ENV_FILE"
JSON_FILE_VARIABLE = "ECS_AGENT_CONFIG_FILE_PATH"


class Layer(IntEnum):
    """Where a value may stand; the lowest number goes before the others (ecs-protocol 8.1)."""

    ENVIRONMENT = 0
    ENV_FILE = 1
    JSON_FILE = 2
    USER_DATA = 3


_JSON_LAYERS = (Layer.JSON_FILE, Layer.USER_DATA)


@dataclass(frozen=True, slots=True)
class Found:
    """The text of a variable and where it stands, as a phrase. The text may be a secret."""

    name: str
    text: str = field(repr=False)
    source: str
    layer: Layer

    @property
    def is_json(self) -> bool:
        """Whether the names and spellings of JSON documents hold."""
        return self.layer in _JSON_LAYERS


@dataclass(frozen=True, slots=True)
class Gathered:
    """All settings before they are understood. ``found`` holds the winner for each name."""

    found: Mapping[str, Found]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Values by field, the source of each, and what the operator should know.

    ``for_libraries``: what stands in files and must be handed on to be found by libraries.
    """

    values: Mapping[str, Any] = field(repr=False)
    sources: Mapping[str, str]
    ineffective: tuple[Found, ...]
    for_libraries: tuple[Found, ...]
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Notes:
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def gather(
    environ: Mapping[str, str],
    env_file: Path | None = None,
    user_data: Mapping[str, Any] | str | None = None,
) -> Gathered:
    """Read the environment, the env file, the JSON file and the user data. An empty value counts as not set.

    ``env_file`` (a command line option) goes before ``BERTH_ENV_FILE``, that before ``/etc/ecs/ecs.config``.
    """
    notes = _Notes()
    of_environment = _found_in_environment(environ, notes)
    named = next((item.text for item in of_environment if item.name == ENV_FILE_VARIABLE), "")
    path = env_file or (Path(named) if named else ENV_FILE)
    from_env_file = read_env_file(path, must_exist=env_file is not None or bool(named))
    layers: list[Iterable[Found]] = [of_environment, _found_in(str(path), from_env_file, Layer.ENV_FILE)]

    json_path = next((item.text for layer in layers for item in layer if _names_json_file(item)), "")
    json_file = Path(json_path) if json_path else _usual_json_file()
    from_json = read_json_file(json_file, must_exist=bool(json_path))
    from_user_data = FileContents() if user_data is None else read_user_data(user_data)
    layers.append(_found_in(str(json_file), from_json, Layer.JSON_FILE))
    layers.append(_found_in(USER_DATA, from_user_data, Layer.USER_DATA))

    found: dict[str, Found] = {}
    for layer in layers:
        for item in layer:
            if item.text:
                found.setdefault(item.name, item)
    notes.problems += [
        f"{_place(str(path), entry)}: expected NAME=VALUE, found '{entry.name}', and the environment has no "
        "value for it either"
        for entry in from_env_file.bare
        if not environ.get(entry.name)
    ]
    for contents in (from_env_file, from_json, from_user_data):
        notes.problems += contents.problems
        notes.warnings += contents.warnings
    return Gathered(found, tuple(notes.problems), tuple(notes.warnings))


def load(gathered: Gathered, machine: Machine) -> Loaded:
    """Understand what was gathered. Raise ``BadSettings`` with every problem there is."""
    notes = _Notes(list(gathered.problems), list(gathered.warnings))
    values: dict[str, Any] = {}
    chosen = _chosen(gathered)
    for variable in VARIABLES:
        default = _default(variable, values, machine, chosen)
        found = chosen.get(variable.name)
        values[variable.field] = default if found is None else _read(variable, found, default, notes)
    if not notes.problems:
        # they would only repeat in other words that a value cannot be understood
        notes.problems += _told(chosen, problems_among(values))
    notes.warnings += _told(chosen, doubts_about(values))
    notes.warnings += _of_another_backend(chosen, values["backend"])
    ineffective = _ineffective(gathered, notes)
    handed, kept_back = _for_libraries(gathered, notes)
    _judge_names(gathered, notes)
    if notes.problems:
        raise BadSettings(tuple(notes.problems))
    sources = {
        variable.field: chosen[variable.name].source if variable.name in chosen else "default"
        for variable in VARIABLES
    }
    return Loaded(settled(values), sources, (*ineffective, *kept_back), handed, tuple(notes.warnings))


def load_some(gathered: Gathered, machine: Machine, fields: Collection[str]) -> dict[str, Any]:
    """The values of a few fields, whatever the others are like. ``BERTH_BACKEND`` must be among them.

    Their defaults may depend on each other only. Raise ``BadSettings`` with every problem of theirs.
    """
    notes = _Notes()
    values: dict[str, Any] = {}
    chosen = _chosen(gathered)
    for variable in VARIABLES:
        if variable.field in fields:
            default = _default(variable, values, machine, chosen)
            found = chosen.get(variable.name)
            values[variable.field] = default if found is None else _read(variable, found, default, notes)
    if notes.problems:
        raise BadSettings(tuple(notes.problems))
    return settled(values)


def _chosen(gathered: Gathered) -> dict[str, Found]:
    """What was set for each variable under any of its names, by the variable's first name."""
    chosen = {}
    for variable in VARIABLES:
        names = (variable.name, *variable.aliases, *variable.json_keys)
        candidates = [gathered.found[name] for name in names if name in gathered.found]
        # a name in the environment goes before an alias in a file, and so on
        if candidates:
            chosen[variable.name] = min(candidates, key=lambda found: found.layer)
    return chosen


def _found_in_environment(environ: Mapping[str, str], notes: _Notes) -> list[Found]:
    found = []
    for name, text in environ.items():
        if name in _JSON_KEYS and name not in _NAMES:
            continue  # other programs have variables named Cluster, too
        value = text.strip()
        inner = quoted(value) if name in _NAMES else None
        if inner is not None and name in _OF_LIBRARIES:
            # they read it themselves, quotes and all
            notes.problems.append(
                f"{name} (the environment): its value stands in quotes, which are a part of it; Docker's "
                "--env-file does not take them away. Write it without"
            )
        elif inner is not None:
            notes.warnings.append(
                f"{name} (the environment): its value stands in quotes, as Docker's --env-file leaves them; "
                "they are taken away"
            )
            value = inner.strip()
        found.append(Found(name, value, "the environment", Layer.ENVIRONMENT))
    return found


def _usual_json_file() -> Path:
    return next((path for path in JSON_FILES if path.exists()), JSON_FILES[-1])


def _names_json_file(item: Found) -> bool:
    return item.name == JSON_FILE_VARIABLE and bool(item.text)


def _found_in(where: str, contents: FileContents, layer: Layer) -> list[Found]:
    return [
        Found(_spelled(entry.name, layer), entry.text.strip(), _place(where, entry), layer)
        for entry in contents.entries
    ]


def _spelled(name: str, layer: Layer) -> str:
    """The key of a JSON document as we spell it: Go, which the ECS agent is written in, ignores its case."""
    return name if layer not in _JSON_LAYERS else _ANY_CASE.get(name.lower(), name)


def _place(where: str, entry: Entry) -> str:
    return where if entry.line is None else f"{where}, line {entry.line}"


def _default(
    variable: Variable, values: Mapping[str, Any], machine: Machine, chosen: Mapping[str, Found]
) -> Any:
    if variable.default is None:
        return None
    if not isinstance(variable.default, Computed):
        return variable.kind.read(variable.default)
    text = variable.default.of(Basis(values, machine, frozenset(chosen)))
    # empty: to be found out later, from what this machine is or was
    return variable.kind.read(text) if text else ""


def _read(variable: Variable, found: Found, default: Any, notes: _Notes) -> Any:
    try:
        value = variable.kind.read(_as_text(variable.kind, found))
    except BadValue as error:
        expected = str(error) if isinstance(error, RefusedValue) else f"expected {error}"
        notes.problems.append(_about(found, expected, variable.kind))
        # other defaults may be computed from this one; the problem ends the start anyway
        return default
    return _within_limits(variable, found, value, default, notes)


def _as_text(kind: Kind, found: Found) -> str:
    # Go writes durations into JSON as nanoseconds
    if found.is_json and kind is DURATION and found.text.isdigit() and found.text != "0":
        return f"{found.text}ns"
    return found.text


def _within_limits(variable: Variable, found: Found, value: Any, default: Any, notes: _Notes) -> Any:
    too_low = variable.low is not None and value < variable.low
    too_high = variable.high is not None and value > variable.high
    if not too_low and not too_high:
        return value
    show = variable.kind.show
    limit = (
        f"expected at least {show(variable.low)}" if too_low else f"expected at most {show(variable.high)}"
    )
    problem = _about(found, limit, variable.kind)
    if variable.beyond is Beyond.REFUSED:
        notes.problems.append(problem)
        return default
    # zero is how one asks the ECS agent for its default (ecs-protocol 8.1)
    is_zero = value == timedelta() or value == 0
    replacement = default
    if variable.beyond is Beyond.NEAREST_LIMIT and not is_zero:
        replacement = variable.low if too_low else variable.high
    notes.warnings.append(f"{problem}; {show(replacement)} is used")
    return replacement


def _about(found: Found, sentence: str, kind: Kind) -> str:
    text = found.text if len(found.text) <= _SHOWN else found.text[:_SHOWN] + "…"
    named = found.name if kind.is_secret else f"{found.name}={text!r}"
    return f"{named} ({found.source}): {sentence}"


def _told(chosen: Mapping[str, Found], judged: Iterable[tuple[str, str]]) -> list[str]:
    by_field = {variable.field: variable for variable in VARIABLES}
    return [
        _about(chosen[by_field[name].name], sentence, by_field[name].kind)
        for name, sentence in judged
        if by_field[name].name in chosen
    ]


def _of_another_backend(chosen: Mapping[str, Found], backend: str) -> list[str]:
    return [
        f"{chosen[variable.name].name} ({chosen[variable.name].source}) has no effect: it is for the backend "
        f"{variable.backend}, and BERTH_BACKEND is {backend}"
        for variable in VARIABLES
        if variable.name in chosen and variable.backend not in (None, backend)
    ]


def _ineffective(gathered: Gathered, notes: _Notes) -> tuple[Found, ...]:
    without_effect: list[Found] = []
    for known in INEFFECTIVE:
        for found in _set_under(gathered, known.name, *known.json_keys):
            without_effect.append(found)
            if not _holds(known, found.text):
                notes.warnings.append(f"{found.name} ({found.source}) has no effect: {known.reason}")
    for key, reason in ONLY_IN_JSON.items():
        for found in _set_under(gathered, key):
            without_effect.append(found)
            notes.warnings.append(f"{found.name} ({found.source}) has no effect: {reason}")
    return tuple(without_effect)


def _set_under(gathered: Gathered, *names: str) -> list[Found]:
    return [gathered.found[name] for name in names if name in gathered.found]


def _for_libraries(gathered: Gathered, notes: _Notes) -> tuple[tuple[Found, ...], tuple[Found, ...]]:
    """What is handed on, and what cannot be."""
    handed: list[Found] = []
    kept_back: list[Found] = []
    for known in FOR_LIBRARIES:
        found = gathered.found.get(known.name)
        if found is None or found.layer is Layer.ENVIRONMENT:
            continue
        there = [name for name in known.unit if _is_in_environment(gathered, name)]
        if found.layer is Layer.USER_DATA:
            reason = "it is read from files and the environment only"
        elif there:
            reason = f"{' and '.join(there)} of the environment {'go' if there[1:] else 'goes'} before it"
        else:
            handed.append(found)
            continue
        kept_back.append(found)
        notes.warnings.append(f"{found.name} ({found.source}) has no effect there: {reason}")
    return tuple(handed), tuple(kept_back)


def _is_in_environment(gathered: Gathered, name: str) -> bool:
    found = gathered.found.get(name)
    return found is not None and found.layer is Layer.ENVIRONMENT


def _holds(known: Ineffective, text: str) -> bool:
    if known.holds is None:
        return False
    spellings = {"true": {"1", "t", "true"}, "false": {"0", "f", "false"}, "0": {"0", "0s"}}
    return text.lower() in spellings.get(known.holds, {known.holds})


def _judge_names(gathered: Gathered, notes: _Notes) -> None:
    for found in gathered.found.values():
        is_from_environment = found.layer is Layer.ENVIRONMENT
        if found.name in _KNOWN or (is_from_environment and not found.name.startswith(_PREFIXES)):
            continue
        if found.name in OF_CONTAINERS and is_from_environment:
            continue
        candidates = _JSON_KEYS | _NAMES if found.is_json else _NAMES
        alike = difflib.get_close_matches(found.name, candidates, n=1, cutoff=0.7)
        hint = f"; did you mean {alike[0]}?" if alike else "; see docs/settings.md"
        notes.warnings.append(
            f"{found.name} ({found.source}) is no variable of berth and has no effect{hint}"
        )


_SHOWN = 80
_PREFIXES = ("ECS_", "BERTH_")
_NAMES = frozenset(
    {name for variable in VARIABLES for name in (variable.name, *variable.aliases)}
    | {known.name for known in INEFFECTIVE}
    | {known.name for known in FOR_LIBRARIES}
    | {ENV_FILE_VARIABLE, JSON_FILE_VARIABLE}
)
_OF_LIBRARIES = frozenset(known.name for known in FOR_LIBRARIES)
_JSON_KEYS = frozenset(
    {key for variable in VARIABLES for key in variable.json_keys}
    | {key for known in INEFFECTIVE for key in known.json_keys}
    | set(ONLY_IN_JSON)
)
_KNOWN = _NAMES | _JSON_KEYS
_ANY_CASE = {key.lower(): key for key in (*_JSON_KEYS, *_NAMES)}
