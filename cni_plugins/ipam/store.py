"""The leases on disk: one JSON file in one directory, one lock, valid for one boot."""

from __future__ import annotations

import errno
import posix
import time
from fcntl import LOCK_EX, LOCK_NB, flock

from cni_plugins.ipam.allocator import NO_LEASES, Lease, Leases
from cni_plugins.ipam.config import Place
from cni_plugins.skeleton import document
from cni_plugins.skeleton.errors import IO_FAILURE, TRY_AGAIN, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.02
_CHUNK = 1 << 20
_FORMAT = 1


class Store:
    """The leases under their lock. Use it in a with block; what is not saved is not changed.

    Raises CniError 11 on entry if the lock cannot be had in time, 5 if the directory cannot be used.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._state = f"{place.directory}/leases.json"
        self._lock = -1
        self.moved_aside = ""  # where an unreadable file went, for the log

    def __enter__(self) -> Self:
        _make_directories(self._place.directory)
        flags = posix.O_RDWR | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW
        try:
            self._lock = posix.open(f"{self._place.directory}/lock", flags, 0o600)
            self._wait_for_lock()
        except OSError as error:
            self._close()
            raise CniError(IO_FAILURE, f"cannot lock {self._place.directory!r}: {error.strerror}") from error
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def load(self) -> Leases:
        """What is leased. A store of an earlier boot is empty; an unreadable one is moved aside and empty.

        Raises CniError 5 for one that newer plugins wrote in this boot: to begin anew would lease addresses
        a second time that are in use.
        """
        try:
            content = _read(self._state)
        except FileNotFoundError:
            return NO_LEASES
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot read {self._state!r}: {error.strerror}") from error
        if not content.strip():
            return NO_LEASES
        try:
            return _decoded(content)
        except (ValueError, TypeError, AttributeError, KeyError):
            self._move_aside()
            return NO_LEASES

    def save(self, leases: Leases) -> None:
        """Replace the file whole, also in a crash. No fsync: a power cut ends the leases too."""
        fresh = f"{self._state}.new"
        try:
            flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC | posix.O_NOFOLLOW
            descriptor = posix.open(fresh, flags, 0o600)
            try:
                data = _encoded(leases)
                while data:
                    data = data[posix.write(descriptor, data) :]
            finally:
                posix.close(descriptor)
            posix.rename(fresh, self._state)
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot write {self._state!r}: {error.strerror}") from error

    def _wait_for_lock(self) -> None:
        deadline = time.monotonic() + self._place.timeout_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                flock(self._lock, LOCK_EX | LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                    raise
            else:
                return
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise CniError(
                    TRY_AGAIN,
                    f"timeout: the lease store {self._place.directory!r} stayed locked",
                    f"waited {self._place.timeout_s:g} s (IPAM_DB_CONNECTION_TIMEOUT)",
                )
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _move_aside(self) -> None:
        aside = f"{self._state}.corrupt-{time.time_ns()}"
        try:
            posix.rename(self._state, aside)
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot move {self._state!r} aside: {error.strerror}") from error
        self.moved_aside = aside

    def _close(self) -> None:
        if self._lock >= 0:
            posix.close(self._lock)  # gives the lock back too
            self._lock = -1


def seconds_since_boot() -> float:
    """The clock of the resting times: it never stands still, and begins anew with the boot, as they do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _decoded(content: bytes) -> Leases:
    keys = document.decode(content)
    if isinstance(keys, dict) and _is_newer(keys):
        raise CniError(
            IO_FAILURE,
            f"the leases have format {keys['format']}, and this plugin understands {_FORMAT}",
            "newer plugins wrote them and addresses are in use: install those again, or restart the machine",
        )
    if not isinstance(keys, dict) or keys["format"] != _FORMAT:
        raise ValueError(f"not a lease store of format {_FORMAT}")
    if keys["boot"] != _boot():
        return NO_LEASES
    held = {
        str(text): Lease(str(entry["id"]), str(entry["container"]), str(entry["ifname"]))
        for text, entry in keys["held"].items()
    }
    resting = {str(text): float(since) for text, since in keys["resting"].items()}
    return Leases(held, resting, {str(family): str(text) for family, text in keys["newest"].items()})


def _is_newer(keys: dict[str, object]) -> bool:
    found = keys.get("format")
    return type(found) is int and found > _FORMAT and keys.get("boot") == _boot()


def _encoded(leases: Leases) -> bytes:
    held = {
        text: {"id": held.id, "container": held.container_id, "ifname": held.ifname}
        for text, held in leases.held.items()
    }
    keys = {
        "format": _FORMAT,
        "boot": _boot(),
        "held": held,
        "resting": leases.resting,
        "newest": leases.newest,
    }
    return document.encode(keys).encode() + b"\n"


def _boot() -> str:
    return _read(_BOOT_ID).decode().strip()


def _read(path: str) -> bytes:
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        chunks = []
        while chunk := posix.read(descriptor, _CHUNK):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        posix.close(descriptor)


def _make_directories(path: str) -> None:
    try:
        posix.stat(path)
    except FileNotFoundError:
        parent = path.rstrip("/").rpartition("/")[0]
        if parent:
            _make_directories(parent)
        try:
            posix.mkdir(path, 0o750)
        except FileExistsError:
            return
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot create {path!r}: {error.strerror}") from error
    except OSError as error:
        raise CniError(IO_FAILURE, f"cannot use {path!r}: {error.strerror}") from error
