"""Where log lines go and what they may hold. Called once by the root; everyone else only gets a logger."""

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import structlog

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "crit": logging.CRITICAL,
    "none": logging.CRITICAL + 10,
}
"""The level names of the ECS agent (ecs-protocol 8.2)."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file beside stderr. ``rollover``: ``size``, ``hourly`` or ``none``; ``keep``: how many full files."""

    path: Path
    level: str = "info"
    format: str = "logfmt"
    rollover: str = "size"
    max_bytes: int = 5_000_000
    keep: int = 24


def configure(
    *,
    level: str = "info",
    console: str = "auto",
    file: LogFile | None = None,
    lines_per_second: int = 20,
    stream: TextIO | None = None,
) -> None:
    """Set structlog and the standard library's logging up. A second call replaces what the first set up.

    ``level``: a key of ``LEVELS``. ``console``: ``json``, ``console``, or ``auto`` (whether ``stream`` is a
    terminal). ``stream``: stderr unless given. Raise ``OSError`` if the file cannot be opened.
    """
    close()
    stream = stream or sys.stderr
    is_for_people = console == "console" or (console == "auto" and stream.isatty())
    look = "console" if is_for_people else "json"
    outlets = [Outlet(LEVELS[level], _renderer(look, stream), Stream(stream).write)]
    if file is not None:
        rolling = RollingFile(file)
        _open_files.append(rolling)
        outlets.append(Outlet(LEVELS[file.level], _renderer(file.format, stream), rolling.write))
    lowest = min(outlet.level for outlet in outlets)
    pace = Pace(per_second=lines_per_second)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            pace,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            _Spread(tuple(outlets), pace),
        ],
        # structlog has no level for "none"; the outlets then refuse what is left
        wrapper_class=structlog.make_filtering_bound_logger(min(lowest, logging.CRITICAL)),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    _adopt_libraries(lowest)


def close() -> None:
    """Close the log files; lines that follow open them again."""
    while _open_files:
        _open_files.pop().close()


@dataclass(slots=True)
class Outlet:
    """One place that lines go to, with its own level and look."""

    level: int
    render: Callable[[MutableMapping[str, Any]], str]
    write: Callable[[str], object]


