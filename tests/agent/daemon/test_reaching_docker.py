"""What a life does while Docker cannot be used yet, and when it never will be."""

from types import SimpleNamespace
from typing import cast

import pytest

from agent.daemon import life
from agent.daemon.parts import Parts
from agent.model.errors import CannotCreateContainer, CannotStart, RuntimeUnavailable, StepTimedOut
from tests.scenarios.machine import Complaints


class Starting:
    """A runtime whose ``start`` raises these errors, one at each call, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def start(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


def parts_with(runtime: Starting) -> Parts:
    return cast("Parts", SimpleNamespace(runtime=runtime, health=Complaints()))


async def test_docker_that_is_away_or_slow_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "FIRST_RETRY", 0.001)
    slow = StepTimedOut("Could not transition to loading image; timed out after waiting 2m0s")
    parts = parts_with(Starting(RuntimeUnavailable("Connection refused"), slow))
    await life._reach_runtime(parts)
    complaints = cast("Complaints", parts.health)
    assert len(complaints.ever) == 2
    assert complaints.now == {}


async def test_a_pause_image_that_cannot_be_had_is_final() -> None:
    with pytest.raises(CannotStart, match="the pause image cannot be had: no such archive") as caught:
        await life._reach_runtime(parts_with(Starting(CannotCreateContainer("no such archive"))))
    assert caught.value.is_final
