"""Who listens where on this machine: read from /proc, no socket is asked."""

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
    """Which process has each socket open. Another user's processes are seen by root only."""
    found: dict[str, int] = {}
    for directory in proc.iterdir():
        if not directory.name.isdecimal():
            continue
        try:
            for descriptor in (directory / "fd").iterdir():
                match = re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))
                if match is not None and match[1] in inodes:
                    found.setdefault(match[1], int(directory.name))
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return found


def _host(text: str) -> str:
    if len(text) == 8:  # noqa: PLR2004 - eight hex digits: IPv4, in the order of this machine
        return ".".join(str(octet) for octet in reversed(bytes.fromhex(text)))
    octets = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, 32, 8))
    return str(IPv6Address(octets))
