"""The kernel's files of counters: control groups of version 1 and 2, and ``net/dev``. Each read is short."""

import os
from collections.abc import Sequence

from agent.model.usage import LinkUsage

Storage = tuple[int, int]
"""Bytes read and written."""

_SCHEDULER_STORAGE = "blkio.bfq.io_service_bytes_recursive"
"""Where version 1 counts for devices with that scheduler, and for no others."""

_THROTTLE_STORAGE = ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes")
"""Where version 1 counts for all devices. The second is for old kernels: it leaves out the groups below."""

_CHUNK = 65536
_COLUMNS = 16
_NANOSECONDS = 1000


class UnreadableCounter(Exception):
    """A file does not hold what the kernel writes there."""

    def __init__(self, path: str, expected: str) -> None:
        super().__init__(f"{path}: expected {expected}")
        self.path = path
        self.problem = f"expected {expected}"


def content(path: str) -> bytes:
    """All of a file. Raise ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # The kernel hands out such files in pieces, and a short piece is not yet the last one.
        pieces = []
        while piece := os.read(descriptor, _CHUNK):
            pieces.append(piece)
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(descriptor)
    return b"".join(pieces)


def cpu_v1(group: str) -> int:
    """Processor time of a group and those below it, in nanoseconds."""
    return _whole(f"{group}/cpuacct.usage")


def cpu_v2(group: str) -> int:
    """The same of a group of version 2, which counts microseconds."""
    return _of(f"{group}/cpu.stat", "usage_usec") * _NANOSECONDS


def memory_v1(group: str) -> int:
    """Bytes in use without the page cache (ecs-protocol 3.3), of a group and those below it."""
    return max(0, _whole(f"{group}/memory.usage_in_bytes") - _of(f"{group}/memory.stat", "total_cache"))


def memory_v2(group: str) -> int:
    """Bytes in use without the page cache that nobody has used lately (ecs-protocol 3.3)."""
    return max(0, _whole(f"{group}/memory.current") - _of(f"{group}/memory.stat", "inactive_file"))


def counting_files(top: str) -> tuple[str, ...]:
    """In which files of its groups a hierarchy of version 1 counts storage, best first.

    None on newer kernels until a limit has been set on a device once: then "nothing" means "unknown".
    """
    counting = [each for each in (_SCHEDULER_STORAGE, *_THROTTLE_STORAGE) if _is_counting(f"{top}/{each}")]
    return tuple(
        each for each in counting if each != _THROTTLE_STORAGE[1] or _THROTTLE_STORAGE[0] not in counting
    )


def storage_v1(group: str, files: Sequence[str]) -> Storage | None:
    """Bytes over all devices, from the first of the counting files that has some. None: nobody counts."""
    for name in files:
        if (found := _storage_in(f"{group}/{name}")) is not None:
            return found
    return (0, 0) if files else None


def storage_v2(group: str) -> Storage:
    """Bytes over all devices, of a group of version 2."""
    path = f"{group}/io.stat"
    sums = {b"rbytes": 0, b"wbytes": 0}
    for field in content(path).split():
        # "254:0 rbytes=4096 wbytes=0 rios=1 …" for each device
        name, _, value = field.partition(b"=")
        if name in sums:
            sums[name] += _number(value, path)
    return sums[b"rbytes"], sums[b"wbytes"]


def link_usage(path: str, link: bytes) -> LinkUsage | None:
    """The counters of a link in a ``net/dev`` file. None: there is no such link."""
    for line in content(path).splitlines():
        name, separator, values = line.partition(b":")
        if separator and name.strip() == link:
            numbers = [_number(each, path) for each in values.split()]
            if len(numbers) < _COLUMNS:
                raise UnreadableCounter(path, f"{_COLUMNS} columns after a link's name")
            rx_bytes, rx_packets, rx_errors, rx_dropped = numbers[:4]
            tx_bytes, tx_packets, tx_errors, tx_dropped = numbers[8:12]
            return LinkUsage(
                rx_bytes=rx_bytes,
                rx_packets=rx_packets,
                rx_errors=rx_errors,
                rx_dropped=rx_dropped,
                tx_bytes=tx_bytes,
                tx_packets=tx_packets,
                tx_errors=tx_errors,
                tx_dropped=tx_dropped,
            )
    return None


def _is_counting(path: str) -> bool:
    try:
        return _storage_in(path) is not None
    except FileNotFoundError:
        return False  # this kernel has no such file


def _storage_in(path: str) -> Storage | None:
    sums: dict[bytes, int] = {}
    for line in content(path).splitlines():
        # "254:0 Read 4096" for each device; the last line is "Total 4096"
        fields = line.split()
        if len(fields) == 3:  # noqa: PLR2004
            operation = fields[1].lower()
            sums[operation] = sums.get(operation, 0) + _number(fields[2], path)
    return (sums.get(b"read", 0), sums.get(b"write", 0)) if sums else None


def _whole(path: str) -> int:
    return _number(content(path), path)


def _of(path: str, key: str) -> int:
    """The number after a key that begins a line."""
    _, found, rest = (b"\n" + content(path)).partition(f"\n{key} ".encode())
    if not found:
        raise UnreadableCounter(path, f"a line {key}")
    return _number(rest.partition(b"\n")[0], path)


def _number(text: bytes, path: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UnreadableCounter(path, f"a number instead of {text[:40]!r}") from None
