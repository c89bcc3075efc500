"""The frame around every message of the websockets: a type and an object (ecs-protocol 2.2). Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.adapters.ecs.wire.fields import NotJson, parse
from agent.model.errors import AgentError

LARGEST = 8 * 1024 * 1024
"""Bytes or characters. A payload with ten tasks of ten containers has a few hundred thousand."""

LONGEST_TYPE = 128
"""Characters of a type that are kept: it goes into logs."""


class BadEnvelope(AgentError):
    """What came is no message. The text says why, and does not quote it."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message before it is known what it means. It may have secrets in it, so it does not show."""

    type: str
    message: dict[str, Any] = field(repr=False)


def read_envelope(text: str | bytes, limit: int = LARGEST) -> Envelope:
    """Take a frame apart; ``limit`` in characters or bytes. Raise ``BadEnvelope``."""
    if len(text) > limit:
        raise BadEnvelope(f"a message of {len(text)} characters; expected at most {limit}")
    try:
        found = parse(text.decode() if isinstance(text, bytes) else text)
    except UnicodeDecodeError as error:
        raise BadEnvelope(f"a message that is not UTF-8: {error.reason} at byte {error.start}") from error
    except NotJson as error:
        raise BadEnvelope(f"a message that {error}") from error
    if not isinstance(found, dict):
        raise BadEnvelope("a message that is JSON, but no object")
    kind, message = found.get("type"), found.get("message")
    if not isinstance(kind, str) or not kind:
        raise BadEnvelope("a message without a type; expected the name of a message")
    kind = kind[:LONGEST_TYPE]
    if message is None:
        message = {}
    if not isinstance(message, dict):
        raise BadEnvelope(f"a message of type {kind} whose content is no object")
    return Envelope(kind, message)


def envelope(type: str, message: Mapping[str, Any]) -> str:  # noqa: A002 - the wire's own word
    """The text of a frame, without spaces."""
    return json.dumps({"type": type, "message": dict(message)}, separators=(",", ":"), allow_nan=False)
