"""What the supervisor of this process has put into its environment (sd_notify(3), sd_watchdog_enabled(3)).

It is meant for this very process, so it is taken out: a program that the agent starts would otherwise speak
in the agent's name.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import timedelta

from agent.settings.descriptors import LISTEN_FDNAMES, LISTEN_FDS, LISTEN_PID, descriptors_of

NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"

_TAKEN = (NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID, LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES)


@dataclass(frozen=True, slots=True)
class Supervision:
    """How this process is watched. ``notify_socket`` None: nobody wants to be told anything.

    ``watchdog``: within which time the supervisor expects a sign of life; None: it expects none.
    ``warnings`` are sentences for the log. ``received``: name and number of each descriptor that came with
    the start; they are for this process alone.
    """

    notify_socket: str | None = None
    watchdog: timedelta | None = None
    warnings: tuple[str, ...] = ()
    received: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, environ: Mapping[str, str], pid: int) -> "Supervision":
        """As the variables say to the process ``pid``. What cannot be understood counts as not said."""
        warnings = []
        watchdog = None
        meant_for = environ.get(WATCHDOG_PID, "")
        period = environ.get(WATCHDOG_USEC, "")
        if period and meant_for in ("", str(pid)):
            if period.isascii() and period.isdecimal() and int(period) > 0:
                watchdog = timedelta(microseconds=int(period))
            else:
                warnings.append(
                    f"WATCHDOG_USEC={period!r} (the environment): expected a number of microseconds above 0; "
                    "no signs of life are sent"
                )
        received = descriptors_of(environ, pid)
        return cls(environ.get(NOTIFY_SOCKET) or None, watchdog, tuple(warnings), received)

    @classmethod
    def take(cls, environ: MutableMapping[str, str], pid: int) -> "Supervision":
        """The same, and the variables are taken out."""
        found = cls.of(environ, pid)
        for name in _TAKEN:
            environ.pop(name, None)
        return found
