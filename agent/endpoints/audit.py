"""Who asked for which credentials, when and with what outcome; never the id, never a secret."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from agent.model.ids import TaskArn
from agent.ports.clock import Clock
from agent.ports.health import HealthReports

GET_CREDENTIALS = "GetCredentials"
GET_CREDENTIALS_EXECUTION_ROLE = "GetCredentialsExecutionRole"

_AUDIT_VERSION = 2
_COMPONENT = "audit log"


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One answered request.

    ``remote`` is ``address:port``; ``path`` has no id and no query. ``event`` None: no role is known, and the
    line ends after the task (ecs-protocol 6.5). Empty texts are written as ``-``.
    """

    status: int
    remote: str
    path: str
    user_agent: str
    task: TaskArn | None = None
    event: str | None = None


class AuditLog:
    """A file with one line per record, turned over when it grows too large.

    ``path`` None: nothing is written. ``max_bytes``: size at which the file is put aside as ``<path>.1``;
    ``keep``: how many of those stay. A file that cannot be written is reported as a health problem and tried
    again with the next record; the request is answered all the same.
    """

    def __init__(
        self,
        path: Path | None,
        clock: Clock,
        health: HealthReports,
        *,
        cluster: str = "",
        container_instance: Callable[[], str] = lambda: "",
        max_bytes: int = 10 * 1024 * 1024,
        keep: int = 5,
    ) -> None:
        self._path = path
        self._clock = clock
        self._health = health
        self._cluster = cluster
        self._container_instance = container_instance
        self._max_bytes = max_bytes
        self._keep = keep
        self._file: IO[bytes] | None = None

    def write(self, record: AuditRecord) -> None:
        """Append one line."""
        if self._path is None:
            return
        line = audit_line(record, self._clock.now(), self._cluster, self._container_instance())
        try:
            self._append(self._path, f"{line}\n".encode())
        except OSError as error:
            self.close()
            self._health.report(
                _COMPONENT, f"cannot write {self._path}: {error.strerror}; check disk and owner"
            )
        else:
            self._health.report(_COMPONENT, None)

    def close(self) -> None:
        """Close the file; the next record opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, path: Path, line: bytes) -> None:
        file = self._file
        if file is None or _has_been_moved(file, path):
            self.close()
            file = self._file = _open(path)
        if file.tell() > 0 and file.tell() + len(line) > self._max_bytes:
            self.close()
            self._turn_over(path)
            file = self._file = _open(path)
        file.write(line)

    def _turn_over(self, path: Path) -> None:
        for number in range(self._keep, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            newer = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
            if newer.exists():
                newer.replace(older)
        if self._keep == 0:
            path.unlink(missing_ok=True)


def audit_line(record: AuditRecord, at: datetime, cluster: str, container_instance: str) -> str:
    """The line for a record, in the ECS agent's format."""
    start = (
        f"{at:%Y-%m-%dT%H:%M:%SZ} {record.status} {record.remote or '-'} "
        f'"{_quoted(record.path)}" "{_quoted(record.user_agent)}" {record.task or "-"} '
    )
    if record.event is None:
        return start
    return f"{start}{record.event} {_AUDIT_VERSION} {cluster or '-'} {container_instance or '-'}"


def _quoted(text: str) -> str:
    # A client chooses its own user agent; it must not be able to end the quotes or the line.
    safe = "".join(letter if letter.isprintable() and letter not in '"\\' else "?" for letter in text[:512])
    return safe or "-"


def _open(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    file = os.fdopen(descriptor, "ab", buffering=0)
    file.seek(0, os.SEEK_END)
    return file


def _has_been_moved(file: IO[bytes], path: Path) -> bool:
    # logrotate and friends rename the file under us
    try:
        return not os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return True
