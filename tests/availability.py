"""Asks one HTTP address all the time, a new connection each time, and tells how each of them ended.

As a program, ``python -I availability.py ADDRESS PORT PATH SECONDS`` runs until its input is closed and then
prints its findings as JSON; it needs nothing but the standard library, so it runs in any network namespace.
"""

import asyncio
import contextlib
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PATIENCE = 60.0
OK = "ok"
REFUSED = "refused"
RESET = "reset"
"""The connection was taken and ended without an answer: whoever had it was killed."""


@dataclass(frozen=True, slots=True)
class Question:
    """``asked_at``: by the monotonic clock of the machine. ``seconds``: until the answer was complete."""

    asked_at: float
    outcome: str
    seconds: float


@dataclass(slots=True)
class Findings:
    """All questions of a time, and what became of them."""

    questions: list[Question] = field(default_factory=list)

    def between(self, begin: float, end: float) -> "Findings":
        """Those that were asked in that time."""
        return Findings([each for each in self.questions if begin <= each.asked_at < end])

    def count(self, outcome: str) -> int:
        """How many ended so."""
        return sum(each.outcome == outcome for each in self.questions)

    def slower_than(self, seconds: float) -> int:
        """How many were answered, and took longer."""
        return sum(each.outcome == OK and each.seconds > seconds for each in self.questions)

    @property
    def outcomes(self) -> dict[str, int]:
        """How often each outcome was seen."""
        return dict(Counter(each.outcome for each in self.questions))

    @property
    def longest(self) -> float:
        """The longest that an answer took, in seconds."""
        return max((each.seconds for each in self.questions if each.outcome == OK), default=0.0)


class Asking:
    """A process that asks, perhaps in a namespace. A context manager; ``findings`` is there after its end."""

    def __init__(
        self, address: str, port: int, path: str, *, every: float, inside: Sequence[str] = ()
    ) -> None:
        self._command = [
            *inside,
            *(sys.executable, "-I", __file__, address, str(port), path, str(every)),
        ]
        self._process: subprocess.Popen[str] | None = None
        self.findings = Findings()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "asking\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        try:
            output, _ = self._process.communicate(timeout=PATIENCE + 10)
        except BaseException:
            self._process.kill()
            self._process.communicate()
            raise
        if kind is None:
            self.findings = Findings([Question(*each) for each in json.loads(output)])


async def ask(address: str, port: int, path: str) -> str:
    """One question on a connection of its own; how it ended."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                answer = await reader.read()
            finally:
                writer.close()
    except ConnectionRefusedError:
        return REFUSED
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return RESET if isinstance(error, ConnectionError) else f"error {error.errno}"
    if not answer:
        return RESET
    status = answer.split(b" ", 2)[1].decode()
    return OK if status == "200" else f"status {status}"


async def ask_on(address: str, port: int, path: str, every: float, stop: asyncio.Event) -> list[Question]:
    """Ask every so many seconds until told to stop; then wait for the answers that are still due."""
    found: list[Question] = []

    async def once() -> None:
        began = time.monotonic()
        outcome = await ask(address, port, path)
        found.append(Question(began, outcome, time.monotonic() - began))

    async with asyncio.TaskGroup() as group:
        due = time.monotonic()
        while not stop.is_set():
            group.create_task(once())
            due = max(due + every, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
    return sorted(found, key=lambda question: question.asked_at)


def end_keepers(docker: Any, directory: Path) -> None:
    """End the keepers whose door is in that directory, also one that an agent made and did not start any more."""
    from docker.errors import APIError  # as a program this module has nothing but the standard library

    mine = {"label": [f"berth.keeper={directory}"]}
    until = time.monotonic() + 20
    while left := docker.containers(all=True, filters=mine):
        assert time.monotonic() < until, f"keepers are left: {left}"
        for each in left:
            # Docker may be removing it already, or have done so
            with contextlib.suppress(APIError):
                docker.remove_container(each["Id"], v=True, force=True)
        time.sleep(0.05)


def as_rows(found: Iterable[Question]) -> list[tuple[float, str, float]]:
    """As JSON has them."""
    return [(each.asked_at, each.outcome, each.seconds) for each in found]


async def _main(address: str, port: str, path: str, every: str) -> None:
    # hundreds wait at the same time while nobody answers
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, stop.set)
    print("asking", flush=True)
    found = await ask_on(address, int(port), path, float(every), stop)
    print(json.dumps(as_rows(found)))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
