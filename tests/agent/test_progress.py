"""Whether loops get on, with a time that the test moves."""

from collections.abc import Iterator

import pytest

from agent.model.progress import Late, Loop, Progress, sentence


def test_a_loop_that_beats_is_never_late() -> None:
    progress = Progress()
    with progress.watched("beating") as loop:
        for _ in range(100):
            progress.tick(1.0, 2.0)
            loop.beat()
            assert progress.late(0.5) == ()


def test_a_loop_that_has_begun_something_and_does_not_end_it_is_late() -> None:
    progress = Progress()
    with progress.watched("stuck") as loop:
        loop.beat()
        progress.tick(30.0, 100.0)
        assert progress.late(30.0) == ()
        progress.tick(1.0, 100.0)
        assert progress.late(30.0) == (Late("stuck", 31.0),)


def test_a_wait_for_something_outside_is_progress_as_long_as_it_was_said_to_take() -> None:
    progress = Progress()
    with progress.watched("asks Docker") as loop:
        loop.beat(600.0)
        progress.tick(600.0, 1000.0)
        assert progress.late(10.0) == ()
        progress.tick(11.0, 1000.0)
        assert progress.late(10.0) == (Late("asks Docker", 11.0),)


def test_a_loop_that_waits_for_events_may_wait_for_ever() -> None:
    progress = Progress()
    with progress.watched("idle") as loop:
        loop.rest()
        progress.tick(1e9, 1e9)
        assert progress.late(0.0) == ()


def test_a_loop_that_was_given_something_and_does_not_take_it_is_late() -> None:
    progress = Progress()
    with progress.watched("starved") as loop:
        loop.rest()
        progress.tick(1000.0, 1000.0)
        loop.wake()
        progress.tick(5.0, 10.0)
        loop.wake()  # more of it does not make it any younger
        progress.tick(5.0, 10.0)
        assert progress.late(9.0) == (Late("starved", 10.0),)
        loop.beat()
        assert progress.late(0.0) == ()


def test_an_event_makes_a_loop_due_that_would_have_slept_for_long() -> None:
    progress = Progress()
    with progress.watched("sleeps") as loop:
        loop.beat(3600.0)
        loop.wake()
        progress.tick(20.0, 100.0)
        assert progress.late(10.0) == (Late("sleeps", 20.0),)


def test_a_jump_of_the_clock_makes_nobody_late() -> None:
    progress = Progress()
    with progress.watched("stopped together with the process") as loop:
        loop.beat()
        progress.tick(86_400.0, 2.0)
        progress.tick(-50.0, 2.0)
        assert progress.time == 2.0
        assert progress.late(10.0) == ()


def test_a_loop_that_has_ended_is_watched_no_more_whatever_ended_it() -> None:
    progress = Progress()

    def fail() -> None:
        with progress.watched("short"):
            assert progress.names == ("short",)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    progress.tick(1e6, 1e6)
    assert progress.names == ()
    assert progress.late(0.0) == ()


def test_two_loops_of_one_name_are_two() -> None:
    progress = Progress()
    with progress.watched("twin") as one, progress.watched("twin") as other:
        progress.tick(10.0, 10.0)
        one.beat()
        assert [each.name for each in progress.late(5.0)] == ["twin"]
        other.beat()
        assert progress.late(5.0) == ()


def test_the_sentence_names_the_worst_first_and_does_not_name_a_thousand() -> None:
    progress = Progress()
    with progress.watched("older"):
        progress.tick(10.0, 10.0)
        with progress.watched("younger"):
            progress.tick(40.0, 40.0)
            assert sentence(progress.late(5.0)) == "no progress in older (for 50 s), younger (for 40 s)"
    late = tuple(Late(f"task {number}", 60.0) for number in range(1000))
    assert sentence(late).endswith("task 4 (for 60 s) and 995 more")


class Changing(dict[Loop, None]):
    """Changes while the first look goes through it, as another thread may make it."""

    def __iter__(self) -> Iterator[Loop]:
        for loop in super().__iter__():
            if len(self) == 1:
                self[Loop("came in between", loop._progress)] = None
            yield loop


def test_a_loop_that_begins_in_the_middle_of_a_look_does_not_end_the_looking() -> None:
    progress = Progress()
    progress._loops = Changing()
    with progress.watched("stuck"):
        progress.tick(10.0, 10.0)
        assert progress.late(5.0) == (Late("stuck", 10.0),)
