"""The scripted credentials keep the contract, and fail as they are told."""

from dataclasses import dataclass

import pytest

from agent.model.errors import CredentialsUnavailable
from tests.contracts.credentials import CredentialsContract, a_role, an_arn
from tests.fakes.clock import FakeClock
from tests.fakes.credentials import FakeCredentials


@dataclass
class Stage:
    provider: FakeCredentials
    clock: FakeClock


class TestFakeCredentials(CredentialsContract):
    @pytest.fixture
    def stage(self) -> Stage:
        clock = FakeClock()
        return Stage(FakeCredentials(clock), clock)


async def test_a_role_fails_until_it_is_healed():
    provider = FakeCredentials(FakeClock())
    provider.fail(a_role().arn, CredentialsUnavailable("gone"))
    with pytest.raises(CredentialsUnavailable, match="gone"):
        await provider.for_role(a_role(), an_arn())
    provider.heal(a_role().arn)
    assert (await provider.for_role(a_role(), an_arn())).access_key_id == "FAKE-KEY-1"
    assert provider.asked == [(a_role().arn, an_arn())] * 2
