"""The scripted credentials keep the contract, and fail as they are told."""

from dataclasses import dataclass

import pytest

from agent.model.credentials import RegistryLogin
from agent.model.errors import CannotPullEcrImage, CredentialsUnavailable
from agent.model.spec import ContainerSpec
from tests.builders import a_spec
from tests.contracts.credentials import (
    CredentialsContract,
    LoginsContract,
    a_container_of,
    a_role,
    an_arn,
)
from tests.fakes.clock import FakeClock
from tests.fakes.credentials import FakeCredentials, FakeLogins


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


@dataclass
class LoginStage:
    logins: FakeLogins
    known: tuple[ContainerSpec, RegistryLogin]


class TestFakeLogins(LoginsContract):
    @pytest.fixture
    def stage(self) -> LoginStage:
        container, login = a_container_of("registry.example/web:1"), RegistryLogin("tester", "fake-secret")
        logins = FakeLogins()
        logins.known[container.image] = login
        return LoginStage(logins, (container, login))


async def test_logins_fail_until_they_are_healed():
    logins, container = FakeLogins(), a_container_of("web")
    logins.fail(CannotPullEcrImage("no"))
    with pytest.raises(CannotPullEcrImage, match="no"):
        await logins.login(a_spec(container), container)
    logins.heal()
    assert await logins.login(a_spec(container), container) is None
    assert logins.asked == ["web", "web"]
