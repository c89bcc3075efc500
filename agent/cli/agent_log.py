"""``berth logs --agent``: the agent's own log, from its file and those that were put aside when full."""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from agent.cli.connection import Connection
from agent.cli.failures import FAILED, NOT_RUNNING, OK, USAGE, Failure
from agent.cli.output import clean, coloured, is_for_people, moment
from agent.settings import BadSettings, Whereabouts, environment, this_machine
from agent.settings.load import gather, load_some

_PAUSE = 0.25  # seconds between two looks at a file that is followed
_SERIOUS = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40, "crit": 50, "critical": 50}
_PAIR = re.compile(r'([^\s=]+)=("(?:[^"\\]|\\.)*"|\S*)')


class _Where(NamedTuple):
    """What the settings say about the log. ``path`` None: there is no file."""

    path: Path | None
    in_container: bool


def show(chosen: argparse.Namespace) -> int:
    """Print what is wanted of the log. Raise ``Failure``, which says where to look if there is no file."""
    path = _file(_where(chosen))
    wanted, look = _filter(chosen), _look(chosen)
    with _opened(path) as file:
        # what is written from here on is read by following, and nothing twice
        end = file.seek(0, 2)
        for line in _history(path, end, chosen, wanted):
            print(look(line))
        sys.stdout.flush()
        if not chosen.follow:
            return OK
        file.seek(end)
        for line in _followed(path, file):
            if wanted(line):
                print(look(line), flush=True)
    return OK


def _where(chosen: argparse.Namespace) -> _Where:
    """As the running agent says; if none runs, as the settings are here."""
    try:
        answer = Connection.find(chosen.env_file).get("/berth/v1/config")["settings"]
        values = {item["name"]: item["value"] for item in answer}
    except Failure as failure:
        if failure.code not in (FAILED, NOT_RUNNING):
            raise
        return _where_here(chosen.env_file)
    file = values.get("ECS_LOGFILE")
    return _Where(Path(file) if file else None, values.get("BERTH_IN_CONTAINER") == "true")


def _where_here(env_file: str | None) -> _Where:
    gathered = gather(environment(), Path(env_file) if env_file else None)
    try:
        values = load_some(gathered, this_machine(), (*Whereabouts.__slots__, "in_container", "log_file"))
    except BadSettings as error:
        raise Failure(f"the settings are wrong:\n{error}", USAGE) from error
    return _Where(values["log_file"], values["in_container"])


def _file(where: _Where) -> Path:
    if where.path is None:
        if where.in_container:
            kept = "Docker keeps: docker logs ecs-agent, or however the agent's container is named"
        elif Path("/run/systemd/system").is_dir():
            kept = "the journal keeps, if a unit started the agent: journalctl -u berth"
        else:
            kept = "whoever started it has"
        raise Failure(
            f"the agent writes no file, but only to stderr, which {kept}. "
            "For a file, set ECS_LOGFILE=/var/log/ecs/ecs-agent.log and start the agent anew"
        )
    if not where.path.exists():
        more = "; it is a path in the agent's container: is it mounted?" if where.in_container else ""
        raise Failure(f"there is no {where.path}, which ECS_LOGFILE names{more}")
    return where.path


def _files(path: Path) -> list[Path]:
    """The files of the log, the oldest first: ``agent.log.2``, ``agent.log.1``, ``agent.log``."""
    aside = [
        (int(number), each)
        for each in path.parent.glob(f"{path.name}.*")
        if (number := each.name.removeprefix(f"{path.name}.")).isdigit()
    ]
    return [each for _, each in sorted(aside, reverse=True)] + [path]


def _history(
    path: Path, end: int, chosen: argparse.Namespace, wanted: Callable[[str], bool]
) -> Iterator[str]:
    """The lines that are wanted, the oldest first. ``end``: where the newest file is not read any further."""

    def lines(file: Path) -> Iterator[str]:
        found = _lines_of(file, chosen.since, end if file == path else None)
        return (line for line in found if wanted(line))

    if chosen.tail is None:
        for file in _files(path):
            yield from lines(file)
        return
    # no more files are read than are needed
    newest: list[str] = []
    for file in reversed(_files(path)):
        newest = [*lines(file), *newest]
        if len(newest) >= chosen.tail:
            break
    yield from newest[max(0, len(newest) - chosen.tail) :]


