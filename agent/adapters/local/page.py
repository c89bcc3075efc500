"""Reads the version of an SQLite file from its bytes: to open it with SQLite would make files beside it.

The formats are those of sqlite.org/fileformat.html: the version stands in the first page, of which the newest
committed copy may still be in the write-ahead log.
"""

import os
import struct
from pathlib import Path

_MAGIC = b"SQLite format 3\0"
_VERSION_AT = 60
_LARGEST = 9999
"""A higher version is damage: no agent will have that many."""
_WAL_MAGICS = (0x377F0682, 0x377F0683)
_WAL_HEADER = struct.Struct(">IIII8s8s")  # magic, format, page size, checkpoint, salts, checksum
_WAL_FRAME = struct.Struct(">II8s8s")  # page, size of the database after a commit or 0, salts, checksum


def user_version(path: Path) -> int:
    """What ``PRAGMA user_version`` would say; 0 if the file is missing, empty, or no database. Reads only."""
    return max(_version_in(_start_of(path)), _version_in_log(path.with_name(path.name + "-wal")))


def _version_in(page: bytes) -> int:
    if len(page) < _VERSION_AT + 4 or not page.startswith(_MAGIC):
        return 0
    version = int.from_bytes(page[_VERSION_AT : _VERSION_AT + 4], "big", signed=True)
    return version if 0 < version <= _LARGEST else 0


def _start_of(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""  # missing or not to be read: whoever opens it says so
    with open(descriptor, "rb") as file:  # noqa: PTH123 -- of a descriptor
        return _read(file.fileno(), 100, 0)


def _version_in_log(path: Path) -> int:
    """The version in the newest committed first page of a write-ahead log; 0 if it holds none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return 0
    with open(descriptor, "rb") as file:  # noqa: PTH123 -- of a descriptor
        return _committed_version(file.fileno())


def _committed_version(log: int) -> int:
    start = _read(log, _WAL_HEADER.size, 0)
    if len(start) < _WAL_HEADER.size:
        return 0
    magic, _, page_size, _, salts, _ = _WAL_HEADER.unpack(start)
    if magic not in _WAL_MAGICS or page_size == 0:
        return 0
    committed = pending = 0
    at = _WAL_HEADER.size
    while len(start := _read(log, _WAL_FRAME.size, at)) == _WAL_FRAME.size:
        page, committed_size, frame_salts, _ = _WAL_FRAME.unpack(start)
        if frame_salts != salts:
            break  # from before the log began anew
        if page == 1:
            pending = _version_in(_read(log, 100, at + _WAL_FRAME.size))
        if committed_size:
            committed = pending
        at += _WAL_FRAME.size + page_size
    return committed


def _read(descriptor: int, size: int, at: int) -> bytes:
    try:
        return os.pread(descriptor, size, at)
    except OSError:  # such as a directory, or a disk that does not read
        return b""
