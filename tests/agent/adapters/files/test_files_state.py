"""A migration may be cut off anywhere: the next start goes on, and what was there before is kept whole."""

import json
import os
import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.adapters.files import state
from agent.adapters.files.state import STAMP, Newer, Plan, Stamp, StateDirectory, Step, read_stamp
from agent.model.errors import CannotStart, StateTooNew


class Crash(BaseException):
    """The process is gone."""


def words_to_numbers(directory: Path) -> None:
    """Format 1 keeps words, one file each; format 2 keeps their lengths."""
    for path in sorted(directory.glob("words/*.json")):
        document = json.loads(path.read_bytes())
        if "word" in document:
            aside = path.with_suffix(".new")
            aside.write_text(json.dumps({"length": len(document["word"])}))
            aside.replace(path)


def has_words(directory: Path) -> bool:
    return any("word" in json.loads(path.read_bytes()) for path in directory.glob("words/*.json"))


def move_words(directory: Path) -> None:
    """Format 3 has another place for them."""
    (directory / "words").rename(directory / "lengths")


STEPS = {
    1: (Step("lengths", has_words, words_to_numbers),),
    2: (Step("another place", lambda directory: (directory / "words").is_dir(), move_words),),
}
OLD = Plan("1.0.0", newest=1, contents=("words", "lengths"))
NEW = Plan("3.0.0", newest=3, steps=STEPS, contents=("words", "lengths"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A state directory of format 1 with three words."""
    place = tmp_path / "data"
    (place / "words").mkdir(parents=True)
    for word in ("a", "bee", "cedar"):
        (place / "words" / f"{word}.json").write_text(json.dumps({"word": word}))
    StateDirectory(place, OLD).settle()
    return place


def content(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def lengths(place: Path) -> list[int]:
    return [json.loads(path.read_bytes())["length"] for path in sorted((place / "lengths").glob("*.json"))]


def test_a_new_directory_is_stamped_with_format_and_agent(tmp_path: Path) -> None:
    StateDirectory(tmp_path, NEW).settle()
    assert read_stamp(tmp_path) == Stamp(3, "3.0.0")
    assert sorted(path.name for path in tmp_path.iterdir()) == [STAMP], "no copy of nothing"


def test_every_step_between_two_formats_is_run_in_order_and_the_old_state_is_kept(directory: Path) -> None:
    before = content(directory)
    StateDirectory(directory, NEW).settle()
    assert lengths(directory) == [1, 3, 5]
    assert read_stamp(directory) == Stamp(3, "3.0.0")
    assert content(directory / "before-format-3") == before


def test_a_second_start_changes_nothing(directory: Path) -> None:
    StateDirectory(directory, NEW).settle()
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    StateDirectory(directory, NEW).settle()
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


def test_the_agent_that_wrote_last_is_named(directory: Path) -> None:
    StateDirectory(directory, Plan("1.0.1", newest=1)).settle()
    assert read_stamp(directory) == Stamp(1, "1.0.1")


def crash_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """The process ends before that change of the file system, of whichever kind. The list names them."""
    seen: list[str] = []

    def counted(name: str, real):
        def call(*args: object, **kwargs: object) -> object:
            seen.append(name)
            if len(seen) == number:
                raise Crash
            return real(*args, **kwargs)

        return call

    for module, name in (
        (os, "open"),
        (os, "fsync"),
        (shutil, "rmtree"),
        (shutil, "copy2"),
        (shutil, "copytree"),
    ):
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    for name in ("replace", "rename", "mkdir", "write_text", "unlink"):
        monkeypatch.setattr(Path, name, counted(name, getattr(Path, name)))
    return seen


def test_whatever_moment_a_migration_is_cut_off_the_next_start_completes_it(
    directory: Path, tmp_path: Path
) -> None:
    original = content(directory)
    number = 0
    while True:
        number += 1
        place = tmp_path / f"copy-{number}"
        shutil.copytree(directory, place)
        with pytest.MonkeyPatch.context() as patch:
            seen = crash_at(patch, number)
            try:
                StateDirectory(place, NEW).settle()
            except Crash:
                is_cut_off = True
            else:
                is_cut_off = False
        if not is_cut_off:
            break
        # Nothing is lost at any moment: the old state is in its place or in its copy.
        if (stamp := read_stamp(place)).format == 1:
            assert {name: each for name, each in content(place).items() if name in original} == original, seen
            StateDirectory(place, OLD).refuse_newer()
        else:
            assert content(place / "before-format-3") == original, seen
            assert stamp.migrating_from in {None, 1}
            with pytest.raises(StateTooNew):
                StateDirectory(place, OLD).refuse_newer()
        StateDirectory(place, NEW).settle()
        assert lengths(place) == [1, 3, 5], seen
        assert read_stamp(place) == Stamp(3, "3.0.0")
        assert content(place / "before-format-3") == original, seen
        assert {path.name for path in place.iterdir()} == {STAMP, "lengths", "before-format-3"}
    assert number > 20, "every change was a moment of its own"


def test_the_copy_is_a_state_directory_to_which_the_older_agent_goes_back(directory: Path) -> None:
    before = content(directory)
    StateDirectory(directory, NEW).settle()
    with pytest.raises(StateTooNew, match="before-format-3") as refused:
        StateDirectory(directory, OLD).refuse_newer()
    assert f"What was there before the upgrade is in {directory}/before-format-3" in str(refused.value)
    directory.rename(directory.with_name("newer"))
    (directory.with_name("newer") / "before-format-3").rename(directory)
    StateDirectory(directory, OLD).refuse_newer()
    StateDirectory(directory, OLD).settle()
    assert content(directory) == before
    StateDirectory(directory, NEW).settle()
    assert lengths(directory) == [1, 3, 5]


def test_neither_what_was_set_aside_nor_a_pipe_is_copied_or_waited_for(directory: Path) -> None:
    (directory / "words" / "broken").mkdir()
    (directory / "words" / "broken" / "x.json").write_text("{")
    os.mkfifo(directory / "words" / "pipe")
    os.mkfifo(directory / "pipe.json")
    assert state.read_document(directory / "pipe.json") is None
    before = content(directory)
    StateDirectory(directory, NEW).settle()
    kept = content(directory / "before-format-3")
    assert kept == {name: each for name, each in before.items() if "broken" not in name}


def test_a_state_that_may_not_be_read_is_not_newer_and_the_start_says_why_it_ends(directory: Path) -> None:
    def forbidden(place: Path, is_stamped: bool):
        raise PermissionError(13, "Permission denied", str(place))

    mine = StateDirectory(directory, Plan("1", 1, witnesses=(forbidden,)))
    mine.refuse_newer()
    with pytest.raises(CannotStart, match="Permission denied") as refused:
        mine.settle()
    assert not refused.value.is_final


def test_only_the_newest_copy_is_kept(directory: Path) -> None:
    StateDirectory(directory, NEW).settle()
    (directory / "lengths").rename(directory / "words")
    newest = Plan("4.0.0", newest=4, steps={3: STEPS[2]}, contents=("words", "lengths"))
    StateDirectory(directory, newest).settle()
    assert [path.name for path in directory.glob("before-*")] == ["before-format-4"]


def test_a_copy_for_which_there_is_no_space_stops_the_start_before_anything_has_changed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(directory)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(CannotStart, match=r"cannot be brought to format 3: .*No space left") as refused:
        StateDirectory(directory, NEW).settle()
    assert not refused.value.is_final
    assert content(directory) == before
    monkeypatch.undo()
    StateDirectory(directory, NEW).settle()
    assert lengths(directory) == [1, 3, 5]


def test_a_full_disk_does_not_keep_an_agent_of_the_same_format_from_its_tasks(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with capture_logs() as lines:
        StateDirectory(directory, Plan("1.0.1", newest=1)).settle()
    assert [line["event"] for line in lines] == ["state.stamp_not_written"]
    assert read_stamp(directory) == Stamp(1, "1.0.0")


BROKEN = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"format": 3, "written_by": "9"}',
    b'{"format": 3, "written_by": "9", "sum": 1}',
    b'{"format": "3", "written_by": "9", "sum": 1}',
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_stamp_is_no_newer_state_and_is_written_anew(directory: Path, broken: bytes) -> None:
    (directory / STAMP).write_bytes(broken)
    StateDirectory(directory, OLD).refuse_newer()
    with capture_logs() as lines:
        StateDirectory(directory, OLD).settle()
    assert [line["event"] for line in lines] == ["state.stamp_unreadable"]
    assert read_stamp(directory) == Stamp(1, "1.0.0")


def test_no_flipped_bit_of_a_stamp_makes_it_another_one(directory: Path) -> None:
    whole = (directory / STAMP).read_bytes()
    for position in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << bit
            (directory / STAMP).write_bytes(bytes(flipped))
            assert read_stamp(directory) in {None, Stamp(1, "1.0.0")}


def test_a_stamp_that_is_lost_in_the_middle_of_a_migration_loses_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(directory)

    def crash(_: Path) -> None:
        raise Crash

    first, second = STEPS[1][0], Step("cut off", STEPS[2][0].is_needed, crash)
    with pytest.raises(Crash):
        StateDirectory(directory, Plan("3", 3, {1: (first,), 2: (second,)}, NEW.contents)).settle()
    (directory / STAMP).unlink()
    StateDirectory(directory, NEW).settle()
    assert lengths(directory) == [1, 3, 5]
    assert content(directory / "before-format-3") == before


def test_a_witness_of_newer_state_is_believed_and_told_whether_there_is_a_stamp(directory: Path) -> None:
    asked = []

    def witness(place: Path, is_stamped: bool):
        asked.append(is_stamped)
        return () if is_stamped else (Newer(place / "words/a.json", 7, 1),)

    plan = Plan("1", 1, witnesses=(witness,))
    StateDirectory(directory, plan).refuse_newer()
    (directory / STAMP).unlink()
    with pytest.raises(StateTooNew, match=r"words/a\.json has format 7") as refused:
        StateDirectory(directory, plan).refuse_newer()
    assert (refused.value.found, refused.value.understood) == (7, 1)
    assert asked == [True, False]


def test_a_step_that_cannot_be_done_says_which_state_and_where_the_copy_is(directory: Path) -> None:
    def refuse(_: Path) -> None:
        raise OSError(13, "Permission denied")

    plan = Plan("2", 2, {1: (Step("refused", has_words, refuse),)}, NEW.contents)
    with pytest.raises(CannotStart, match=r"Permission denied.*before-format-2") as refused:
        StateDirectory(directory, plan).settle()
    assert not refused.value.is_final


def test_the_stamp_of_this_agent_is_of_format_1() -> None:
    assert state.FORMAT == 1
