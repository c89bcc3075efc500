"""JSON in and out through the C parser alone: the json package imports re, which costs a cold plugin 8 ms."""

from __future__ import annotations

import _json


class _Dialect:
    """What `_json.make_scanner` wants to know; the same as json's defaults."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012 -- the scanner clears it after each use


def decode(text: str | bytes) -> object:
    """The value that a JSON text stands for.

    Raises ValueError, whose text says where the document stops being JSON.
    """
    try:
        document = (text.decode("utf-8") if isinstance(text, bytes) else text).strip(" \t\r\n")
        value, end = _json.make_scanner(_Dialect)(document, 0)  # type: ignore[arg-type]
    except (StopIteration, SystemError, RecursionError, ValueError) as error:
        # Without the json package loaded the C scanner cannot build its own error (SystemError). Only a
        # failing call pays for the package, which then words the same complaint.
        raise ValueError(_complaint(text)) from error
    if end != len(document):
        raise ValueError(_complaint(text))
    return value


def encode(value: object) -> str:
    """The compact JSON text of dicts with string keys, lists, strings, numbers, booleans and None."""
    encoder = _json.make_encoder(
        {},
        _not_json,
        _json.encode_basestring_ascii,
        None,
        ":",
        ",",
        False,
        False,
        False,
    )
    return "".join(encoder(value, 0))


def _complaint(text: str | bytes) -> str:
    import json  # noqa: PLC0415 -- see the module's first line

    try:
        json.loads(text)
    except ValueError as error:
        return str(error)
    except RecursionError:
        return "nested too deeply"
    return "not a JSON document"


def _not_json(value: object) -> object:
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
