"""Logins against moto's STS, ECR and Secrets Manager, served on loopback."""

import asyncio
import contextlib
import json
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from agent.adapters.aws.logins import Logins
from agent.adapters.aws.roles import StsRoles
from agent.adapters.aws.static_logins import static_logins
from agent.adapters.aws.tokens import HeldTokens
from agent.model.credentials import RegistryLogin
from agent.model.errors import CannotPullEcrImage, CannotPullPrivateImage
from agent.model.spec import ContainerSpec, LoginSource, RegistryAuthentication
from tests.builders import a_container, a_spec
from tests.contracts.credentials import LoginsContract, a_container_of, a_role
from tests.fakes.clock import FakeClock

ACCOUNT = "123456789012"
ECR_IMAGE = f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/web:1"
LOGIN = RegistryLogin("tester", "fake-secret-of-the-registry")


@pytest.fixture
def clock():
    return FakeClock(datetime(2014, 12, 31, tzinfo=UTC))  # moto's ECR logins expire on the day after


class Roles:
    """``StsRoles.for_role``, counted. moto does not know the test's clock, but each test lasts seconds."""

    def __init__(self, sts):
        self._sts = sts
        self.asked = []

    async def __call__(self, role, task):
        self.asked.append((role.arn, task))
        return await self._sts.for_role(role, task)


@pytest.fixture
def roles(server):
    with contextlib.closing(
        StsRoles(FakeClock(datetime.now(UTC)), region="us-west-2", endpoint=server)
    ) as sts:
        yield Roles(sts)


@pytest.fixture
def logins(server, clock, roles):
    static = static_logins(
        "docker", json.dumps({"registry.example": {"username": "u", "password": "fake-p"}})
    )
    with contextlib.closing(
        Logins(clock, region="us-west-2", role_credentials=roles, static=static, endpoint=server)
    ) as made:
        yield made


@pytest.fixture
def secret(server):
    """Makes a secret in a region; returns its name and ARN."""

    def make(text, region="us-west-2"):
        client = boto3.client("secretsmanager", region_name=region, endpoint_url=server)
        name = f"registry/{uuid.uuid4().hex}"
        content = {"SecretBinary": text} if isinstance(text, bytes) else {"SecretString": text}
        arn = client.create_secret(Name=name, **content)["ARN"]
        client.close()
        return name, arn

    return make


@pytest.fixture
def login_secret(secret):
    return secret(json.dumps({"username": LOGIN.username, "password": LOGIN.password}))


def by_secret(identifier, region=""):
    return replace(
        a_container(),
        registry=RegistryAuthentication(LoginSource.SECRETS_MANAGER, secret=identifier, region=region),
    )


def by_ecr(**how):
    return replace(a_container(), registry=RegistryAuthentication(LoginSource.ECR, **how))


def with_role(container, number=1):
    return replace(a_spec(container), execution_role=a_role(number))


@dataclass
class StaticStage:
    logins: Logins
    known: tuple[ContainerSpec, RegistryLogin]


class TestStaticLogins(LoginsContract):
    @pytest.fixture
    def stage(self, logins):
        return StaticStage(logins, (a_container_of("registry.example/web"), RegistryLogin("u", "fake-p")))


class TestEcrLogins(LoginsContract):
    @pytest.fixture
    def stage(self, logins):
        login = RegistryLogin("AWS", f"{ACCOUNT}-auth-token")
        return StaticStage(logins, (a_container_of(ECR_IMAGE), login))


# -- Amazon ECR ----------------------------------------------------------------------------------


async def test_an_ecr_image_is_asked_for_with_the_execution_role_or_the_hosts_identity(logins, roles):
    container = a_container_of(ECR_IMAGE)
    by_host = await logins.login(a_spec(container), container)
    assert by_host.username == "AWS"
    assert roles.asked == []
    by_role = await logins.login(with_role(container), container)
    assert by_role is not by_host
    assert [arn for arn, _ in roles.asked] == [a_role().arn]


