import pytest

from tests.agent.endpoints.asking import a_task
from tests.fakes.clock import FakeClock
from tests.fakes.credentials import FakeCredentials
from tests.fakes.directory import FakeDirectory


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def directory():
    return FakeDirectory(a_task(1, "127.0.0.11"), a_task(2, "127.0.0.12"))


@pytest.fixture
def provider(clock):
    return FakeCredentials(clock)
