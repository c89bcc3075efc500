"""Images that only a login opens: the real Docker, a real registry, and moto for who knows the login."""

import base64
import json
import traceback
from contextlib import closing
from dataclasses import replace

import boto3
import pytest
from moto.server import ThreadedMotoServer

from agent.adapters.aws.logins import Logins
from agent.adapters.aws.roles import StsRoles
from agent.adapters.aws.static_logins import static_logins
from agent.lifecycle.derive import begin
from agent.model.credentials import RegistryLogin
from agent.model.errors import CannotPullImage, CannotPullPrivateImage
from agent.model.spec import LoginSource, PullBehavior, RegistryAuthentication
from agent.model.state import Policy
from agent.model.steps import Step, StepName
from agent.supervisor.perform import Performer
from tests.agent.adapters.docker.conftest import RealClock, an_image
from tests.agent.adapters.docker.private_registry import ECR_ACCOUNT, LOGIN, PrivateRegistry, find_program
from tests.builders import NOON, a_container, a_spec
from tests.contracts.credentials import a_role
from tests.fakes.clock import FakeClock
from tests.fakes.credentials import FakeCredentials
from tests.fakes.network import FakeNetwork
from tests.fakes.pulls import MemoryPulls

REGION = "us-west-2"
WRONG = RegistryLogin("tester", "fake-secret-of-somebody-else")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        find_program() is None, reason="docker-registry is not here; deploy/registry.sh brings it"
    ),
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    with closing(
        PrivateRegistry(find_program(), folder, an_image("private", folder.name, "echo hello"))
    ) as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_is_cached(registry):
    yield
    registry.forget()


