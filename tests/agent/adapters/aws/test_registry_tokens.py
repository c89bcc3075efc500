import asyncio
from datetime import timedelta

import pytest

from agent.adapters.aws.tokens import HeldTokens, Token
from agent.model.credentials import RegistryLogin
from agent.model.errors import CannotPullEcrImage, EcrLoginUnavailable
from tests.fakes.clock import FakeClock

HALF_A_DAY = timedelta(hours=12)


class Source:
    """Numbered tokens, or an error; ``gate`` cleared holds everybody."""

    def __init__(self, clock, validity=HALF_A_DAY):
        self.clock = clock
        self.validity = validity
        self.fetches = 0
        self.error = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self):
        self.fetches += 1
        number = self.fetches
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        expires_at = None if self.validity is None else self.clock.now() + self.validity
        return Token(RegistryLogin("AWS", f"fake-token-{number}"), expires_at)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def source(clock):
    return Source(clock)


@pytest.mark.parametrize(("jitter", "minutes"), [(0.0, 30), (0.5, 45), (1.0, 60)])
async def test_a_token_is_fresh_until_30_to_60_minutes_before_its_end(clock, source, jitter, minutes):
    tokens = HeldTokens(clock, jitter=lambda: jitter)
    login = await tokens.fetched("a", source)
    clock.advance(HALF_A_DAY - timedelta(minutes=minutes, seconds=1))
    assert tokens.fresh("a") is login
    clock.advance(1)
    assert tokens.fresh("a") is None
    assert tokens.fresh("b") is None


async def test_an_old_token_is_the_last_resort_until_it_ends_and_leaves_the_source_alone(clock, source):
    tokens = HeldTokens(clock, jitter=lambda: 0.0)
    assert tokens.last_resort("a") is None
    login = await tokens.fetched("a", source)
    clock.advance(HALF_A_DAY - timedelta(minutes=10))
    assert tokens.fresh("a") is None
    assert tokens.last_resort("a") is login
    assert tokens.fresh("a") is login
    clock.advance(60)
    assert tokens.fresh("a") is None
    clock.advance(timedelta(minutes=9))
    assert tokens.last_resort("a") is None


async def test_a_hundred_callers_cause_one_fetch(clock, source):
    tokens = HeldTokens(clock)
    source.gate.clear()
    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(tokens.fetched("a", source)) for _ in range(100)]
        await asyncio.sleep(0.01)
        source.gate.set()
    assert {caller.result().password for caller in callers} == {"fake-token-1"}
    assert source.fetches == 1


async def test_a_failure_is_shared_by_who_waited_and_by_nobody_later(clock, source):
    tokens = HeldTokens(clock)
    source.gate.clear()
    source.error = CannotPullEcrImage("no permission")
    callers = [asyncio.gather(tokens.fetched("a", source), return_exceptions=True) for _ in range(5)]
    await asyncio.sleep(0.01)
    source.gate.set()
    failures = [outcome for caller in callers for outcome in await caller]
    assert {(type(each), str(each)) for each in failures} == {(CannotPullEcrImage, "no permission")}
    assert len({id(each) for each in failures}) == 5
    assert source.fetches == 1
    source.error = None
    assert (await tokens.fetched("a", source)).password == "fake-token-2"


async def test_when_the_first_caller_goes_away_the_next_takes_over(clock, source):
    tokens = HeldTokens(clock)
    source.gate.clear()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(tokens.fetched("a", source))
        second = group.create_task(tokens.fetched("a", source))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.01)
        source.gate.set()
    assert second.result().password == "fake-token-2"
    assert tokens._flights == {}


async def test_different_keys_do_not_wait_for_each_other(clock, source):
    tokens = HeldTokens(clock)
    stuck = Source(clock)
    stuck.gate.clear()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(tokens.fetched("a", stuck))
        await asyncio.sleep(0)
        assert (await tokens.fetched("b", source)).password == "fake-token-1"
        waiting.cancel()


async def test_the_token_that_was_not_used_for_longest_makes_room(clock, source):
    tokens = HeldTokens(clock, most=3)
    for key in "abc":
        await tokens.fetched(key, source)
    tokens.fresh("a")
    await tokens.fetched("d", source)
    assert [key for key in "abcd" if tokens.fresh(key)] == ["a", "c", "d"]


@pytest.mark.parametrize("validity", [None, timedelta(0), timedelta(days=-1)])
async def test_a_token_whose_end_is_unknown_or_past_is_used_and_not_kept(clock, validity):
    tokens = HeldTokens(clock)
    source = Source(clock, validity)
    assert (await tokens.fetched("a", source)).password == "fake-token-1"
    assert tokens.fresh("a") is None
    assert tokens.last_resort("a") is None


async def test_a_failed_renewal_leaves_the_old_token_where_it_is(clock, source):
    tokens = HeldTokens(clock, jitter=lambda: 1.0)
    login = await tokens.fetched("a", source)
    clock.advance(timedelta(hours=11, minutes=30))
    source.error = EcrLoginUnavailable("no network")
    with pytest.raises(EcrLoginUnavailable):
        await tokens.fetched("a", source)
    assert tokens.last_resort("a") is login
