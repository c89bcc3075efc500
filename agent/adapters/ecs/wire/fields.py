"""Strict readers for JSON that others have written: every complaint names the field and what was expected.

Fields that nobody asks for are ignored, and ``null`` is the same as nothing (ecs-protocol 2.2).
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agent.model.errors import AgentError

DEEPEST = 64
"""Levels of nesting. Real messages have fewer than ten."""

LONGEST_SHOWN = 60
"""Characters of a wrong value that an error shows."""

MOST = 2**31 - 1
"""The largest whole number where nothing smaller is said: the wire's integers have 32 bits."""

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class NotJson(AgentError):
    """A text is not JSON as the wire has it. The text of the error does not quote it."""


class BadField(AgentError):
    """A field has a value that cannot be meant. ``path`` is like ``tasks[0].containers[1].memory``."""

    def __init__(self, path: str, expected: str, value: object = None, *, is_secret: bool = False) -> None:
        shown = "it" if is_secret else _shown(value)
        super().__init__(
            f"{path}: {'is not set' if value is None else shown + ' is wrong'}; expected {expected}"
        )
        self.path = path
        self.expected = expected


def parse(text: str) -> Any:
    """JSON without NaN and infinities, with half characters replaced, not too deep. Raise ``NotJson``."""
    try:
        parsed = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError as error:
        raise NotJson(f"is nested too deeply; expected at most {DEEPEST} levels") from error
    except json.JSONDecodeError as error:
        raise NotJson(f"is not JSON: {error.msg} at character {error.pos}") from error
    except ValueError as error:
        # from the two hooks, or from Python's limit on the digits of a number; neither quotes the text
        raise NotJson(f"is not JSON: {error}") from error
    return _cleaned(parsed, DEEPEST)


class Fields:
    """A JSON object with the place where it stands. Every reader raises ``BadField``."""

    def __init__(self, document: Mapping[str, Any], path: str = "") -> None:
        self.document = document
        self.path = path

    def at(self, name: str) -> str:
        """The path of a field of this object."""
        return f"{self.path}.{name}" if self.path else name

    def get(self, name: str) -> Any:
        """The value as it is; None if there is none."""
        return self.document.get(name)

    def text(self, name: str, default: str = "", *, is_secret: bool = False) -> str:
        """A text; ``default`` where there is none."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise BadField(self.at(name), "a text", value, is_secret=is_secret)
        return value

    def needed_text(self, name: str, *, is_secret: bool = False) -> str:
        """A text that is there and not empty."""
        value = self.text(name, is_secret=is_secret)
        if not value:
            raise BadField(self.at(name), "a text that is not empty")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """True or false."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise BadField(self.at(name), "true or false", value)
        return value

    def whole(self, name: str, *, least: int = 0, most: int = MOST) -> int | None:
        """A whole number within bounds; ``512.0`` is one."""
        value = self.get(name)
        if value is None:
            return None
        is_whole = (isinstance(value, float) and value.is_integer()) or (
            isinstance(value, int) and not isinstance(value, bool)
        )
        if not is_whole or not least <= value <= most:
            raise BadField(self.at(name), f"a whole number from {least} to {most}", value)
        return int(value)

    def number(self, name: str, *, most: float) -> float | None:
        """A number that is not negative."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
            raise BadField(self.at(name), f"a number from 0 to {most:g}", value)
        return float(value)

    def moment(self, name: str) -> datetime:
        """A point in time that is there, with its offset (RFC 3339); in UTC."""
        value = self.needed_text(name)
        try:
            if not _MOMENT.fullmatch(value):
                raise ValueError("not RFC 3339")
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise BadField(self.at(name), "a time like 2030-01-31T06:00:00Z", value) from error

    def object(self, name: str) -> "Fields | None":
        """An object inside this one."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise BadField(self.at(name), "an object", value, is_secret=True)
        return Fields(value, self.at(name))

    def objects(self, name: str) -> tuple["Fields", ...]:
        """A list of objects."""
        return tuple(
            Fields(each, f"{self.at(name)}[{number}]")
            for number, each in enumerate(self._list(name, dict, "a list of objects"))
        )

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(self._list(name, str, "a list of texts"))

    def text_map(self, name: str) -> dict[str, str]:
        """An object whose values are texts, in order. Names without a value are left out."""
        found = self.object(name)
        if found is None:
            return {}
        for key, value in found.document.items():
            if value is not None and not isinstance(value, str):
                raise BadField(found.at(key), "a text", value, is_secret=True)
        return {key: value for key, value in found.document.items() if value is not None}

    def embedded(self, name: str) -> "Fields | None":
        """A text that is a JSON object in itself. None where it is not set, empty or ``null``."""
        text = self.text(name, is_secret=True)
        if not text.strip():
            return None
        try:
            value = parse(text)
        except NotJson as error:
            raise BadField(
                self.at(name), f"the text of a JSON object; it {error}", text, is_secret=True
            ) from error
        if value is None:
            return None
        if not isinstance(value, dict):
            raise BadField(self.at(name), "the text of a JSON object", text, is_secret=True)
        return Fields(value, self.at(name))

    def is_set(self, name: str) -> bool:
        """Whether there is something: not ``null``, and no empty text, list or object."""
        return self.get(name) not in (None, "", [], {}, False)

    def _list(self, name: str, kind: type, expected: str) -> list[Any]:
        value = self.get(name)
        if value is None:
            return []
        # The value itself is not shown: commands are lists, and may have passwords in them.
        if not isinstance(value, list) or not all(isinstance(each, kind) for each in value):
            raise BadField(self.at(name), expected, value, is_secret=True)
        return value


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _cleaned(value: Any, levels: int) -> Any:
    """The same value, its texts fit for UTF-8: half of a pair of surrogates cannot be written anywhere."""
    if isinstance(value, str):
        return (
            value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )
    if not isinstance(value, dict | list):
        return value
    if levels == 0:
        raise NotJson(f"is nested too deeply; expected at most {DEEPEST} levels")
    if isinstance(value, list):
        return [_cleaned(each, levels - 1) for each in value]
    return {_cleaned(key, levels - 1): _cleaned(each, levels - 1) for key, each in value.items()}
