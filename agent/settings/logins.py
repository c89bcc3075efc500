"""Static logins to private registries (ecs-protocol 5.11): their shape, and no word of theirs in a message.

What is inside of an ``auth`` is read where the logins are used, at the start as well.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from agent.settings.kinds import BadValue, Kind


def check_logins(kind: str, text: str) -> None:
    """Raise ``BadValue`` if the data is not of the shape that ``kind`` (``docker``, ``dockercfg``) has.

    Entries are counted from 1, because even the name of a registry may be a password in the wrong place.
    """
    expected, problem_of = _SHAPES[kind]
    entries = _entries(text)
    if isinstance(entries.get("auths"), Mapping):
        raise BadValue(f"{expected}; leave 'auths' and its braces out")
    for number, (registry, entry) in enumerate(entries.items(), start=1):
        problem = "has no registry" if not registry.strip() else problem_of(entry)
        if problem is not None:
            raise BadValue(f"{expected}; entry {number} {problem}")


def _problem_of_docker(entry: object) -> str | None:
    if not isinstance(entry, Mapping):
        return "is no object"
    missing = [name for name in ("username", "password") if not _is_filled(entry.get(name))]
    return f"has no {' and no '.join(missing)}" if missing else None


def _problem_of_dockercfg(entry: object) -> str | None:
    if not isinstance(entry, Mapping):
        return "is no object"
    return None if _is_filled(entry.get("auth")) else "has no auth"


_DOCKER = (
    'for ECS_ENGINE_AUTH_TYPE=docker a JSON object such as {"https://registry.example.com":'
    '{"username":"…","password":"…"}}'
)
_DOCKERCFG = (
    'for ECS_ENGINE_AUTH_TYPE=dockercfg a JSON object such as {"https://registry.example.com":'
    '{"auth":"base64 of name:password"}}'
)
_SHAPES: dict[str, tuple[str, Callable[[object], str | None]]] = {
    "docker": (_DOCKER, _problem_of_docker),
    "dockercfg": (_DOCKERCFG, _problem_of_dockercfg),
}


def _is_filled(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _entries(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        # without its cause: the parser's error keeps the whole text
        raise BadValue(f"{_EXPECTED}; this is no JSON") from None
    if not isinstance(document, dict) or not document:
        raise BadValue(f"{_EXPECTED}; this is something else, or empty")
    return document


def _read(text: str) -> str:
    _entries(text)
    return text


_EXPECTED = "a JSON object with an entry for each registry"

LOGINS = Kind("JSON object", _EXPECTED, _read, is_secret=True)
"""The text of ``ECS_ENGINE_AUTH_DATA``, kept as it stands. Its shape depends on another variable."""
