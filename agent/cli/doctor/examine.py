"""Runs checks side by side, each in a thread of its own that is left behind when its time is over."""

import threading
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from agent.cli.doctor.facts import Facts
from agent.cli.doctor.findings import Answered, Check, Finding, NotApplicable, Verdict


def examine(checks: Sequence[Check], facts: Facts) -> tuple[Answered, ...]:
    """The answers, in the order of the checks. Ends when the longest limit has passed, whatever hangs."""
    began = time.monotonic()
    done: SimpleQueue[Answered] = SimpleQueue()
    for check in checks:
        # daemon: a thread that hangs in a system call must not keep the command from ending
        threading.Thread(target=_ask, args=(check, facts, done), name=check.name, daemon=True).start()
    answers: dict[str, Answered] = {}
    waiting = {check.name: check for check in checks}
    while waiting:
        left = max(began + check.limit for check in waiting.values()) - time.monotonic()
        try:
            answered = done.get(timeout=max(0.0, min(left, 0.1)))
        except Empty:
            for check in [each for each in waiting.values() if time.monotonic() >= began + each.limit]:
                answers[check.name] = Answered(waiting.pop(check.name), _late(check), check.limit)
            continue
        if waiting.pop(answered.check.name, None) is not None:
            answers[answered.check.name] = answered
    return tuple(answers[check.name] for check in checks)


def _ask(check: Check, facts: Facts, done: "SimpleQueue[Answered]") -> None:
    began = time.monotonic()
    done.put(Answered(check, _verdict(check, facts), time.monotonic() - began))


def _verdict(check: Check, facts: Facts) -> Verdict:
    try:
        return check.look(facts)
    except NotApplicable as reason:
        return Verdict(Finding.NOT_APPLICABLE, str(reason))
    except TimeoutError as error:
        return Verdict(Finding.TIMED_OUT, str(error) or "something that was asked did not answer in time")
    except PermissionError as error:
        return Verdict(
            Finding.NOT_APPLICABLE,
            f"may be looked at by root only: {error.filename or error}",
            advice="use sudo",
        )
    except Exception as bug:  # noqa: BLE001 - one check that is wrong must not take the others along
        return Verdict(
            Finding.WARNING,
            f"the check itself failed: {type(bug).__name__}: {bug}",
            "nothing is known about this point",
        )


def _late(check: Check) -> Verdict:
    return Verdict(
        Finding.TIMED_OUT,
        f"no answer within {check.limit:g} s",
        "what this looks at hangs, or the machine is overloaded",
    )