def _lines_of(path: Path, since: float | None, end: int | None) -> Iterator[str]:
    try:
        if since is not None and path.stat().st_mtime < since:
            return
        with path.open("rb") as file:
            at = 0
            for line in file:
                at += len(line)
                if end is not None and at > end:
                    return
                yield line.decode("utf-8", "replace").rstrip("\n")
    except FileNotFoundError:
        return  # it was the oldest, and has just been removed


def _followed(path: Path, file: TextIO) -> Iterator[str]:
    """What is added to the file, and to the one that takes its place."""
    rest = ""
    try:
        while True:
            if text := file.read():
                *whole, rest = (rest + text).split("\n")
                yield from whole
                continue
            if _is_another(path, file):
                # opened first: whatever happens, one of the two is closed at the end
                following = _opened(path)
                file.close()
                file = following
                continue
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        return
    finally:
        file.close()


def _is_another(path: Path, file: TextIO) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return False  # between being put aside and being begun anew
    return (now.st_ino, now.st_dev) != _identity(file) or now.st_size < file.tell()


def _identity(file: TextIO) -> tuple[int, int]:
    # imported here: only following needs it
    from os import fstat  # noqa: PLC0415

    found = fstat(file.fileno())
    return found.st_ino, found.st_dev


def _opened(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise Failure(f"{path} may not be read by this user; use sudo") from error
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from error


def _filter(chosen: argparse.Namespace) -> Callable[[str], bool]:
    least = _SERIOUS[chosen.level] if chosen.level else 0
    about = chosen.about.rsplit("/", 1)[-1].lower() if chosen.about else ""
    since = chosen.since
    if not (least or about or since):
        return lambda _: True

    def wanted(line: str) -> bool:
        entry = parsed(line)
        if _SERIOUS.get(str(entry.get("level")), _SERIOUS["info"]) < least:
            return False
        if about and not any(about in value for value in _texts(entry)):
            return False
        at = _time(entry)
        return not since or at is None or at >= since

    return wanted


def _texts(entry: dict[str, Any]) -> Iterator[str]:
    return (str(value).lower() for name, value in entry.items() if name not in ("timestamp", "level"))


def _look(chosen: argparse.Namespace) -> Callable[[str], str]:
    if chosen.json:
        return lambda line: json.dumps(parsed(line), ensure_ascii=False)
    return _pretty if is_for_people() else str


def _pretty(line: str) -> str:
    entry = parsed(line)
    at = moment(entry.pop("timestamp", None)) if _time(entry) is not None else None
    level, event = str(entry.pop("level", "")), str(entry.pop("event", ""))
    trace = str(entry.pop("exception", ""))
    when = f"{at.astimezone():%Y-%m-%d %H:%M:%S}" if at else " " * 19
    pairs = " ".join(f"{name}={_value(value)}" for name, value in entry.items())
    head = f"{when} {coloured(level)}{' ' * (8 - len(level))} {clean(event)}"
    shown = f"{head}  {pairs}" if pairs else head
    below = "".join(f"\n    {clean(each)}" for each in trace.splitlines())
    return shown + below


def _value(value: object) -> str:
    text = clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return repr(text) if " " in text or not text else text


def parsed(line: str) -> dict[str, Any]:
    """A line of the log, in either of its formats. A line in neither is its own ``event``."""
    if line.startswith("{"):
        try:
            entry = json.loads(line)
        except ValueError:
            return {"event": line}
        return entry if isinstance(entry, dict) else {"event": line}
    pairs = {match[1]: _unquoted(match[2]) for match in _PAIR.finditer(line)}
    return pairs if "event" in pairs else {"event": line}


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text[1:-1])


def _time(entry: dict[str, Any]) -> float | None:
    try:
        at = moment(entry.get("timestamp"))
    except Failure:
        return None  # a line that is not ours
    return at.timestamp() if at else None
