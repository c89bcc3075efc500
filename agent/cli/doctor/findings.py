"""What a check may find, and what may be done about it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.cli.doctor.facts import Facts


class Finding(StrEnum):
    """The outcome of a check. These words are in ``--json`` and do not change."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    NOT_APPLICABLE = "not_applicable"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True, slots=True)
class Fix:
    """A change that is safe: it can be repeated and undone.

    ``says``: what it does, told before it is done. ``undo``: how it is taken back. ``apply`` raises
    ``OSError`` or ``CannotFix``.
    """

    says: str
    undo: str
    apply: Callable[[], None]


class CannotFix(Exception):
    """The change was refused; the text says by whom and why."""


class NotApplicable(Exception):
    """The question makes no sense here, or cannot be answered because something else is wrong."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``cause``: what was seen. ``meaning``: what it means for tasks. ``advice``: what a person can do."""

    finding: Finding
    cause: str
    meaning: str = ""
    advice: str = ""
    fix: Fix | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One question. ``name`` is stable. ``limit``: seconds until it counts as timed out."""

    name: str
    asks: str
    look: "Callable[[Facts], Verdict]"
    limit: float = 5.0


@dataclass(frozen=True, slots=True)
class Answered:
    """A check with its verdict and how long it took, in seconds."""

    check: Check
    verdict: Verdict
    seconds: float


def well(cause: str) -> Verdict:
    """Nothing is wrong."""
    return Verdict(Finding.OK, cause)


def warn(cause: str, meaning: str, advice: str = "", fix: Fix | None = None) -> Verdict:
    """Tasks run, but less well or less safely than they could."""
    return Verdict(Finding.WARNING, cause, meaning, advice, fix)


def bad(cause: str, meaning: str, advice: str = "", fix: Fix | None = None) -> Verdict:
    """Tasks do not run, or will not for long."""
    return Verdict(Finding.PROBLEM, cause, meaning, advice, fix)


def worst(verdicts: list[Verdict], otherwise: str) -> Verdict:
    """Several looks of one check as one verdict: the worst names it, the others are added to its cause."""
    order = (Finding.PROBLEM, Finding.TIMED_OUT, Finding.WARNING)
    told = sorted((each for each in verdicts if each.finding in order), key=lambda v: order.index(v.finding))
    if not told:
        return well("; ".join(each.cause for each in verdicts) or otherwise)
    first = told[0]
    fixes = [each.fix for each in told if each.fix is not None]
    return Verdict(
        first.finding,
        "; ".join(each.cause for each in told),
        first.meaning,
        " ".join(dict.fromkeys(each.advice for each in told if each.advice)),
        _together(fixes),
    )


def _together(fixes: list[Fix]) -> Fix | None:
    if len(fixes) <= 1:
        return fixes[0] if fixes else None

    def apply() -> None:
        for each in fixes:
            each.apply()

    return Fix("; ".join(each.says for each in fixes), "; ".join(each.undo for each in fixes), apply)
