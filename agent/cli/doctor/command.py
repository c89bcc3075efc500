"""``berth doctor``: which checks, what they say, and which of their fixes are applied."""

import argparse
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from agent import __version__
from agent.cli.doctor.examine import examine
from agent.cli.doctor.facts import Facts
from agent.cli.doctor.findings import Answered, CannotFix, Check, Finding
from agent.cli.doctor.listing import CHECKS
from agent.cli.failures import FAILED, OK, USAGE, Failure
from agent.cli.output import coloured, is_for_people, print_json, print_table
from agent.settings import BadSettings, Settings, environment, hand_to_libraries

UNWELL = (Finding.PROBLEM, Finding.TIMED_OUT)
"""What makes the exit code 1."""

_WIDTH = 110
_SHOWN = {
    Finding.OK: "OK",
    Finding.WARNING: "WARNING",
    Finding.PROBLEM: "PROBLEM",
    Finding.NOT_APPLICABLE: "-",
    Finding.TIMED_OUT: "TIMED OUT",
}


def doctor(chosen: argparse.Namespace) -> int:
    """Look, tell, and fix what is asked for.

    Exit code 0: nothing but warnings; 1: a problem, or a check that did not end in time; 2: wrong use.
    """
    if chosen.list:
        return _list(as_json=chosen.json)
    checks = _named(chosen.check)
    facts = facts_here(chosen.env_file)
    answers = examine(checks, facts)
    fixed: list[dict[str, Any]] = []
    if chosen.fix or chosen.dry_run:
        fixed = _fix(answers, is_dry=chosen.dry_run, is_told=not chosen.json)
        if any(each["applied"] for each in fixed):
            again = {each["check"] for each in fixed if each["applied"]}
            later = {
                each.check.name: each
                for each in examine([c for c in checks if c.name in again], facts_here(chosen.env_file))
            }
            answers = tuple(later.get(each.check.name, each) for each in answers)
    if chosen.json:
        print_json(_document(answers, fixed))
    else:
        _print(answers)
    return FAILED if any(each.verdict.finding in UNWELL for each in answers) else OK


def facts_here(env_file: str | None) -> Facts:
    """What can be asked on this machine. Wrong settings are a finding, not an error."""
    environ = environment()
    try:
        settings = Settings.load(environ, env_file=Path(env_file) if env_file else None)
    except BadSettings as error:
        return Facts(None, error.problems, environ=environ)
    # proxies and keys that stand in the agent's files count for what is asked here, too
    hand_to_libraries(settings)
    return Facts(settings, environ=environment())


def _named(names: Iterable[str]) -> tuple[Check, ...]:
    wanted = set(names)
    known = {check.name for check in CHECKS}
    if unknown := sorted(wanted - known):
        raise Failure(
            f"there is no check {', '.join(unknown)}; berth doctor --list names them all",
            USAGE,
        )
    return tuple(check for check in CHECKS if not wanted or check.name in wanted)


def _list(*, as_json: bool) -> int:
    if as_json:
        print_json([{"name": each.name, "asks": each.asks, "limit_seconds": each.limit} for each in CHECKS])
    else:
        print_table(("CHECK", "WELL IF"), [(each.name, each.asks) for each in CHECKS])
    return OK


def _fix(answers: Sequence[Answered], *, is_dry: bool, is_told: bool) -> list[dict[str, Any]]:
    told = []
    for answered in answers:
        fix = answered.verdict.fix
        if fix is None:
            continue
        entry: dict[str, Any] = {
            "check": answered.check.name,
            "does": fix.says,
            "undo": fix.undo,
            "applied": False,
            "error": None,
        }
        if is_told:
            print(
                f"{answered.check.name}: {'would ' if is_dry else ''}{fix.says}\n  undone by: {fix.undo}",
                flush=True,
            )
        if not is_dry:
            try:
                fix.apply()
                entry["applied"] = True
            except (CannotFix, OSError) as error:
                entry["error"] = str(error)
                if is_told:
                    print(f"  could not be done: {error}")
        told.append(entry)
    if is_told and not told:
        print("there is nothing that can be fixed safely")
    return told


def _document(answers: Sequence[Answered], fixed: list[dict[str, Any]]) -> dict[str, Any]:
    findings = [each.verdict.finding for each in answers]
    verdict = (
        Finding.PROBLEM
        if any(each in UNWELL for each in findings)
        else Finding.WARNING
        if Finding.WARNING in findings
        else Finding.OK
    )
    return {
        "version": __version__,
        "verdict": verdict.value,
        "checks": [
            {
                "name": each.check.name,
                "finding": each.verdict.finding.value,
                "cause": each.verdict.cause,
                "meaning": each.verdict.meaning,
                "advice": each.verdict.advice,
                "fix": each.verdict.fix.says if each.verdict.fix else None,
                "undo": each.verdict.fix.undo if each.verdict.fix else None,
                "seconds": round(each.seconds, 3),
            }
            for each in answers
        ],
        "fixes": fixed,
    }


def _print(answers: Sequence[Answered]) -> None:
    if not is_for_people():
        print_table(
            (),
            [(each.check.name, _SHOWN[each.verdict.finding], each.verdict.cause) for each in answers],
        )
        return
    name_width = max(len(each.check.name) for each in answers)
    for each in answers:
        verdict = each.verdict
        word = _SHOWN[verdict.finding]
        head = f"{each.check.name:<{name_width}}  {coloured(word)}{' ' * (9 - len(word))}  "
        indent = " " * (name_width + 13)
        lines = _folded(verdict.cause, indent)
        print(head + lines.lstrip())
        for label, text in (
            ("means: ", verdict.meaning),
            ("do: ", verdict.advice),
            (f"berth doctor --fix {each.check.name}: ", verdict.fix.says if verdict.fix else ""),
        ):
            if text:
                print(_folded(label + text, indent))


def _folded(text: str, indent: str) -> str:
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    lines = textwrap.wrap(text, max(40, width - len(indent)), break_long_words=False, break_on_hyphens=False)
    return "\n".join(indent + line for line in lines) or indent
