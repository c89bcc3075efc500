import threading
import time

import pytest

from agent.cli.doctor.examine import examine
from agent.cli.doctor.facts import Facts, run_program
from agent.cli.doctor.findings import Check, Finding, NotApplicable, bad, warn, well, worst


def test_checks_run_side_by_side_and_one_that_hangs_takes_none_along() -> None:
    release = threading.Event()

    def hangs(_):
        release.wait(20)
        return well("late")

    checks = (
        Check("hangs", "", hangs, limit=0.5),
        Check("slow", "", lambda _: time.sleep(0.3) or well("a"), limit=3),
        Check("slow too", "", lambda _: time.sleep(0.3) or bad("b", "c"), limit=3),
    )
    began = time.monotonic()
    answers = examine(checks, Facts(None))
    spent = time.monotonic() - began
    release.set()
    assert spent < 1.5
    assert [each.verdict.finding for each in answers] == [Finding.TIMED_OUT, Finding.OK, Finding.PROBLEM]
    assert answers[0].verdict.cause == "no answer within 0.5 s"


def test_a_check_that_does_not_apply_may_not_look_or_is_wrong_itself_says_so() -> None:
    def raises(error):
        def look(_):
            raise error

        return look

    checks = (
        Check("a", "", raises(NotApplicable("no task"))),
        Check("b", "", raises(PermissionError(13, "no", "/proc/1/ns"))),
        Check("c", "", raises(KeyError("oops"))),
        Check("d", "", raises(TimeoutError("nft has not ended"))),
    )
    verdicts = [each.verdict for each in examine(checks, Facts(None))]
    assert [each.finding for each in verdicts] == [
        Finding.NOT_APPLICABLE,
        Finding.NOT_APPLICABLE,
        Finding.WARNING,
        Finding.TIMED_OUT,
    ]
    assert "the check itself failed: KeyError" in verdicts[2].cause


def test_what_needs_settings_does_not_apply_while_they_are_wrong() -> None:
    check = Check("a", "", lambda facts: well(facts.settings.backend))
    (answer,) = examine((check,), Facts(None, ("ECS_LOGLEVEL: wrong",)))
    assert answer.verdict.finding is Finding.NOT_APPLICABLE
    assert "see the check settings" in answer.verdict.cause


def test_the_worst_of_several_looks_names_the_check_and_others_add_their_causes() -> None:
    verdict = worst([well("a"), warn("b", "m1", "do b."), bad("c", "m2", "do c.")], "")
    assert verdict.finding is Finding.PROBLEM
    assert (verdict.cause, verdict.meaning, verdict.advice) == ("c; b", "m2", "do c. do b.")
    assert worst([well("a"), well("b")], "").cause == "a; b"
    assert worst([], "nothing").cause == "nothing"


def test_what_several_checks_ask_is_found_out_once() -> None:
    facts, asked = Facts(None), []
    for _ in range(3):
        assert facts.once("x", lambda: asked.append(1) or 7) == 7
    assert asked == [1]


def test_a_program_is_run_to_its_end_and_one_that_is_absent_is_told(monkeypatch) -> None:
    done = run_program(["sh", "-c", "cat; echo $WORD >&2; exit 3"], "text", WORD="told")
    assert done is not None
    assert (done.code, done.out, done.err) == (3, "text", "told\n")
    assert run_program(["/nowhere/program"]) is None
    monkeypatch.setattr("agent.cli.doctor.facts.PROGRAM_LIMIT", 0.2)
    with pytest.raises(TimeoutError, match="has not ended"):
        run_program(["sleep", "5"])
