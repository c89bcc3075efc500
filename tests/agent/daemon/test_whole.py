"""Work that blocks is done to its end, whoever is cancelled, and the event loop gets on."""

import asyncio
import threading

import pytest

from agent.daemon.whole import to_its_end


async def test_the_event_loop_gets_on_while_it_lasts() -> None:
    may_end = threading.Event()
    working = asyncio.create_task(to_its_end(lambda: None if may_end.wait(10) else pytest.fail("too late")))
    for _ in range(5):
        await asyncio.sleep(0.01)
    assert not working.done()
    may_end.set()
    await working


async def test_whoever_is_cancelled_goes_on_when_it_has_ended() -> None:
    has_begun, may_end, done = threading.Event(), threading.Event(), []

    def work() -> None:
        has_begun.set()
        may_end.wait(10)
        done.append("all of it")

    working = asyncio.create_task(to_its_end(work))
    await asyncio.to_thread(has_begun.wait, 10)
    working.cancel()
    await asyncio.sleep(0.05)
    assert not working.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert done == ["all of it"]


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_what_it_raises_is_raised(is_cancelled: bool) -> None:
    may_end = threading.Event()

    def fail() -> None:
        may_end.wait(10)
        raise ZeroDivisionError

    working = asyncio.create_task(to_its_end(fail))
    await asyncio.sleep(0.05)
    if is_cancelled:
        working.cancel()
        await asyncio.sleep(0.05)
    may_end.set()
    with pytest.raises(ZeroDivisionError):
        await working
