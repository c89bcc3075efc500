"""Turns frozen dataclasses into JSON values and back by their type hints, so that no field is forgotten.

What a type becomes: dataclass: object with every field; ``X | None``: null or X; tuple: list; ``datetime``:
ISO 8601 in UTC; ``timedelta``: seconds; ``IntEnum``: its name (numbers of a ladder may shift); ``StrEnum``:
its value; IP interface: text with prefix. Types are compiled once: a save happens at every step of a task.
"""

import dataclasses
import types
import typing
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from functools import cache
from ipaddress import IPv4Interface, IPv6Interface
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")
Encode = Callable[[Any], Any]
Decode = Callable[[Any, str], Any]
"""(JSON value, path of the field for messages) -> value. Raises ``RecordInvalid``."""

_SHOWN = 80


class RecordInvalid(Exception):
    """A JSON value does not fit the type. The text names the field, the value and what was expected."""


def to_json(value: Any) -> Any:
    """JSON-ready form of a dataclass instance: only dict, list, str, int, float, bool and None."""
    return _encoder(type(value))(value)


def from_json(kind: type[T], value: Any, path: str = "", *, is_tolerant: bool = False) -> T:
    """The instance of the dataclass ``kind`` that ``value`` describes. Raise ``RecordInvalid``.

    A field that is absent takes its default, if it has one; a field that is not known is refused, or passed
    over with ``is_tolerant``.
    """
    decode: Decode = _decoder(kind, is_tolerant)  # type: ignore[arg-type]  # every type is hashable
    decoded: T = decode(value, path)
    return decoded


# -- encoding ----------------------------------------------------------------------------------


def _encoder(kind: Any) -> Encode:
    encode = _compiled_encoder(kind)
    if encode is None:
        raise TypeError(f"{kind!r} is not a dataclass")
    return encode


@cache
def _compiled_encoder(kind: Any) -> Encode | None:
    """How to encode a non-None value of that type; None: it is JSON already. TypeError: no rule for it."""
    if isinstance(kind, typing.NewType):
        return _compiled_encoder(kind.__supertype__)
    if kind in (str, int, bool):
        return None
    if kind in _LEAF_ENCODERS:
        return _LEAF_ENCODERS[kind]
    if (inner := _optional(kind)) is not None:
        return _compiled_encoder(inner)
    if typing.get_origin(kind) is tuple:
        return _tuple_encoder(kind)
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return attrgetter("name")
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return attrgetter("value")
    if dataclasses.is_dataclass(kind):
        return _dataclass_encoder(kind)
    raise TypeError(f"no JSON form is known for {kind!r}")


def _tuple_encoder(kind: Any) -> Encode:
    inner = {_compiled_encoder(item) for item in _items(kind)}
    if len(inner) != 1:
        raise TypeError(f"no JSON form is known for the mixed tuple {kind!r}")
    encode = inner.pop()
    if encode is None:
        return list
    return lambda values: [encode(value) for value in values]


def _dataclass_encoder(kind: Any) -> Encode:
    hints = typing.get_type_hints(kind)
    names = tuple(field.name for field in dataclasses.fields(kind))
    if len(names) == 1:
        raise TypeError(f"{kind!r} has a single field; write the value itself instead")
    values_of = attrgetter(*names)
    special = [(name, encode) for name in names if (encode := _compiled_encoder(hints[name])) is not None]

    def encode_record(value: Any) -> dict[str, Any]:
        record = dict(zip(names, values_of(value), strict=True))
        for name, encode in special:
            inner = record[name]
            if inner is not None:
                record[name] = encode(inner)
        return record

    return encode_record


