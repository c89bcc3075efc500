"""What the kernel says when it refuses: an errno, and sometimes a sentence."""

from __future__ import annotations

import posix

ENOENT, ESRCH, EEXIST, ENODEV, EINVAL, EXFULL = 2, 3, 17, 19, 22, 54
EOPNOTSUPP, EAFNOSUPPORT, EADDRNOTAVAIL, ENETUNREACH, EACCES, EPERM = 95, 97, 99, 101, 13, 1
GONE = (ENOENT, ESRCH, ENODEV, EADDRNOTAVAIL)


class KernelRefused(Exception):
    """A netlink request failed: `errno` positive, `said` the kernel's own words or empty."""

    def __init__(self, errno: int, said: str = "") -> None:
        words = posix.strerror(errno).lower()
        super().__init__(f"{words} ({said})" if said else words)
        self.errno = errno
        self.said = said
