"""Reads the version of an SQLite file from its bytes: to open it with SQLite would make files beside it.

The formats are those of sqlite.org/fileformat.html: the version stands in the first page, of which the newest
committed copy may still be in the write-ahead log.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MAGIC = b"SQLite format 3\0"
_VERSION_AT = 60
_LOOKED_AT = 100
_LARGEST = 9999
"""A higher version is damage: no agent will have that many."""
_WAL_MAGICS = (0x377F0682, 0x377F0683)
_WAL_HEADER = struct.Struct(">IIII8s8s")  # magic, format, page size, checkpoint, salts, checksum
_WAL_FRAME = struct.Struct(">II8s8s")  # page, size of the database after a commit or 0, salts, checksum


def user_version(path: Path) -> int:
    """What ``PRAGMA user_version`` would say; 0 if the file is missing, empty, or no database. Reads only."""
    with _opened(path.with_name(path.name + "-wal")) as log:
        newest = _committed_version(log)
    if newest is not None:
        return newest
    with _opened(path) as database:
        return _version_in(_read(database, _LOOKED_AT, 0))


def _version_in(page: bytes) -> int:
    if len(page) < _VERSION_AT + 4 or not page.startswith(_MAGIC):
        return 0
    version = int.from_bytes(page[_VERSION_AT : _VERSION_AT + 4], "big", signed=True)
    return version if 0 < version <= _LARGEST else 0


def _committed_version(log: int | None) -> int | None:
    """The version in the newest committed first page of a write-ahead log; None if it holds none."""
    start = _read(log, _WAL_HEADER.size, 0)
    if len(start) < _WAL_HEADER.size:
        return None
    magic, _, page_size, _, salts, _ = _WAL_HEADER.unpack(start)
    if magic not in _WAL_MAGICS or page_size == 0:
        return None
    committed: int | None = None
    pending: int | None = None
    at = _WAL_HEADER.size
    while len(start := _read(log, _WAL_FRAME.size, at)) == _WAL_FRAME.size:
        page, committed_size, frame_salts, _ = _WAL_FRAME.unpack(start)
        content = _read(log, page_size, at + _WAL_FRAME.size) if page == 1 else b""
        if frame_salts != salts or (page == 1 and len(content) < page_size):
            break  # from before the log began anew, or cut off
        if page == 1:
            pending = _version_in(content)
        if committed_size:
            committed = pending
        at += _WAL_FRAME.size + page_size
    return committed


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """A descriptor for reading. None: the file is missing or may not be read; whoever needs it says so."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int | None, size: int, at: int) -> bytes:
    """Empty: there is no file, it is none, or the disk does not read."""
    try:
        return os.pread(descriptor, size, at) if descriptor is not None else b""
    except OSError:
        return b""