def _encode_time(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError(f"time {value!r} has no zone; expected an aware time")
    return value.astimezone(UTC).isoformat()


_LEAF_ENCODERS: dict[Any, Encode] = {
    datetime: _encode_time,
    timedelta: timedelta.total_seconds,
    IPv4Interface: str,
    IPv6Interface: str,
}

# -- decoding ----------------------------------------------------------------------------------


@cache
def _decoder(kind: Any, is_tolerant: bool) -> Decode:
    if isinstance(kind, typing.NewType):
        return _decoder(kind.__supertype__, is_tolerant)
    if kind in _LEAF_DECODERS:
        return _LEAF_DECODERS[kind]
    if (inner := _optional(kind)) is not None:
        decode = _decoder(inner, is_tolerant)
        return lambda value, path: None if value is None else decode(value, path)
    if typing.get_origin(kind) is tuple:
        return _tuple_decoder(kind, is_tolerant)
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return _choice({member.name: member for member in kind})
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _choice({member.value: member for member in kind})
    if dataclasses.is_dataclass(kind):
        return _dataclass_decoder(kind, is_tolerant)
    raise TypeError(f"no JSON form is known for {kind!r}")


def _tuple_decoder(kind: Any, is_tolerant: bool) -> Decode:
    decoders = [_decoder(item, is_tolerant) for item in _items(kind)]
    length = None if Ellipsis in typing.get_args(kind) else len(decoders)
    expected = "a list" if length is None else f"a list of {length}"

    def decode_tuple(value: Any, path: str) -> tuple[Any, ...]:
        if type(value) is not list or (length is not None and len(value) != length):
            raise _refusal(path, value, expected)
        each = decoders * len(value) if length is None else decoders
        return tuple(
            decode(item, f"{path}[{index}]")
            for index, (decode, item) in enumerate(zip(each, value, strict=True))
        )

    return decode_tuple


def _dataclass_decoder(kind: Any, is_tolerant: bool) -> Decode:
    hints = typing.get_type_hints(kind)
    fields = {field.name: _decoder(hints[field.name], is_tolerant) for field in dataclasses.fields(kind)}
    required = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]

    def decode_record(value: Any, path: str) -> Any:
        if type(value) is not dict:
            raise _refusal(path, value, f"an object ({kind.__name__})")
        prefix = f"{path}." if path else ""
        for name in required:
            if name not in value:
                raise RecordInvalid(f"{prefix}{name} is missing")
        arguments = {}
        for name, inner in value.items():
            if name not in fields:
                if is_tolerant:
                    continue
                raise RecordInvalid(f"{prefix}{_shown(name)} is not a field of {kind.__name__}")
            arguments[name] = fields[name](inner, f"{prefix}{name}")
        return kind(**arguments)

    return decode_record


def _choice(members: dict[str, Any]) -> Decode:
    expected = "one of " + ", ".join(members)

    def decode_member(value: Any, path: str) -> Any:
        if type(value) is not str or value not in members:
            raise _refusal(path, value, expected)
        return members[value]

    return decode_member


def _exactly(kind: type, expected: str) -> Decode:
    def decode_value(value: Any, path: str) -> Any:
        if type(value) is not kind:  # not isinstance: True is an int to Python, and is none here
            raise _refusal(path, value, expected)
        return value

    return decode_value


def _decode_time(value: Any, path: str) -> datetime:
    expected = "a time with its zone, such as 2026-01-01T12:00:00+00:00"
    if type(value) is not str:
        raise _refusal(path, value, expected)
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is None:
            raise _refusal(path, value, expected)
        return time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _refusal(path, value, expected) from error


def _decode_duration(value: Any, path: str) -> timedelta:
    if type(value) not in (int, float):
        raise _refusal(path, value, "a number of seconds")
    try:
        return timedelta(seconds=value)
    except (ValueError, OverflowError) as error:  # NaN, Infinity and the absurdly long
        raise _refusal(path, value, "a number of seconds") from error


def _interface(kind: Callable[[str], Any], expected: str) -> Decode:
    def decode_interface(value: Any, path: str) -> Any:
        if type(value) is not str:
            raise _refusal(path, value, expected)
        try:
            return kind(value)
        except ValueError as error:
            raise _refusal(path, value, expected) from error

    return decode_interface


_LEAF_DECODERS: dict[Any, Decode] = {
    str: _exactly(str, "a text"),
    int: _exactly(int, "a whole number"),
    bool: _exactly(bool, "true or false"),
    datetime: _decode_time,
    timedelta: _decode_duration,
    IPv4Interface: _interface(IPv4Interface, "an IPv4 address with prefix, such as 10.0.1.5/24"),
    IPv6Interface: _interface(IPv6Interface, "an IPv6 address with prefix, such as fd00::5/64"),
}

# -- both --------------------------------------------------------------------------------------


def _optional(kind: Any) -> Any:
    """X of ``X | None``; None if the type is no such union. TypeError: a union of more than that."""
    if typing.get_origin(kind) not in (types.UnionType, typing.Union):
        return None
    others = [argument for argument in typing.get_args(kind) if argument is not types.NoneType]
    if len(others) != 1:
        raise TypeError(f"no JSON form is known for the union {kind!r}")
    return others[0]


def _items(kind: Any) -> list[Any]:
    return [argument for argument in typing.get_args(kind) if argument is not Ellipsis]


def _refusal(path: str, value: Any, expected: str) -> RecordInvalid:
    return RecordInvalid(f"{path or 'the record'} is {_shown(value)}, expected {expected}")


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, dict | list) else f"{type(value).__name__} of {len(value)}"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