async def test_a_login_is_kept_per_registry_and_role_until_shortly_before_its_end(server, clock, roles):
    tokens = HeldTokens(clock, jitter=lambda: 0.0)
    with contextlib.closing(
        Logins(clock, region="us-west-2", role_credentials=roles, endpoint=server, tokens=tokens)
    ) as logins:
        container = a_container_of(ECR_IMAGE)
        first = await logins.login(with_role(container), container)
        for _ in range(3):
            clock.advance(60)
            assert await logins.login(with_role(container), container) is first
        assert len(roles.asked) == 1  # nobody is asked, not even for the role
        assert await logins.login(with_role(container, 2), container) is not first
        other = a_container_of(ECR_IMAGE.replace("eu-west-1", "eu-west-2"))
        assert await logins.login(with_role(other), other) is not first
        clock.advance(timedelta(hours=23, minutes=27))
        assert await logins.login(with_role(container), container) is not first


async def test_many_containers_of_one_registry_cause_one_question(logins, monkeypatch):
    container = a_container_of(ECR_IMAGE)
    made = []
    make = logins._sdk.client_with
    monkeypatch.setattr(logins._sdk, "client_with", lambda *how: made.append(how) or make(*how))
    answers = await asyncio.gather(*(logins.login(with_role(container), container) for _ in range(50)))
    assert len({id(each) for each in answers}) == 1
    assert len(made) == 1


async def test_what_the_container_says_goes_before_its_images_name(logins, roles):
    container = replace(by_ecr(account="210987654321", region="us-east-1"), image=ECR_IMAGE)
    login = await logins.login(with_role(container), container)
    assert login.password == "210987654321-auth-token"
    assert roles.asked == []  # it does not say that the role asks
    container = by_ecr(account="210987654321", uses_execution_role=True)
    assert (await logins.login(with_role(container), container)).password == "210987654321-auth-token"
    assert len(roles.asked) == 1


async def test_without_an_account_the_identitys_own_registry_is_meant(logins):
    login = await logins.login(a_spec(), by_ecr(region="us-east-1"))
    assert login.username == "AWS"


@pytest.mark.parametrize("has_scheme", [True, False])
async def test_an_endpoint_of_the_containers_own_is_asked(server, clock, has_scheme):
    with contextlib.closing(
        Logins(clock, region="us-west-2", role_credentials=None, endpoint="http://127.0.0.1:9")
    ) as logins:
        container = by_ecr(account=ACCOUNT, endpoint=server if has_scheme else server.removeprefix("http://"))
        if has_scheme:
            assert (await logins.login(a_spec(container), container)).username == "AWS"
            return
        # without a scheme it is HTTPS, as the SDKs of AWS have it; moto speaks HTTP only
        with pytest.raises(Exception, match=f"at https://{server.removeprefix('http://')}"):
            await logins.login(a_spec(container), container)