@pytest.fixture(scope="module")
def aws():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def host_identity(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FAKE-HOST-KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "fake-host-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))


@pytest.fixture
def secret(aws, host_identity):
    """Keeps a login in Secrets Manager; returns the secret's ARN."""
    client = boto3.client("secretsmanager", region_name=REGION, endpoint_url=aws)
    made = []

    def keep(login):
        text = json.dumps({"username": login.username, "password": login.password})
        made.append(client.create_secret(Name=f"berth-test/{len(made)}", SecretString=text)["ARN"])
        return made[-1]

    yield keep
    for arn in made:
        client.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    client.close()


@pytest.fixture
def by_aws(aws, host_identity):
    """Logins for roles that STS knows."""
    with (
        closing(StsRoles(RealClock(), region=REGION, endpoint=aws)) as roles,
        closing(Logins(RealClock(), region=REGION, role_credentials=roles.for_role, endpoint=aws)) as logins,
    ):
        yield logins


def written_down(registry, login, kind="docker"):
    auth = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    entry = (
        {"auth": auth} if kind == "dockercfg" else {"username": login.username, "password": login.password}
    )
    static = static_logins(kind, json.dumps({f"http://{registry.address}": entry}))
    return Logins(RealClock(), region=REGION, role_credentials=None, static=static)


async def pulled(docker_stage, registry, logins, authentication=None, behavior=PullBehavior.ALWAYS):
    """One pull step of a task, performed as the supervisor does it."""
    container = replace(a_container(), image=registry.image, registry=authentication)
    spec = replace(a_spec(container, pull_behavior=behavior), execution_role=a_role())
    pulls = MemoryPulls()
    performer = Performer(docker_stage.runtime, FakeNetwork(), FakeCredentials(FakeClock()), logins, pulls)
    step = Step(StepName.PULL_IMAGE, container.name, 1)
    learned = await performer.perform(begin(spec, NOON, Policy()), step)
    assert await pulls.contains(registry.image)
    return learned


def told(caught):
    return "".join(traceback.format_exception(caught.value))


# -- Docker and the registry ----------------------------------------------------------------------------


async def test_the_right_login_opens(docker_stage, registry):
    assert await docker_stage.runtime.find_image(registry.image) is None
    image = await docker_stage.runtime.pull_image(registry.image, LOGIN)
    assert image.digest == registry.digest
    assert await docker_stage.runtime.find_image(registry.image) == image


@pytest.mark.parametrize("login", [None, WRONG])
async def test_no_login_or_a_wrong_one_is_told_by_name_and_not_shown(docker_stage, registry, login):
    with pytest.raises(CannotPullImage) as caught:
        await docker_stage.runtime.pull_image(registry.image, login)
    assert caught.value.name == "CannotPullContainerError"
    assert registry.image in caught.value.detail
    for password in (WRONG.password, LOGIN.password):
        assert password not in told(caught)
    assert await docker_stage.runtime.find_image(registry.image) is None


async def test_two_pulls_at_once_with_different_passwords_do_not_share(docker_stage, registry):
    import asyncio

    outcomes = await asyncio.gather(
        *(docker_stage.runtime.pull_image(registry.image, login) for login in (WRONG, LOGIN, WRONG, LOGIN)),
        return_exceptions=True,
    )
    assert [isinstance(each, CannotPullImage) for each in outcomes] == [True, False, True, False]


# -- through the performer, with logins ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["docker", "dockercfg"])
async def test_a_login_that_was_written_down_opens(docker_stage, registry, kind):
    with closing(written_down(registry, LOGIN, kind)) as logins:
        assert (await pulled(docker_stage, registry, logins)).digest == registry.digest


async def test_a_wrong_login_that_was_written_down_does_not(docker_stage, registry):
    with closing(written_down(registry, WRONG)) as logins, pytest.raises(CannotPullImage) as caught:
        await pulled(docker_stage, registry, logins)
    assert caught.value.name == "CannotPullContainerError"
    assert WRONG.password not in told(caught)


async def test_a_login_in_secrets_manager_opens(docker_stage, registry, by_aws, secret):
    authentication = RegistryAuthentication(LoginSource.SECRETS_MANAGER, secret=secret(LOGIN))
    image = await pulled(docker_stage, registry, by_aws, authentication)
    assert image.digest == registry.digest
    assert await docker_stage.runtime.find_image(registry.image) == image


async def test_a_wrong_login_in_secrets_manager_does_not(docker_stage, registry, by_aws, secret):
    authentication = RegistryAuthentication(LoginSource.SECRETS_MANAGER, secret=secret(WRONG))
    with pytest.raises(CannotPullImage) as caught:
        await pulled(docker_stage, registry, by_aws, authentication)
    assert caught.value.name == "CannotPullContainerError"
    assert WRONG.password not in told(caught)


async def test_a_secret_that_is_missing_is_the_reason_and_the_registry_is_not_asked(
    docker_stage, registry, by_aws
):
    authentication = RegistryAuthentication(LoginSource.SECRETS_MANAGER, secret="berth-test/missing")
    with pytest.raises(
        CannotPullPrivateImage, match="can't retrieve the secret with ARN 'berth-test/missing'"
    ):
        await pulled(docker_stage, registry, by_aws, authentication)


async def test_a_missing_secret_is_forgiven_when_the_image_is_here(docker_stage, registry, by_aws):
    image = await docker_stage.runtime.pull_image(registry.image, LOGIN)
    authentication = RegistryAuthentication(LoginSource.SECRETS_MANAGER, secret="berth-test/missing")
    container = replace(a_container(), image=registry.image, registry=authentication)
    spec = replace(a_spec(container, pull_behavior=PullBehavior.DEFAULT), execution_role=a_role())
    performer = Performer(
        docker_stage.runtime, FakeNetwork(), FakeCredentials(FakeClock()), by_aws, MemoryPulls()
    )
    step = Step(StepName.PULL_IMAGE, container.name, 1)
    assert await performer.perform(begin(spec, NOON, Policy()), step) == image


@pytest.mark.parametrize("uses_role", [True, False])
async def test_a_login_of_ecr_opens(docker_stage, registry, by_aws, uses_role):
    authentication = RegistryAuthentication(
        LoginSource.ECR, account=ECR_ACCOUNT, region="eu-west-1", uses_execution_role=uses_role
    )
    assert (await pulled(docker_stage, registry, by_aws, authentication)).digest == registry.digest


async def test_a_login_of_another_account_does_not(docker_stage, registry, by_aws):
    authentication = RegistryAuthentication(LoginSource.ECR, account="210987654321", region="eu-west-1")
    with pytest.raises(CannotPullImage) as caught:
        await pulled(docker_stage, registry, by_aws, authentication)
    assert "210987654321-auth-token" not in told(caught)
