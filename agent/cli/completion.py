"""``berth completion``: scripts that make a shell complete, written from the words; and what they ask for.

Words and options stand in the script, so that a shell answers at once. Ids of tasks and the like are asked
for: the script runs ``berth __complete``, which has a second for it and never says why there is no answer.
"""

import argparse
import re
from collections.abc import Callable, Iterator, Sequence

from agent.cli.connection import Connection
from agent.cli.failures import OK, Failure
from agent.cli.limits import within
from agent.cli.seen import containers_of, full_tasks
from agent.cli.vocabulary import word_named
from agent.cli.words import Option, Word

DEADLINE = 1.0
"""Seconds for everything that is asked. A person waits with a finger on the key."""

_HARMLESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]*")
"""A shell expands what it is given. Nothing else is offered."""


def completion(chosen: argparse.Namespace) -> int:
    """Print the script for a shell."""
    # imported here: who completes an id needs no scripts
    from agent.cli import completion_scripts  # noqa: PLC0415

    script: Callable[[], str] = getattr(completion_scripts, chosen.shell)
    print(script(), end="")
    return OK


def complete(given: Sequence[str]) -> int:
    """``berth __complete KIND WORD ...``: print what may stand there, one in a line, with a note after a tab.

    ``KIND``: as in ``Option.completes``, or ``given``: what comes next that is no option. ``WORD ...``: what
    has been typed before, from the word of the command on. Always ends with 0.
    """
    kind, *typed = given or [""]
    try:
        with within(DEADLINE):
            for candidate, meaning in _candidates(kind, typed):
                if _HARMLESS.fullmatch(candidate):
                    print(f"{candidate}\t{meaning}" if meaning else candidate)
    except (Failure, TimeoutError, ValueError, KeyError, TypeError):
        # no agent, no right to ask, an answer of another version: there is nothing to offer
        return OK
    return OK


def _candidates(kind: str, typed: Sequence[str]) -> list[tuple[str, str]]:
    """Each with a note on what it is, which may be empty."""
    word = word_named(typed[0]) if typed else None
    before = list(_positionals(word, typed[1:])) if word else []
    if kind == "given" and word is not None:
        option = _next(word, len(before))
        kind = option.completes if option else ""
    connection = Connection.find(_env_file(typed), timeout=DEADLINE)
    if kind == "container":
        names = containers_of(connection, before[0]) if before else []
        return [(name, "") for name in names]
    if kind not in ("task", "cluster", "family"):
        return []
    tasks = full_tasks(connection)
    if kind == "task":
        new = [task for task in tasks if task["id"] not in before]
        return [(task["id"], f"{task['family']}:{task['revision']} {task['status']}") for task in new]
    if kind == "family":
        return [(name, "") for name in sorted({task["family"] for task in tasks})]
    own = str(connection.get("/v1/metadata").get("Cluster") or "")
    clusters = {own, *(str(task.get("cluster") or "") for task in tasks)}
    return [(name.rsplit("/", 1)[-1], "") for name in sorted(clusters)]


def _next(word: Word, count: int) -> Option | None:
    """What is given without an option after ``count`` such things."""
    given = [option for option in word.options if option.is_positional]
    if count < len(given):
        return given[count]
    return given[-1] if given and given[-1].takes in ("many", "any") else None


def _positionals(word: Word, typed: Sequence[str]) -> Iterator[str]:
    values = {name for option in word.options if option.metavar for name in option.names}
    is_value = False
    for text in typed:
        if not is_value and not text.startswith("-"):
            yield text
        is_value = not is_value and text in values


def _env_file(typed: Sequence[str]) -> str | None:
    for index, text in enumerate(typed[:-1]):
        if text == "--env-file":
            return typed[index + 1]
    return None
