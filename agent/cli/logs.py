"""``berth logs``: what containers have printed, as the agent hands it on."""

import argparse
import heapq
import json
import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from agent.cli.connection import Connection
from agent.cli.failures import OK, USAGE, Failure
from agent.cli.output import is_coloured, note
from agent.cli.seen import containers_of

_NOT_YET = 409  # the HTTP status of a container that has not been created


class Line(NamedTuple):
    """One line of one container. ``time``: as Docker wrote it, RFC 3339 in UTC."""

    time: str
    container: str
    text: bytes


def logs(chosen: argparse.Namespace) -> int:
    """Copy what was printed to stdout. Ending it with Ctrl-C is no failure."""
    _check(chosen)
    if chosen.agent:
        # another program altogether: reads files, asks nobody
        from agent.cli.agent_log import show  # noqa: PLC0415

        return show(chosen)
    connection = Connection.find(chosen.env_file)
    try:
        if not chosen.json and _copied(connection, chosen):
            return OK
        names = [chosen.container] if chosen.container else containers_of(connection, chosen.task)
        lines = _followed(connection, chosen, names) if chosen.follow else _merged(connection, chosen, names)
        show_line = _as_json if chosen.json else _Prefixed(names, with_time=chosen.timestamps)
        for line in lines:
            sys.stdout.buffer.write(show_line(line) + b"\n")
            sys.stdout.buffer.flush()
    except KeyboardInterrupt:
        return OK
    return OK


def _check(chosen: argparse.Namespace) -> None:
    if chosen.agent and chosen.task is not None:
        raise Failure(
            f"with --agent the task is an option: berth logs --agent --task {chosen.task}",
            USAGE,
        )
    if not chosen.agent and chosen.task is None:
        raise Failure("which task? berth ps lists them; berth logs --agent is the agent's own log", USAGE)
    for option, value in (("--level", chosen.level), ("--task", chosen.about)):
        if value is not None and not chosen.agent:
            raise Failure(f"{option} is for the agent's own log; add --agent", USAGE)


def _copied(connection: Connection, chosen: argparse.Namespace) -> bool:
    """Copy byte for byte what one container has printed. False: there are several, and none was named."""
    try:
        for piece in _stream(connection, chosen, chosen.container, timestamps=chosen.timestamps):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    except Failure as failure:
        if failure.code != USAGE or failure.status is None or chosen.container:
            raise
        try:
            return len(containers_of(connection, chosen.task)) == 1
        except Failure:
            raise failure from None
    return True


def _stream(
    connection: Connection, chosen: argparse.Namespace, container: str | None, *, timestamps: bool
) -> Iterator[bytes]:
    return connection.stream(
        "/berth/v1/logs",
        task=chosen.task,
        container=container,
        follow="true" if chosen.follow else None,
        tail=chosen.tail,
        since=None if chosen.since is None else f"{chosen.since:.3f}",
        timestamps="true" if timestamps else None,
    )


def _lines(connection: Connection, chosen: argparse.Namespace, container: str) -> Iterator[Line]:
    rest = b""
    for piece in _stream(connection, chosen, container, timestamps=True):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield _line(container, line)
    if rest:
        yield _line(container, rest)


def _line(container: str, line: bytes) -> Line:
    stamp, _, text = line.partition(b" ")
    return Line(stamp.decode("ascii", "replace"), container, text.removesuffix(b"\r"))


def _merged(connection: Connection, chosen: argparse.Namespace, names: list[str]) -> Iterator[Line]:
    streams = [_of_one(connection, chosen, name, alone=len(names) == 1) for name in names]
    merged = heapq.merge(*streams, key=lambda line: line.time)
    if chosen.tail is None or len(names) == 1:
        return merged
    # the last lines of all are among the last of each
    newest = list(merged)
    return iter(newest[max(0, len(newest) - chosen.tail) :])


def _of_one(connection: Connection, chosen: argparse.Namespace, name: str, *, alone: bool) -> Iterator[Line]:
    try:
        yield from _lines(connection, chosen, name)
    except Failure as failure:
        if alone or failure.status != _NOT_YET:
            raise
        note(chosen, str(failure))


def _followed(connection: Connection, chosen: argparse.Namespace, names: list[str]) -> Iterator[Line]:
    """Lines of several containers as they come, until the last has ended."""
    came: queue.SimpleQueue[Line | Failure | None] = queue.SimpleQueue()

    def read(name: str) -> None:
        try:
            for line in _of_one(connection, chosen, name, alone=len(names) == 1):
                came.put(line)
        except Failure as failure:
            came.put(failure)
        finally:
            came.put(None)

    for name in names:
        # a daemon: Ctrl-C does not wait for a container to say something
        threading.Thread(target=read, args=(name,), daemon=True).start()
    left = len(names)
    while left:
        match came.get():
            case None:
                left -= 1
            case Failure() as failure:
                raise failure
            case line:
                yield line


def _as_json(line: Line) -> bytes:
    document: dict[str, Any] = {
        "time": line.time,
        "container": line.container,
        "line": line.text.decode("utf-8", "replace"),
    }
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")


class _Prefixed:
    """Says whose line it is when several containers are shown."""

    def __init__(self, names: list[str], *, with_time: bool) -> None:
        self._width = max(map(len, names), default=0)
        self._colours = {name: str(31 + (index + 1) % 6) for index, name in enumerate(names)}
        self._with_time = with_time
        self._is_coloured = is_coloured()

    def __call__(self, line: Line) -> bytes:
        name = f"{line.container:<{self._width}} |"
        if self._is_coloured:
            name = f"\033[{self._colours[line.container]}m{name}\033[0m"
        begin = f"{name} {line.time} " if self._with_time else f"{name} "
        return begin.encode() + line.text
