"""Blocking calls are carried by bounded pools, with limits, in turn."""

import asyncio
import threading
import time

import pytest

from agent.adapters.docker import threads
from agent.adapters.docker.threads import DeadlinePassed, QueueFull, ThreadPool, Turns


@pytest.fixture
def pool():
    pool = ThreadPool("test", 2)
    yield pool
    pool.close()


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


async def test_a_call_returns_its_result_or_raises_its_error(pool):
    assert await pool.submit(lambda: 7).wait(5) == 7
    with pytest.raises(ZeroDivisionError):
        await pool.submit(lambda: 1 // 0).wait(5)


async def test_no_more_calls_run_at_once_than_there_are_threads(pool, gate):
    running, most = 0, 0
    lock = threading.Lock()

    def work():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(5)
        with lock:
            running -= 1

    jobs = [pool.submit(work) for _ in range(6)]
    async with asyncio.timeout(5):
        while most < 2:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert most == 2
    gate.set()
    for job in jobs:
        await job.wait(5)
    assert most == 2


async def test_calls_begin_in_the_order_in_which_they_came(gate):
    single = ThreadPool("single", 1)
    order: list[int] = []
    first = single.submit(lambda: gate.wait(5))
    jobs = [single.submit(lambda number=number: order.append(number)) for number in range(5)]
    gate.set()
    for job in [first, *jobs]:
        await job.wait(5)
    assert order == [0, 1, 2, 3, 4]
    single.close()


async def test_a_call_that_lasts_too_long_is_given_up_and_goes_on(pool, gate):
    done = threading.Event()
    job = pool.submit(lambda: (gate.wait(5), done.set()))
    began = time.monotonic()
    with pytest.raises(DeadlinePassed):
        await job.wait(0.05)
    assert time.monotonic() - began < 1
    assert not job.ended.done()
    gate.set()
    assert await asyncio.to_thread(done.wait, 5)


async def test_a_call_that_never_had_a_thread_is_not_made_later(gate):
    single = ThreadPool("single", 1)
    blocking = single.submit(lambda: gate.wait(5))
    ran: list[int] = []
    with pytest.raises(QueueFull):
        await single.submit(lambda: ran.append(1)).wait(0.05)
    gate.set()
    await blocking.wait(5)
    await single.submit(lambda: None).wait(5)
    assert ran == []
    single.close()


async def test_the_limit_counts_from_the_beginning_of_the_call(gate):
    single = ThreadPool("single", 1)
    waiting = single.submit(lambda: time.sleep(0.6))
    # It waits 0.6 s for the thread and runs 0.6 s: each is within 1.1 s, the sum is not.
    assert await single.submit(lambda: time.sleep(0.6) or "done").wait(1.1) == "done"
    await waiting.wait(5)
    single.close()


async def test_a_cancelled_wait_drops_a_call_that_has_not_begun(gate):
    single = ThreadPool("single", 1)
    blocking = single.submit(lambda: gate.wait(5))
    ran: list[int] = []
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(single.submit(lambda: ran.append(1)).wait(5))
        await asyncio.sleep(0.01)
        waiter.cancel()
    gate.set()
    await blocking.wait(5)
    await single.submit(lambda: None).wait(5)
    assert ran == []
    single.close()


async def test_threads_that_have_nothing_to_do_end(monkeypatch):
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.05)
    pool = ThreadPool("idle", 3)
    await asyncio.gather(*(pool.submit(lambda: time.sleep(0.02)).wait(5) for _ in range(3)))
    async with asyncio.timeout(5):
        while pool._threads:
            await asyncio.sleep(0.01)
    assert await pool.submit(lambda: "again").wait(5) == "again"
    pool.close()


async def test_a_closed_pool_takes_no_calls():
    pool = ThreadPool("closed", 1)
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(lambda: None)


def test_a_pool_without_threads_is_refused():
    with pytest.raises(ValueError, match="expected at least 1"):
        ThreadPool("none", 0)


async def test_turns_of_one_name_follow_each_other_and_of_two_names_do_not(pool, gate):
    turns = Turns()
    order: list[str] = []

    async def take(name: str, mark: str, wait: bool) -> None:
        async with turns.take(name, 5) as turn:
            job = pool.submit(lambda: gate.wait(5) if wait else None)
            turn.note(job)
            await job.wait(5)
            order.append(mark)

    async with asyncio.TaskGroup() as group:
        group.create_task(take("a", "first", wait=True))
        await asyncio.sleep(0.01)
        group.create_task(take("a", "second", wait=False))
        group.create_task(take("b", "other", wait=False))
        while not order:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert order == ["other"]
        assert turns.is_busy("a")
        gate.set()
    assert order == ["other", "first", "second"]
    assert not turns.is_busy("a")


async def test_a_turn_that_was_cancelled_lasts_until_its_call_has_ended(pool, gate):
    turns = Turns()

    async def call() -> None:
        async with turns.take("a", 5) as turn:
            job = pool.submit(lambda: gate.wait(5))
            turn.note(job)
            await job.wait(5)

    async with asyncio.TaskGroup() as group:
        cancelled = group.create_task(call())
        await asyncio.sleep(0.02)
        cancelled.cancel()
    assert turns.is_busy("a")
    with pytest.raises(QueueFull):
        async with turns.take("a", 0.05):
            raise AssertionError("the turn came too early")
    assert turns.is_busy("a")
    gate.set()
    async with asyncio.timeout(5):
        async with turns.take("a", 5):
            assert turns.is_busy("a")
    await asyncio.sleep(0)
    assert not turns.is_busy("a")
