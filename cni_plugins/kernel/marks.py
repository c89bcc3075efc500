"""Ownership marks: the ifalias that says whose a link is. GC and repair believe in these, never in names."""

from __future__ import annotations

from cni_plugins.skeleton.record import Record

_PREFIX = "ecs"
_LONGEST_ALIAS = 255


class Mark(Record):
    """`ecs:<container id>:<plugin>:<name>`.

    `name` is the interface name in the task for a bridge port, the link's former name in the host for an ENI.
    """

    container_id: str
    plugin: str
    name: str

    def __str__(self) -> str:
        return f"{_PREFIX}:{self.container_id}:{self.plugin}:{self.name}"[:_LONGEST_ALIAS]


def read_mark(alias: str) -> Mark | None:
    """The mark that an ifalias holds, or None if the alias is not ours."""
    parts = alias.split(":", 3)
    if len(parts) < 3 or parts[0] != _PREFIX:  # noqa: PLR2004 -- prefix, container, plugin
        return None
    return Mark(parts[1], parts[2], parts[3] if len(parts) > 3 else "")  # noqa: PLR2004
