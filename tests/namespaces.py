"""Work done in another network namespace, by this process. Needs root."""

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def inside(path: str, work: Callable[[], T]) -> T:
    """What ``work`` returns, or raises, done in the network namespace of that file, on a thread that ends with it.

    Sockets made there stay there.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, f"cannot enter {path}: {os.strerror(number)}")
            finally:
                os.close(descriptor)
            results.append(work())
        except BaseException as failure:  # noqa: BLE001 handed to the caller, whatever it is
            failures.append(failure)

    thread = threading.Thread(target=enter, name="other-namespace", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
