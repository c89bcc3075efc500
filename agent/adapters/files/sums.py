"""A checksum in a JSON record: it tells a record that a newer agent wrote from one that is damaged."""

import json
import zlib
from typing import Any

NAME = "sum"
"""The name of the field. Its value is the CRC-32 of the compact JSON text of what it covers."""


class SumWrong(Exception):
    """The content is not what was written. The text names both sums."""


def text_of(value: Any) -> str:
    """Compact ASCII JSON: the text that is summed, the same before writing and after reading."""
    # ASCII: a health check's output may hold lone surrogates, which UTF-8 cannot write.
    return json.dumps(value, separators=(",", ":"))


def sum_of(text: str) -> int:
    """The sum of such a text."""
    return zlib.crc32(text.encode("ascii"))


def check(found: Any, value: Any) -> None:
    """Compare a sum that was read with the value beside it. Raise ``SumWrong``."""
    expected = sum_of(text_of(value))
    if type(found) is not int or found != expected:
        raise SumWrong(f"{NAME} is {found!r:.80}, expected {expected}: the content has changed since")
