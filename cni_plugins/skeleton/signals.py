"""The C half of the signal module, all that a plugin needs: the other half imports enum (7 ms)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import SIG_DFL, SIG_IGN, SIGKILL, SIGTERM, getsignal, set_wakeup_fd, signal
else:
    from _signal import SIG_DFL, SIG_IGN, SIGKILL, SIGTERM, getsignal, set_wakeup_fd, signal

__all__ = ["SIGKILL", "SIGTERM", "SIG_DFL", "SIG_IGN", "getsignal", "set_wakeup_fd", "signal"]
