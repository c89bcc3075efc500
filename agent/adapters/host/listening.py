"""Who listens where on this machine: read from /proc, no socket is asked."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address
from pathlib import Path

_LISTENING = "0A"


def listeners(place: Path) -> Iterator[tuple[str, int, str]]:
    """Address, port and inode of every TCP socket that listens (``/proc/net/tcp``, ``tcp6``)."""
    for name in ("tcp", "tcp6"):
        try:
            lines = (place / name).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            words = line.split()
            if len(words) > 9 and words[3] == _LISTENING:  # noqa: PLR2004 - the inode's column
                address, _, port = words[1].partition(":")
                yield _host(address), int(port, 16), words[9]


def holders(proc: Path, inodes: set[str]) -> Mapping[str, int]:
    """Which process has each socket open; of several the lowest number. Others' are seen by root only."""
    found: dict[str, int] = {}
    if not inodes:
        return found
    numbers = sorted(int(each.name) for each in proc.iterdir() if each.name.isdecimal())
    for number in numbers:
        for inode in inodes.intersection(_open_sockets(proc / str(number))):
            found.setdefault(inode, number)
    return found


def _open_sockets(process: Path) -> Iterator[str]:
    try:
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                match = re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))
                if match is not None:
                    yield match[1]
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return  # it has ended, or it is not ours to look at


def _host(text: str) -> str:
    if len(text) == 8:  # noqa: PLR2004 - eight hex digits: IPv4, in the order of this machine
        return ".".join(str(octet) for octet in reversed(bytes.fromhex(text)))
    octets = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, 32, 8))
    return str(IPv6Address(octets))
