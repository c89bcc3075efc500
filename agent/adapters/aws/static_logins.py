"""Logins that the operator wrote down: ``ECS_ENGINE_AUTH_TYPE`` and ``ECS_ENGINE_AUTH_DATA``.

The settings have checked their shape by the same rules; what ``auth`` holds is decoded, and judged, here.
Errors count the entries, because even the name of a registry may be a password in the wrong place.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from agent.adapters.aws.registries import is_within, registry_prefix, repository
from agent.model.credentials import RegistryLogin
from agent.model.errors import CannotStart

_TYPES = ("docker", "dockercfg")
_DATA = "ECS_ENGINE_AUTH_DATA"


class StaticLogins:
    """Logins by registry, as ``registry_prefix`` writes it. Passwords do not show in ``repr``."""

    def __init__(self, logins: Mapping[str, RegistryLogin]) -> None:
        self._logins = dict(logins)

    def __repr__(self) -> str:
        """Only where there are logins to."""
        return f"StaticLogins({', '.join(sorted(self._logins)) or 'none'})"

    def find(self, image: str) -> RegistryLogin | None:
        """The login of the longest registry prefix that the image lies in; None: there is none."""
        name = repository(image)
        fitting = [prefix for prefix in self._logins if is_within(name, prefix)]
        return self._logins[max(fitting, key=len)] if fitting else None


def static_logins(kind: str | None, data: str | None) -> StaticLogins:
    """Read the two settings (ecs-protocol 5.11). Raise ``CannotStart``, which never quotes the data.

    ``docker``: ``{"https://registry": {"username": …, "password": …}}``; ``dockercfg``: the same with
    ``auth``, the base64 form of ``username:password``. An ``email`` is ignored, as Docker does.
    """
    if not kind and not data:
        return StaticLogins({})
    if kind not in _TYPES:
        raise _bad(f"ECS_ENGINE_AUTH_TYPE {kind or ''!r}: expected {' or '.join(_TYPES)}")
    entries = _object(data or "")
    read = _plain if kind == "docker" else _encoded
    return StaticLogins(
        {
            _registry(f"{_DATA}, entry {number}", registry): read(f"{_DATA}, entry {number}", entry)
            for number, (registry, entry) in enumerate(entries.items(), start=1)
        }
    )


def _object(data: str) -> Mapping[str, Any]:
    entries: Any = None
    place = ""
    try:
        entries = json.loads(data)
    except ValueError as error:
        # The error itself carries the whole text, so it must not become a cause.
        place = f" (not JSON from character {getattr(error, 'pos', 0)} on)"
    if not isinstance(entries, dict) or not entries:
        raise _bad(f'{_DATA}: expected a JSON object such as {{"https://registry.example": {{…}}}}{place}')
    if isinstance(entries.get("auths"), dict):
        raise _bad(f"{_DATA}: expected registries, leave 'auths' and its braces out")
    return entries


def _registry(where: str, registry: str) -> str:
    if not registry.strip():
        raise _bad(f"{where}: the registry is missing, expected a name such as https://registry.example")
    return registry_prefix(registry)


def _plain(where: str, entry: Any) -> RegistryLogin:
    return RegistryLogin(_text(where, entry, "username"), _text(where, entry, "password"))


def _encoded(where: str, entry: Any) -> RegistryLogin:
    auth = _text(where, entry, "auth")
    try:
        decoded = base64.b64decode(auth, validate=True).decode()
    except (binascii.Error, ValueError):
        decoded = ""
    # Docker's command line pads old entries with zero bytes.
    username, colon, password = decoded.strip("\0").partition(":")
    if not (username and colon):
        raise _bad(f"{where}: auth is not the base64 form of username:password")
    return RegistryLogin(username, password)


def _text(where: str, entry: Any, field: str) -> str:
    value = entry.get(field) if isinstance(entry, dict) else None
    if not isinstance(value, str) or not value:
        raise _bad(f"{where}: {field} is missing, expected a text")
    return value


def _bad(problem: str) -> CannotStart:
    return CannotStart(problem, is_final=True)
