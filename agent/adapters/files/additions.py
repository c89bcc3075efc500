"""What a newer agent has added to a record of the same format: kept by an agent that does not know it.

A task's record goes through dataclasses, which have no place for unknown fields. So they are taken out at
loading, remembered beside the task, and put back at every save, where what holds them is still there.
"""

from typing import Any

_IDENTITIES = ("name", "arn", "task_arn")
"""Fields that say which element of a list it is."""

_IDENTITY = -1
"""Where the tree of an element keeps which element that was."""

Additions = dict[str | int, Any]
"""A tree like the record: a field's name, or an index, to what was added there or below."""


class _Added:
    """One value that was added, as it was read."""

    def __init__(self, value: Any) -> None:
        self.value = value


def additions(found: Any, known: Any) -> Additions:
    """What ``found`` has beyond ``known``. Both are JSON values of one record."""
    tree: Additions = {}
    if isinstance(found, dict) and isinstance(known, dict):
        for name, value in found.items():
            if name not in known:
                tree[name] = _Added(value)
            elif below := additions(value, known[name]):
                tree[name] = below
    elif isinstance(found, list) and isinstance(known, list) and len(found) == len(known):
        for index, (one, other) in enumerate(zip(found, known, strict=True)):
            if below := additions(one, other):
                tree[index] = {**below, _IDENTITY: _Added(_identity(one))}
    return tree


def put_back(value: Any, tree: Additions) -> None:
    """Add to a JSON value, in place, what was added to its forerunner. What has no place is left out."""
    for key, below in tree.items():
        if isinstance(value, dict) and isinstance(key, str):
            if isinstance(below, _Added):
                value.setdefault(key, below.value)
            elif value.get(key) is not None:
                put_back(value[key], below)
        elif isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value):
            is_the_same = _identity(value[key]) == below[_IDENTITY].value
            put_back(value[key], below if is_the_same else {})


def _identity(value: Any) -> Any:
    if not isinstance(value, dict):
        return None
    return next((value[name] for name in _IDENTITIES if name in value), None)
