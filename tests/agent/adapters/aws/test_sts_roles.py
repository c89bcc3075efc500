"""The provider against moto's STS and ECR, served on loopback."""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from moto.server import ThreadedMotoServer

from agent.adapters.aws.registries import EcrRegistry, ecr_registry
from agent.adapters.aws.roles import StsRoles
from tests.contracts.credentials import CredentialsContract, a_role, an_arn
from tests.fakes.clock import FakeClock


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


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


async def test_an_ecr_image_gets_a_login_with_the_role_or_without(server):
    clock = FakeClock(datetime(2014, 12, 31, tzinfo=UTC))  # moto's logins expire on the day after
    with contextlib.closing(StsRoles(clock, region="us-west-2", endpoint=server)) as provider:
        await _ask_for_logins(provider, clock)


async def _ask_for_logins(provider, clock):
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/web:1"
    for role in (None, a_role()):
        login = await provider.for_registry(image, role)
        assert login is not None
        assert login.username == "AWS"
        assert login.password
        assert login.password not in repr(login)
        assert await provider.for_registry(image, role) is login
        clock.advance(1)
    clock.advance(timedelta(hours=23, minutes=45))
    assert await provider.for_registry(image, None) is not login


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com/web:1", EcrRegistry("123456789012", "eu-west-1")),
        (
            "123456789012.dkr.ecr-fips.us-east-1.amazonaws.com/a/b@sha256:00",
            EcrRegistry("123456789012", "us-east-1"),
        ),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/web", EcrRegistry("123456789012", "cn-north-1")),
        ("123456789012.dkr-ecr.eu-west-1.on.aws/web", EcrRegistry("123456789012", "eu-west-1")),
        ("busybox", None),
        ("example.com/123456789012.dkr.ecr.eu-west-1.amazonaws.com/web", None),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example/web", None),
        ("public.ecr.aws/docker/library/busybox", None),
    ],
)
def test_ecr_images_are_told_from_others(image, registry):
    assert ecr_registry(image) == registry
