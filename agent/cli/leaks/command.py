"""``berth leaks``: look twice, tell, and with ``--fix`` remove what is still left at that moment."""

import argparse
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

from agent.adapters.host.needs import look as look_at_needs
from agent.adapters.host.needs import missing
from agent.cli.connection import Connection
from agent.cli.failures import FAILED, OK, USAGE, Failure
from agent.cli.leaks import containers, network
from agent.cli.leaks.known import knowing
from agent.cli.leaks.things import Kind, Known, Ledger, NotRemoved, Thing, Unseen
from agent.cli.output import print_json, print_table
from agent.settings import BadSettings, Settings, environment

BETWEEN_LOOKS = 3.0
"""Seconds. What a task leaves behind while it stops is gone by then, or is left for good."""

LOOK_LIMIT = 10.0
"""Seconds for one kind. All kinds are looked for at once."""


def leaks(chosen: argparse.Namespace) -> int:
    """Tell what is left, or remove it. Exit code 1: something is left, or could not be looked for."""
    try:
        settings = Settings.load(environment(), env_file=Path(chosen.env_file) if chosen.env_file else None)
    except BadSettings as error:
        raise Failure(f"the settings are wrong:\n{error}", USAGE) from error
    _refuse_half_a_view(settings)
    known = knowing(Connection.find(chosen.env_file), settings)
    ledger = seen_twice(kinds(settings), known)
    removed: dict[str, list[str]] = {}
    left: dict[str, dict[str, str]] = {}
    if chosen.fix:
        removed, left = remove_all(ledger, kinds(settings), known)
    is_clean = not ledger.unseen and (
        not any(left.values()) if chosen.fix else not any(ledger.found.values())
    )
    if chosen.json:
        print_json({"leaks": ledger.names(), "unseen": ledger.unseen, "removed": removed, "left": left})
    else:
        _print(ledger, removed, left, is_fix=chosen.fix)
    return OK if is_clean else FAILED


def _refuse_half_a_view(settings: Settings) -> None:
    """In a container that does not see the machine's processes, each task would look as if it had ended."""
    hidden = [
        each
        for each in missing(look_at_needs(settings))
        if each.name in ("pid_namespace", "network_namespace")
    ]
    if hidden:
        raise Failure(
            "not everything can be seen from here: " + "; ".join(str(each) for each in hidden), USAGE
        )


def kinds(settings: Settings) -> tuple[Kind, ...]:
    """Every kind, in the order in which things go: what holds others comes before them."""
    looks: tuple[tuple[str, Callable[..., tuple[Thing, ...]]], ...] = (
        ("containers", containers.containers),
        ("volumes", containers.volumes),
        ("cgroups", containers.control_groups),
        # a namespace is known by the links in it
        ("namespaces", network.namespaces),
        ("links", network.links),
        ("addresses", network.addresses),
        ("interfaces", network.interfaces),
        ("rules", network.rules),
    )
    return tuple(Kind(name, partial(look, settings)) for name, look in looks)


def seen_twice(all_kinds: Sequence[Kind], known: Callable[[], Known], pause: float | None = None) -> Ledger:
    """What two looks have both seen. Raise ``Failure`` where nobody can say what belongs here."""
    known()
    first = look(all_kinds, known)
    if not any(first.found.values()):
        return first
    time.sleep(BETWEEN_LOOKS if pause is None else pause)
    return first.both(look(all_kinds, known))


def look(all_kinds: Sequence[Kind], known: Callable[[], Known], limit: float = LOOK_LIMIT) -> Ledger:
    """One look at every kind, side by side; one that hangs is given up."""
    ledger = Ledger(found={kind.name: {} for kind in all_kinds})
    answers: SimpleQueue[tuple[str, tuple[Thing, ...] | Exception]] = SimpleQueue()
    for kind in all_kinds:
        threading.Thread(target=_look, args=(kind, known, answers), name=kind.name, daemon=True).start()
    waiting = {kind.name for kind in all_kinds}
    until = time.monotonic() + limit
    while waiting:
        try:
            name, answer = answers.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            ledger.unseen |= dict.fromkeys(waiting, f"no answer within {limit:g} s")
            break
        waiting.discard(name)
        match answer:
            case Failure():
                raise answer
            case Exception():
                ledger.unseen[name] = str(answer)
            case _:
                ledger.found[name] = {thing.name: thing for thing in answer}
    return ledger


def remove_all(
    ledger: Ledger, all_kinds: Sequence[Kind], known: Callable[[], Known]
) -> tuple[dict[str, list[str]], dict[str, dict[str, str]]]:
    """Remove what is in the ledger and left at this moment: names that went, and why others did not."""
    removed: dict[str, list[str]] = {}
    left: dict[str, dict[str, str]] = {}
    for kind in all_kinds:
        wanted = ledger.found.get(kind.name) or {}
        if not wanted:
            continue
        # once more: what went with something else before it needs no removal, and what has come to use stays
        now = look([kind], known)
        if kind.name in now.unseen:
            left[kind.name] = dict.fromkeys(wanted, now.unseen[kind.name])
            continue
        for name in wanted:
            thing = now.found[kind.name].get(name)
            problem = None if thing is None else _removed(thing, known)
            if problem is None:
                removed.setdefault(kind.name, []).append(name)
            else:
                left.setdefault(kind.name, {})[name] = problem
    return removed, left


def _removed(thing: Thing, known: Callable[[], Known]) -> str | None:
    """Why it was not removed, or None."""
    if thing.is_of(known()):
        return "a task needs it after all"
    try:
        thing.remove()
    except NotRemoved as problem:
        return str(problem)
    return None


def _look(
    kind: Kind,
    known: Callable[[], Known],
    answers: "SimpleQueue[tuple[str, tuple[Thing, ...] | Exception]]",
) -> None:
    try:
        answers.put((kind.name, kind.look(known)))
    except (Unseen, Failure, OSError, TimeoutError) as reason:
        answers.put((kind.name, reason))
    except Exception as bug:  # noqa: BLE001 - one kind that is wrong must not hide the others
        answers.put((kind.name, RuntimeError(f"the look itself failed: {type(bug).__name__}: {bug}")))


def _print(
    ledger: Ledger, removed: dict[str, list[str]], left: dict[str, dict[str, str]], *, is_fix: bool
) -> None:
    if is_fix:
        rows = [(kind, name, "removed") for kind, names in removed.items() for name in names]
        rows += [(kind, name, problem) for kind, things in left.items() for name, problem in things.items()]
    else:
        rows = [(kind, name, "") for kind, names in ledger.names().items() for name in names]
    if rows and is_fix:
        print_table(("KIND", "NAME", "RESULT"), rows)
    elif rows:
        print_table(("KIND", "NAME"), [row[:2] for row in rows])
    elif not ledger.unseen:
        print("nothing is left of tasks that are gone")
    for kind, reason in ledger.unseen.items():
        print(f"{kind} could not be looked for: {reason}")