async def test_the_sdks_own_variables_name_endpoints(server, clock, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECR", server)
    with contextlib.closing(Logins(clock, region="us-west-2", role_credentials=None)) as logins:
        container = a_container_of(ECR_IMAGE)
        assert (await logins.login(a_spec(container), container)).username == "AWS"


async def test_ecr_by_execution_role_needs_one(logins):
    container = by_ecr(account=ACCOUNT, uses_execution_role=True)
    with pytest.raises(
        CannotPullEcrImage, match="engine ecr credentials: not found: the task has no execution"
    ):
        await logins.login(a_spec(container), container)


# -- Secrets Manager ----------------------------------------------------------------------------------


async def test_a_secret_is_read_by_name_or_arn(logins, login_secret, roles):
    for identifier in login_secret:
        container = by_secret(identifier)
        assert await logins.login(with_role(container), container) == LOGIN
    assert {arn for arn, _ in roles.asked} == {a_role().arn}


async def test_the_region_is_said_or_in_the_arn_or_ours(logins, secret):
    text = json.dumps({"username": LOGIN.username, "password": LOGIN.password})
    name, arn = secret(text, region="eu-west-3")
    for container in (by_secret(arn), by_secret(name, "eu-west-3"), by_secret(arn, "eu-west-3")):
        assert await logins.login(with_role(container), container) == LOGIN
    with pytest.raises(CannotPullPrivateImage):
        await logins.login(with_role(by_secret(name)), by_secret(name))


async def test_a_secret_that_was_changed_is_read_anew(logins, login_secret, server):
    name, _ = login_secret
    container = by_secret(name)
    assert await logins.login(with_role(container), container) == LOGIN
    client = boto3.client("secretsmanager", region_name="us-west-2", endpoint_url=server)
    client.put_secret_value(SecretId=name, SecretString='{"username": "tester", "password": "fake-new"}')
    client.close()
    assert (await logins.login(with_role(container), container)).password == "fake-new"


async def test_a_secret_that_does_not_exist_is_told_in_the_words_of_ecs(logins):
    container = by_secret("registry/missing")
    with pytest.raises(CannotPullPrivateImage) as caught:
        await logins.login(with_role(container), container)
    assert str(caught.value) == (
        "ResourceNotFoundException: The task can't retrieve the secret with ARN 'registry/missing' from AWS "
        "Secrets Manager. Check whether the secret exists in the specified Region"
    )
    assert caught.value.name == "CannotPullContainerAuthError"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("fake-secret-as-it-is", "it is not JSON"),
        ('["fake-secret-in-a-list"]', "another kind of JSON"),
        ('{"password": "fake-secret-alone"}', "username is missing"),
        ('{"username": "fake-secret-name", "password": ""}', "password is missing"),
        ('{"username": "t", "password": {"is": "fake-secret-deep"}}', "password is missing"),
        (b"fake-secret-bytes", "it has no text"),
    ],
)
async def test_a_secret_of_another_shape_is_told_and_not_shown(logins, secret, content, problem):
    import traceback

    name, _ = secret(content)
    container = by_secret(name)
    with pytest.raises(CannotPullPrivateImage, match=problem) as caught:
        await logins.login(with_role(container), container)
    assert name in str(caught.value)
    assert "fake-secret" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


async def test_a_secret_needs_an_execution_role(logins, login_secret):
    container = by_secret(login_secret[0])
    with pytest.raises(
        CannotPullPrivateImage, match="registry credentials: not found: the task has no execution"
    ):
        await logins.login(a_spec(container), container)


# -- without roles ----------------------------------------------------------------------------------


@pytest.fixture
def development(server, clock):
    static = static_logins(
        "docker", json.dumps({"registry.example": {"username": "u", "password": "fake-p"}})
    )
    with contextlib.closing(
        Logins(clock, region="us-west-2", role_credentials=None, static=static, endpoint=server)
    ) as made:
        yield made


async def test_without_roles_ecr_is_asked_with_the_hosts_identity(development):
    container = a_container_of(ECR_IMAGE)
    assert (await development.login(with_role(container), container)).username == "AWS"
    container = by_ecr(account=ACCOUNT, uses_execution_role=True)
    assert (await development.login(with_role(container), container)).username == "AWS"


async def test_without_any_identity_it_says_so_at_once_and_static_logins_work(development, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    container = a_container_of(ECR_IMAGE)
    with pytest.raises(CannotPullEcrImage, match="this host has no AWS identity of its own"):
        await development.login(a_spec(container), container)
    container = a_container_of("registry.example/web")
    assert await development.login(a_spec(container), container) == RegistryLogin("u", "fake-p")
    # once there is one, it is found
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FAKE-HOST-KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "fake-host-secret")
    container = a_container_of(ECR_IMAGE)
    assert (await development.login(a_spec(container), container)).username == "AWS"


async def test_without_roles_an_ecr_login_that_was_written_down_is_used(server, clock):
    host = ECR_IMAGE.partition("/")[0]
    static = static_logins("docker", json.dumps({host: {"username": "AWS", "password": "fake-written"}}))
    container = a_container_of(ECR_IMAGE)
    for role_credentials, expected in ((None, "fake-written"), (never, f"{ACCOUNT}-auth-token")):
        with contextlib.closing(
            Logins(
                clock, region="us-west-2", role_credentials=role_credentials, static=static, endpoint=server
            )
        ) as logins:
            assert (await logins.login(a_spec(container), container)).password == expected


async def never(role, task):
    raise AssertionError(f"nobody may ask for {role} of {task}")


async def test_without_roles_no_secret_can_be_read(development, login_secret):
    container = by_secret(login_secret[0])
    with pytest.raises(CannotPullPrivateImage, match="BERTH_CREDENTIALS_SOURCE=development"):
        await development.login(with_role(container), container)
