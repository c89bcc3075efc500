"""The descriptors that systemd hands to this process (sd_listen_fds(3)), which its children must not see."""

import os
from collections.abc import Mapping

LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES = "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"

FIRST_DESCRIPTOR = 3
MOST_DESCRIPTORS = 1024


def descriptors_of(environ: Mapping[str, str], pid: int) -> tuple[tuple[str, int], ...]:
    """Name and number of each that is meant for the process ``pid``. An unnamed one is ``unknown``."""
    count = environ.get(LISTEN_FDS, "")
    if environ.get(LISTEN_PID) != str(pid) or not (count.isascii() and count.isdecimal()):
        return ()
    names = environ.get(LISTEN_FDNAMES, "").split(":")
    return tuple(
        (names[place] if place < len(names) and names[place] else "unknown", FIRST_DESCRIPTOR + place)
        for place in range(min(int(count), MOST_DESCRIPTORS))
    )


def take_descriptors() -> tuple[tuple[str, int], ...]:
    """What the process's environment says, which is taken out of it; no program that is started has them."""
    found = descriptors_of(os.environ, os.getpid())
    for name in (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES):
        os.environ.pop(name, None)
    for _, descriptor in found:
        try:
            os.set_inheritable(descriptor, False)
        except OSError:
            continue  # there is no such descriptor: whoever looks at it is told so
    return found
