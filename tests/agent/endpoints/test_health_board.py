from datetime import timedelta

import pytest

from agent.endpoints.health import HealthBoard
from tests.fakes.clock import NOON, FakeClock


def test_a_problem_keeps_the_time_at_which_it_began():
    clock = FakeClock()
    board = HealthBoard(clock)
    board.report("docker", "Docker does not answer")
    clock.advance(60)
    board.report("docker", "Docker still does not answer")
    [docker] = board.snapshot()
    assert (docker.status, docker.since, docker.reason) == ("IMPAIRED", NOON, "Docker still does not answer")


def test_a_cleared_problem_is_ok_since_then():
    clock = FakeClock()
    board = HealthBoard(clock)
    board.report("docker", "Docker does not answer")
    clock.advance(60)
    board.report("docker", None)
    clock.advance(60)
    board.report("docker", None)
    [docker] = board.snapshot()
    assert (docker.status, docker.since, docker.reason) == ("OK", NOON + timedelta(seconds=60), "")
    assert not board.is_impaired


def test_one_problem_impairs_the_whole():
    board = HealthBoard(FakeClock())
    board.clear("firewall")
    board.set("docker", "gone")
    assert board.is_impaired
    assert [component.component for component in board.snapshot()] == ["docker", "firewall"]


def test_an_empty_problem_is_a_mistake():
    with pytest.raises(ValueError, match="docker"):
        HealthBoard(FakeClock()).set("docker", "")
