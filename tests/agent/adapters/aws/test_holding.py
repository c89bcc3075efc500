import asyncio
from datetime import timedelta

import pytest

from agent.adapters.aws.holding import HeldCredentials, Patience
from agent.model.credentials import Credentials
from agent.model.errors import CredentialsUnavailable, UnknownRole
from tests.contracts.credentials import a_role, an_arn
from tests.fakes.clock import FakeClock

HOUR = timedelta(hours=1)


class Source:
    """Fetches that a test ends by hand, unless ``is_prompt``."""

    def __init__(self, clock):
        self.clock = clock
        self.flights = []
        self.is_prompt = True
        self.error = None

    def __call__(self, role, task):
        flight = asyncio.get_running_loop().create_future()
        self.flights.append(flight)
        if self.is_prompt:
            self.land(flight)
        return flight

    def land(self, flight):
        if self.error is not None:
            flight.set_exception(self.error)
            return
        number = len(self.flights)
        flight.set_result(
            Credentials(a_role().arn, f"k{number}", f"s{number}", f"t{number}", self.clock.now() + HOUR)
        )


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def source(clock):
    return Source(clock)


@pytest.fixture
def held(source, clock):
    return HeldCredentials(
        source, clock, jitter=lambda: 0.5, patience=Patience(wait_for_newer=timedelta(seconds=0.05))
    )


async def token(held):
    return (await held.get(a_role(), an_arn())).token


async def test_a_hundred_callers_cause_one_fetch(held, source):
    source.is_prompt = False
    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(token(held)) for _ in range(100)]
        await asyncio.sleep(0)
        source.land(source.flights[0])
    assert {caller.result() for caller in callers} == {"t1"}
    assert len(source.flights) == 1


async def test_renewal_is_due_between_half_and_seven_tenths_of_the_lifetime(source, clock):
    for jitter, minutes in ((0.0, 30), (1.0, 42)):
        held = HeldCredentials(source, clock, jitter=lambda value=jitter: value)
        before = await token(held)
        clock.advance(timedelta(minutes=minutes - 1))
        await held.renew_due()
        assert await token(held) == before
        clock.advance(timedelta(minutes=1))
        await held.renew_due()
        assert await token(held) != before


async def test_a_request_for_ageing_credentials_renews_them_without_waiting(held, source, clock):
    await token(held)
    clock.advance(timedelta(minutes=40))
    source.is_prompt = False
    assert await token(held) == "t1"
    assert len(source.flights) == 2
    source.land(source.flights[1])
    await asyncio.sleep(0.01)
    assert await token(held) == "t2"


async def test_with_less_than_five_minutes_left_a_request_waits_for_new_ones(held, source, clock):
    await token(held)
    clock.advance(timedelta(minutes=56))
    assert await token(held) == "t2"


async def test_the_last_minutes_are_used_when_there_is_nothing_newer(held, source, clock):
    await token(held)
    clock.advance(timedelta(minutes=56))
    source.is_prompt = False
    assert await token(held) == "t1"  # the source hangs
    source.is_prompt, source.error = True, CredentialsUnavailable("no network")
    source.land(source.flights[1])
    await asyncio.sleep(0.01)
    assert await token(held) == "t1"  # the source fails


async def test_expired_credentials_are_not_used_whatever_happens(held, source, clock):
    await token(held)
    clock.advance(HOUR)
    source.error = CredentialsUnavailable("no network")
    with pytest.raises(CredentialsUnavailable, match="no network"):
        await token(held)


async def test_after_a_failure_the_source_is_left_alone_for_a_while_each_time_longer(held, source, clock):
    source.error = UnknownRole("no such role")
    pauses = []
    for _ in range(9):
        fetched = len(source.flights)
        with pytest.raises(UnknownRole, match="no such role"):
            await token(held)
        assert len(source.flights) == fetched + 1
        pause = 0
        while len(source.flights) == fetched + 1:
            clock.advance(1)
            pause += 1
            with pytest.raises(UnknownRole):
                await token(held)
        pauses.append(pause)
        clock.advance(600)  # the probe that ended the pause has failed too: let its own pause pass
    assert pauses == sorted(pauses)
    assert pauses[0] <= 2
    assert pauses[-1] == 60
    source.error = None
    assert await token(held)


async def test_a_fetch_that_hangs_is_given_up(source, clock):
    source.is_prompt = False
    held = HeldCredentials(source, clock, patience=Patience(limit=timedelta(seconds=0.05)))
    with pytest.raises(CredentialsUnavailable, match="no answer about"):
        await token(held)
    source.land(source.flights[0])  # late: nobody minds


async def test_an_unexpected_error_is_told_to_the_caller_and_does_not_stick(held, source, clock):
    source.error = RuntimeError("bug")
    with pytest.raises(RuntimeError, match="bug"):
        await token(held)
    source.error = None
    clock.advance(60)
    assert await token(held)


async def test_what_arrives_for_a_forgotten_task_is_dropped(held, source):
    source.is_prompt = False
    async with asyncio.TaskGroup() as group:
        early = group.create_task(token(held))
        await asyncio.sleep(0)
        held.forget(an_arn())
        source.land(source.flights[0])
    assert early.result() == "t1"
    source.is_prompt = True
    assert await token(held) == "t2"


def test_they_are_kept_fresh_without_any_request(jumping):
    source = Source(jumping.clock)
    held = HeldCredentials(source, jumping.clock)

    async def story():
        await token(held)
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(held.keep_renewed())
            for _ in range(24 * 6):
                await asyncio.sleep(600)
                assert held._held[
                    a_role().arn, an_arn()
                ].credentials.expires_at - jumping.clock.now() > timedelta(minutes=15)
            renewing.cancel()

    jumping.run(story())
    assert 24 < len(source.flights) < 60


def test_an_outage_of_a_quarter_of_an_hour_is_not_noticed(jumping):
    source = Source(jumping.clock)
    held = HeldCredentials(source, jumping.clock, jitter=lambda: 1.0)

    async def story():
        await token(held)
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(held.keep_renewed())
            for minute in range(300):
                source.error = CredentialsUnavailable("outage") if 40 < minute < 57 else None
                await asyncio.sleep(60)
                credentials = await held.get(a_role(), an_arn())
                assert credentials.expires_at > jumping.clock.now()
            renewing.cancel()

    jumping.run(story())
