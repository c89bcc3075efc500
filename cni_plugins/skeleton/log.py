"""A plugin's log: lines in a file, never on stdout, and never a reason to fail."""

from __future__ import annotations

import posix
import time

from cni_plugins.skeleton import document

_LEVELS = ("trace", "debug", "info", "warn", "error", "critical")
_LARGEST_BYTES = 8 << 20  # then the file is kept as <name>.1 and begun anew


class Log:
    """Appends one JSON object per line to the file that ECS_CNI_LOG_FILE names.

    An unwritable path is silent: a plugin that cannot log must still connect a task.
    """

    def __init__(self, path: str, level: str, plugin: str, container_id: str) -> None:
        self._path = path
        wanted = level.lower()
        self._threshold = _LEVELS.index(wanted) if wanted in _LEVELS else _LEVELS.index("info")
        self._fixed: dict[str, object] = {
            "plugin": plugin,
            "container_id": container_id,
            "pid": posix.getpid(),
        }

    def debug(self, event: str, **values: object) -> None:
        """What helps a developer only."""
        self._write("debug", event, values)

    def info(self, event: str, **values: object) -> None:
        """A fact in the normal course."""
        self._write("info", event, values)

    def warning(self, event: str, **values: object) -> None:
        """Something was left out or found odd, and the call still succeeds."""
        self._write("warn", event, values)

    def failure(self, event: str, **values: object) -> None:
        """The call fails."""
        self._write("error", event, values)

    def _write(self, level: str, event: str, values: dict[str, object]) -> None:
        if not self._path or _LEVELS.index(level) < self._threshold:
            return
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = document.encode({"time": stamp, "level": level, "event": event, **self._fixed, **values})
        try:
            self._append(line.encode() + b"\n")
        except OSError:
            self._path = ""  # said once is enough: the caller sees the outcome on stdout

    def _append(self, line: bytes) -> None:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC | posix.O_NOFOLLOW
        descriptor = posix.open(self._path, flags, 0o600)
        try:
            posix.write(descriptor, line)
            if posix.fstat(descriptor).st_size > _LARGEST_BYTES:
                posix.rename(self._path, f"{self._path}.1")
        finally:
            posix.close(descriptor)
