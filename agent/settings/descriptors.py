"""The descriptors that systemd hands to a process with its start (sd_listen_fds(3))."""

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
