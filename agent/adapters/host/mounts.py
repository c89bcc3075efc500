"""What is mounted where, as a process sees it: the lines of ``/proc/self/mountinfo`` (proc(5))."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount. ``root``: which directory of its file system stands at ``point``.

    ``is_shared``: what is mounted below it is seen where it came from, too (``shared:N``, not ``master:N``).
    """

    point: PurePath
    root: str
    kind: str
    is_writable: bool
    is_shared: bool
    options: frozenset[str] = frozenset()


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Every mount in order. Lines of another form than proc(5) gives are passed over."""
    return tuple(mount for line in text.splitlines() if (mount := _mount(line)) is not None)


def covering(mounts: Iterable[Mount], path: PurePath) -> Mount | None:
    """The mount that the path lies on; of several at one place the last one, which hides the others."""
    found: Mount | None = None
    for mount in mounts:
        is_above = path.is_relative_to(mount.point)
        if is_above and (found is None or len(mount.point.parts) >= len(found.point.parts)):
            found = mount
    return found


def _mount(line: str) -> Mount | None:
    before, dash, after = line.partition(" - ")
    fields, rest = before.split(" "), after.split(" ")
    if not dash or len(fields) < _FIELDS or len(rest) < _FIELDS_AFTER:
        return None
    of_mount, of_file_system = fields[5].split(","), rest[2].split(",")
    return Mount(
        point=PurePath(_plain(fields[4])),
        root=_plain(fields[3]),
        kind=rest[0],
        is_writable="ro" not in of_mount and "ro" not in of_file_system,
        is_shared=any(tag.startswith("shared:") for tag in fields[6:]),
        options=frozenset(of_file_system),
    )


def _plain(text: str) -> str:
    """Without the octal escapes of spaces, tabs, line ends and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


_FIELDS = 6
_FIELDS_AFTER = 3