class Pace:
    """A limit per event name, so that one fault cannot fill the disk or hide everything else.

    Each name has a bucket of ``burst`` lines that refills with ``per_second``. What is left out is counted
    and said in one ``lines.suppressed``, at most once a second, with the next line of any name.
    """

    def __init__(
        self,
        *,
        per_second: float,
        burst: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._burst = burst or 50 * per_second
        self._now = now
        self._buckets: dict[str, _Bucket] = {}
        self._said_at = now()

    def __call__(self, _: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Let the line pass, or raise ``structlog.DropEvent``."""
        now = self._now()
        bucket = self._buckets.setdefault(str(line.get("event")), _Bucket(self._burst, now))
        bucket.level = min(self._burst, bucket.level + (now - bucket.at) * self._per_second)
        bucket.at = now
        if bucket.level < 1.0:
            bucket.suppressed += 1
            raise structlog.DropEvent
        bucket.level -= 1.0
        return line

    def overdue(self) -> Iterator[dict[str, Any]]:
        """What must be said about lines that were left out."""
        now = self._now()
        if now - self._said_at < 1.0:
            return
        self._said_at = now
        # a copy: another thread may say something new meanwhile
        for name, bucket in tuple(self._buckets.items()):
            if bucket.suppressed:
                yield {
                    "event": "lines.suppressed",
                    "level": "warning",
                    "name": name,
                    "count": bucket.suppressed,
                }
                bucket.suppressed = 0


class Stream:
    """stderr, or what stands in for it. A line that cannot be written (a closed pipe) is lost and counted."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost = 0

    def write(self, text: str) -> None:
        """Write the text at once."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # ValueError: the stream was closed; there is nobody left to tell
            self.lost += 1


class RollingFile:
    """A file that is put aside as ``agent.log.1`` when it is full, and that one as ``agent.log.2``.

    A line that cannot be written (disk full) is lost and counted; logging never stops the agent.
    """

    def __init__(self, chosen: LogFile, now: Callable[[], float] = time.time) -> None:
        self._chosen = chosen
        self._now = now
        self._file: TextIO | None = None
        self._size = 0
        self._hour = 0
        self.lost = 0
        self._open()

    def write(self, text: str) -> None:
        """Append the text. A file that somebody moved away is begun anew."""
        size = len(text.encode(errors="replace"))
        try:
            if self._file is None:
                self._open()
            elif self._is_full(size):
                self._roll()
            assert self._file is not None  # noqa: S101 - _open and _roll leave a file or raise
            self._file.write(text)
            self._file.flush()
            self._size += size
        except OSError:
            self.lost += 1
            self.close()

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                # closing writes what is left in the buffer, and the disk may be full
                self.lost += 1

    def _open(self) -> None:
        path = self._chosen.path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", errors="replace")
        self._size = self._file.tell()
        self._hour = int(self._now() // 3600)

    def _is_full(self, more: int) -> bool:
        if self._chosen.rollover == "none":
            return False
        if self._chosen.rollover == "hourly":
            return int(self._now() // 3600) != self._hour
        return self._size > 0 and self._size + more > self._chosen.max_bytes

    def _roll(self) -> None:
        self.close()
        path = self._chosen.path
        for number in range(self._chosen.keep, 0, -1):
            newer = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
            if newer.exists():
                newer.replace(path.with_name(f"{path.name}.{number}"))
        self._open()


def redact(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blot out every value whose key says that it is secret, at any depth."""
    for key, value in line.items():
        if _SECRET.search(key):
            line[key] = "***"
        elif isinstance(value, dict | list | tuple):
            line[key] = _redacted(value)
    return line


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float
    suppressed: int = field(default=0)


class _Spread:
    """The last processor: writes a line to each outlet that wants it, for one thread at a time."""

    def __init__(self, outlets: tuple[Outlet, ...], pace: Pace) -> None:
        self._outlets = outlets
        self._pace = pace
        # Docker's, the database's and the namespaces' threads log too, and a file may be turned over by one
        # of them. Reentrant: rendering a value may itself say something.
        self._one_at_a_time = threading.RLock()

    def __call__(self, _: object, __: str, line: MutableMapping[str, Any]) -> str:
        with self._one_at_a_time:
            for summary in self._pace.overdue():
                self._write({"timestamp": line.get("timestamp"), **summary})
            self._write(line)
        return ""

    def _write(self, unordered: MutableMapping[str, Any]) -> None:
        line = {key: unordered.get(key) for key in ("timestamp", "level", "event")} | dict(unordered)
        level = _LEVEL_OF_METHOD.get(str(line.get("level")), logging.INFO)
        for outlet in self._outlets:
            if level >= outlet.level:
                outlet.write(outlet.render(dict(line)) + "\n")


class _FromLibraries(logging.Handler):
    """Lines of libraries become lines of ours, so that there is one place and one format."""

    def __init__(self, log: Any) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        method = getattr(self._log, _METHOD_OF_LEVEL.get(record.levelno, "info"))
        method("library.logged", library=record.name, message=record.getMessage(), exc_info=record.exc_info)


def _renderer(look: str, stream: TextIO) -> Callable[[MutableMapping[str, Any]], str]:
    if look == "console":
        # The plain trace: prettier ones show the values of local variables, and those may be secret.
        people = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), pad_event_to=24, exception_formatter=structlog.dev.plain_traceback
        )
        return lambda line: str(people(None, "", line))
    if look == "json":
        machines = structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
        return lambda line: str(machines(None, "", _with_trace(line)))
    agents = structlog.processors.LogfmtRenderer(
        key_order=["level", "timestamp", "event"], bool_as_flag=False
    )
    return lambda line: str(agents(None, "", _with_trace(line)))


def _with_trace(line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return structlog.processors.format_exc_info(None, "", line)


def _adopt_libraries(lowest: int) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _FromLibraries)]:
        root.removeHandler(handler)
    root.addHandler(_FromLibraries(structlog.get_logger()))
    # what libraries say below a warning is about them, not about tasks
    root.setLevel(max(lowest, logging.WARNING))


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "***" if _SECRET.search(str(key)) else _redacted(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(inner) for inner in value]
    return value


_SECRET = re.compile(r"(?i)token|secret|passw(or)?d|credentials_?id|authorization|access_?key|auth_?data")
_LEVEL_OF_METHOD = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_METHOD_OF_LEVEL = {level: method for method, level in _LEVEL_OF_METHOD.items()}
_open_files: list[RollingFile] = []
