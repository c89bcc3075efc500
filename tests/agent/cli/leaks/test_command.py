import argparse
import json
import threading
import time

import pytest

from agent.adapters.host.needs import Missing
from agent.cli.failures import Failure
from agent.cli.leaks import command
from agent.cli.leaks.command import leaks, look, remove_all, seen_twice
from agent.cli.leaks.things import Kind, Known, NotRemoved, Thing, Unseen
from agent.cli.main import main
from agent.model.ids import TaskId

NOBODY = Known(frozenset(), frozenset(), None, has_agent=True)


def known(*tasks: str) -> Known:
    return Known(frozenset(TaskId(each) for each in tasks), frozenset(), None, has_agent=True)


class World:
    """Kinds of things that a test fills; ``looks`` counts."""

    def __init__(self, **kinds: list[str]) -> None:
        self.kinds = kinds
        self.looks = 0
        self.refuses: dict[str, str] = {}
        self.passing: set[str] = set()
        self.known = NOBODY

    def listed(self) -> tuple[Kind, ...]:
        return tuple(
            Kind(name, lambda asked, name=name: self._look(name, asked)) for name in sorted(self.kinds)
        )

    def _look(self, kind, asked):
        self.looks += 1
        asked()
        found = tuple(
            Thing(name, lambda name=name: self._remove(kind, name), task=TaskId(name))
            for name in self.kinds[kind]
        )
        self.kinds[kind] = [name for name in self.kinds[kind] if name not in self.passing]
        return found

    def _remove(self, kind, name):
        if name in self.refuses:
            raise NotRemoved(self.refuses[name])
        self.kinds[kind].remove(name)


@pytest.fixture
def world(monkeypatch, data_directory) -> World:
    world = World(containers=[], volumes=[], links=[])
    monkeypatch.setattr(command, "BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(command, "kinds", lambda _: world.listed())
    monkeypatch.setattr(command, "knowing", lambda *_: lambda: world.known)
    return world


def asked(*, fix=False, as_json=False) -> argparse.Namespace:
    return argparse.Namespace(env_file=None, fix=fix, json=as_json)


def test_a_clean_machine_ends_with_zero_after_one_look(world, capsys) -> None:
    assert leaks(asked()) == 0
    assert capsys.readouterr().out == "nothing is left of tasks that are gone\n"
    assert world.looks == 3


def test_what_is_left_is_named_by_kind_and_not_touched(world, capsys) -> None:
    world.kinds |= {"containers": ["c1", "c2"], "volumes": ["v1"]}
    assert leaks(asked()) == 1
    assert capsys.readouterr().out == "containers\tc1\ncontainers\tc2\nvolumes\tv1\n"
    assert world.kinds["volumes"] == ["v1"]


def test_what_is_gone_at_the_second_look_was_only_passing_by(world, capsys) -> None:
    world.kinds["links"] = ["veth1"]
    world.passing = {"veth1"}
    assert leaks(asked()) == 0
    assert "nothing is left" in capsys.readouterr().out


def test_a_fix_removes_what_is_left_and_says_so(world, capsys) -> None:
    world.kinds |= {"containers": ["c1"], "links": ["veth1"]}
    assert leaks(asked(fix=True)) == 0
    assert capsys.readouterr().out == "containers\tc1\tremoved\nlinks\tveth1\tremoved\n"
    assert not any(world.kinds.values())


def test_what_cannot_be_removed_is_named_with_its_reason(world, capsys) -> None:
    world.kinds |= {"volumes": ["v1", "v2"]}
    world.refuses = {"v1": "volume is in use"}
    assert leaks(asked(fix=True, as_json=True)) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["removed"] == {"volumes": ["v2"]}
    assert told["left"] == {"volumes": {"v1": "volume is in use"}}


def test_a_task_that_comes_between_look_and_removal_keeps_what_it_has(world) -> None:
    world.kinds |= {"volumes": ["v1"]}
    ledger = seen_twice(world.listed(), lambda: NOBODY, pause=0.0)
    removed, left = remove_all(ledger, world.listed(), lambda: known("v1"))
    assert removed == {}
    assert left == {"volumes": {"v1": "a task needs it after all"}}
    assert world.kinds["volumes"] == ["v1"]


def test_a_kind_that_cannot_be_looked_for_is_told_and_is_no_success(world, capsys, monkeypatch) -> None:
    def silent(_):
        raise Unseen("Docker does not answer")

    monkeypatch.setattr(command, "kinds", lambda _: (Kind("containers", silent), *world.listed()[1:]))
    world.kinds["links"] = ["veth1"]
    assert leaks(asked(fix=True)) == 1
    told = capsys.readouterr().out
    assert "links\tveth1\tremoved" in told
    assert "containers could not be looked for: Docker does not answer" in told


def test_a_kind_that_hangs_is_given_up_and_the_others_are_told() -> None:
    release = threading.Event()
    thing = Thing("veth1", lambda: None)
    kinds = (Kind("volumes", lambda _: release.wait(10) and ()), Kind("links", lambda _: (thing,)))
    began = time.monotonic()
    ledger = look(kinds, lambda: NOBODY, limit=0.3)
    release.set()
    assert time.monotonic() - began < 2
    assert ledger.unseen == {"volumes": "no answer within 0.3 s"}
    assert list(ledger.found["links"]) == ["veth1"]


def test_a_look_that_fails_itself_hides_no_other() -> None:
    def wrong(_):
        raise KeyError("Labels")

    ledger = look((Kind("volumes", wrong), Kind("links", lambda _: ())), lambda: NOBODY)
    assert "the look itself failed: KeyError" in ledger.unseen["volumes"]
    assert ledger.found["links"] == {}


def test_where_nobody_can_say_what_belongs_here_nothing_is_listed() -> None:
    def nobody():
        raise Failure("the backend has not named all of its tasks yet")

    with pytest.raises(Failure, match="not named all"):
        seen_twice((Kind("links", lambda _: ()),), nobody)


def test_from_inside_of_a_container_that_sees_no_processes_nothing_is_called_left(world, monkeypatch) -> None:
    hidden = Missing("pid_namespace", "the PID namespace of the machine", "the processes", "add --pid=host")
    monkeypatch.setattr(command, "missing", lambda _: (hidden,))
    world.kinds["links"] = ["veth1"]
    with pytest.raises(Failure, match="add --pid=host"):
        leaks(asked(fix=True))
    assert world.kinds["links"] == ["veth1"]


def test_wrong_settings_are_wrong_use(monkeypatch, data_directory, capsys) -> None:
    monkeypatch.setenv("ECS_LOGLEVEL", "loud")
    assert main(["leaks"]) == 2
    assert "ECS_LOGLEVEL" in capsys.readouterr().err
