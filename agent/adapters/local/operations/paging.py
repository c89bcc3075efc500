"""Lists in pages: a token says which entry was the last one shown, so that changes in between do no harm."""

import base64
import binascii
import json
from collections.abc import Sequence

from agent.adapters.local.errors import InvalidParameter
from agent.adapters.local.records import Document

_MOST = 100


def paged(
    field: str,
    entries: Sequence[tuple[tuple[str, int], str]],
    wanted: Document,
    *,
    is_descending: bool = False,
) -> Document:
    """One page of ``entries`` (sort key, text), perhaps with a ``nextToken``. Raise ``InvalidParameter``."""
    limit = wanted.get("maxResults", _MOST)
    if not 1 <= limit <= _MOST:
        raise InvalidParameter(f"maxResults {limit}: expected 1 to {_MOST}")
    ordered = sorted(entries, reverse=is_descending)
    if wanted.get("nextToken"):
        last = _read(wanted["nextToken"])
        ordered = [one for one in ordered if (one[0] < last if is_descending else one[0] > last)]
    page = ordered[:limit]
    answer: Document = {field: [text for _, text in page]}
    if len(ordered) > limit:
        answer["nextToken"] = _written(page[-1][0])
    return answer


def _written(key: tuple[str, int]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def _read(token: str) -> tuple[str, int]:
    try:
        text, number = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidParameter("Invalid token: expected the nextToken of an earlier answer") from error
    if not isinstance(text, str) or not isinstance(number, int):
        raise InvalidParameter("Invalid token: expected the nextToken of an earlier answer")
    return text, number
