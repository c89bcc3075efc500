"""Random stories with failures and crashes (design 4); the invariants stand in ``tests/stories.py``."""

import pytest

from tests.stories import Story


@pytest.mark.parametrize("failing", [0.0, 0.05, 0.25])
@pytest.mark.parametrize("block", range(4))
def test_every_story_ends_with_nothing_left_and_never_lies(failing: float, block: int) -> None:
    for seed in range(block * 60, block * 60 + 60):
        Story(seed, failing=failing).run()


def test_a_world_of_crashes_converges() -> None:
    for seed in range(60):
        Story(1000 + seed, failing=0.1, crashing=0.25).run()


def test_containers_that_exit_all_the_time_converge() -> None:
    for seed in range(60):
        Story(2000 + seed, failing=0.05, exits=0.4).run()
