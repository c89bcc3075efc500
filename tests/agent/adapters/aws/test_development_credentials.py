from dataclasses import dataclass
from datetime import timedelta

import pytest

from agent.adapters.aws.development import DevelopmentCredentials
from tests.contracts.credentials import CredentialsContract, a_role, an_arn
from tests.fakes.clock import FakeClock


@dataclass
class Stage:
    provider: DevelopmentCredentials
    clock: FakeClock


@pytest.fixture
def stage() -> Stage:
    clock = FakeClock()
    return Stage(DevelopmentCredentials(clock), clock)


class TestDevelopmentCredentials(CredentialsContract):
    pass


async def test_they_look_like_nothing_but_development(stage):
    credentials = await stage.provider.for_role(a_role(), an_arn())
    assert credentials.access_key_id.startswith("BERTHDEV")
    assert credentials.secret_access_key.startswith("development-only-not-a-secret-")
    assert credentials.token.startswith("development")
    assert credentials.expires_at == stage.clock.now() + timedelta(hours=1)


async def test_they_are_rolled_before_they_expire(stage):
    old = await stage.provider.for_role(a_role(), an_arn())
    for _ in range(6 * 24):
        stage.clock.advance(timedelta(minutes=10))
        now = await stage.provider.for_role(a_role(), an_arn())
        assert now.expires_at - stage.clock.now() >= timedelta(minutes=5)
    assert now.token != old.token


async def test_a_thousand_fetches_never_mix_up_roles(stage):
    for round_number in range(50):
        for number in range(20):
            credentials = await stage.provider.for_role(a_role(number), an_arn(number))
            assert credentials.role_arn == a_role(number).arn
            assert an_arn(number)[-32:] in credentials.token
        stage.clock.advance(timedelta(minutes=5))
        await stage.provider.forget(an_arn(round_number % 20))
