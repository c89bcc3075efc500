"""What a refused handshake says (ecs-protocol 2.1), with nothing in it that must not be logged. Pure."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

INACTIVE = "InactiveInstanceException"
"""The substring of an error text by which an inactive instance is known."""

LONGEST_TEXT = 512

_NAME = re.compile(r"[A-Za-z]{1,64}")
_ABOUT_KEYS = re.compile(r"signature|token|credential|access key|expired|clock|skew", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")
_NAMED_SECRET = re.compile(
    r"((?:security[-_]?token|session[-_]?token|signature|secret\w*|password|authorization|credential)"
    r"[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&<]+",
    re.IGNORECASE,
)
_LONG_RUN = re.compile(r"[A-Za-z0-9+/=%]{64,}")
_BLOT = "[removed]"


class HandshakeRefused(Exception):
    """The peer answered the upgrade with something else than a websocket.

    ``name``: the error's name, empty if the answer has none. ``date``: the ``Date`` header, possibly empty.
    """

    def __init__(self, status: int, name: str, text: str, date: str, *, is_inactive: bool) -> None:
        super().__init__(text)
        self.status = status
        self.name = name
        self.date = date
        self.is_inactive = is_inactive

    @property
    def is_about_keys(self) -> bool:
        """Whether other keys or another time of day may help. An unreadable answer may say so."""
        if not self.name:
            return self.status in (401, 403)
        return self.status in (400, 401, 403) and _ABOUT_KEYS.search(str(self)) is not None

    @property
    def is_final(self) -> bool:
        """Whether the peer says that the fault is ours, so that waiting alone does not help."""
        is_passing = self.status >= 500 or self.status == 429  # noqa: PLR2004 the HTTP classes
        return not is_passing and self.name != "ServerException"


def read_refusal(
    status: int, headers: Mapping[str, str], body: bytes, secrets: Iterable[str]
) -> HandshakeRefused:
    """The refusal in an HTTP answer. ``secrets``: what was sent and may come back in the body."""
    raw = body.decode(errors="replace")
    name, message = _named(raw)
    if name:
        text = f"{name}: {message}" if message else name
    elif 300 <= status < 400:  # noqa: PLR2004 the HTTP class
        text = f"HTTP {status} redirects to {headers.get('Location', 'nowhere')}; redirects are not followed"
    elif status < 300:  # noqa: PLR2004 the HTTP class
        text = f"HTTP {status} instead of a websocket: {_or_nothing(raw)}"
    else:
        text = f"HTTP {status}: {_or_nothing(raw)}"
    return HandshakeRefused(
        status,
        name,
        shown(text, secrets),
        headers.get("Date", ""),
        is_inactive=INACTIVE in raw,
    )


def shown(text: str, secrets: Iterable[str] = ()) -> str:
    """The text in one line, cut, without the given secrets and without what looks like one."""
    for secret in sorted(_pieces(secrets), key=len, reverse=True):
        text = text.replace(secret, _BLOT)
    text = _USER_INFO.sub(f"{_BLOT}@", text)
    text = _NAMED_SECRET.sub(rf"\1{_BLOT}", text)
    text = _LONG_RUN.sub(_BLOT, text)
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…"


def _pieces(secrets: Iterable[str]) -> set[str]:
    """Each secret as a whole, and the values inside an ``Authorization`` header."""
    found = set()
    for secret in secrets:
        found |= {secret, *re.split(r"[\s,]+", secret), *re.split(r"[\s,=]+", secret)}
    # short pieces (a date, "host") are no secrets, and words that appear everywhere
    return {piece for piece in found if len(piece) >= 20}  # noqa: PLR2004


def _named(raw: str) -> tuple[str, str]:
    """Name and message of an envelope or of an AWS error; empty if the body is neither."""
    try:
        document: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(document, dict):
        return "", ""
    kind = document.get("type") or document.get("__type")
    name = kind.rpartition("#")[2] if isinstance(kind, str) else ""
    if not _NAME.fullmatch(name):
        return "", ""
    message = document.get("message", document.get("Message"))
    if isinstance(message, dict):
        message = message.get("message", message.get("Message"))
    return name, message if isinstance(message, str) else ""


def _or_nothing(raw: str) -> str:
    return raw.strip() or "the answer is empty"
