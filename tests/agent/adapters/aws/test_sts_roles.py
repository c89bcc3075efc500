"""The provider against moto's STS, served on loopback."""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from agent.adapters.aws.roles import StsRoles
from tests.contracts.credentials import CredentialsContract, a_role, an_arn
from tests.fakes.clock import FakeClock


@dataclass
class Stage:
    provider: StsRoles
    clock: FakeClock


@pytest.fixture
def stage(server):
    # moto dates credentials by the real clock
    clock = FakeClock(datetime.now(UTC))
    with contextlib.closing(StsRoles(clock, region="us-west-2", endpoint=server)) as provider:
        yield Stage(provider, clock)


class TestStsRoles(CredentialsContract):
    # moto dates credentials by the real clock, which does not go along when the test's clock is moved on
    test_expired_credentials_are_never_given = None


async def test_an_hour_is_asked_for(stage):
    credentials = await stage.provider.for_role(a_role(), an_arn())
    seconds = (credentials.expires_at - stage.clock.now()).total_seconds()
    assert 3590 <= seconds <= 3610
    assert credentials.expires_at.tzinfo is UTC
