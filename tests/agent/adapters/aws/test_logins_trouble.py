"""Logins when roles, ECR or Secrets Manager refuse, hang, answer rubbish or are not there."""

import asyncio
import base64
import contextlib
import json
import threading
import traceback
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from structlog.testing import capture_logs

from agent.adapters.aws import logins as module
from agent.adapters.aws.logins import Logins
from agent.adapters.aws.refusals import PERMISSION_HINT
from agent.adapters.aws.tokens import HeldTokens
from agent.model.credentials import Credentials, RegistryLogin
from agent.model.errors import (
    CannotPullEcrImage,
    CannotPullPrivateImage,
    CredentialsUnavailable,
    EcrLoginUnavailable,
    PrivateLoginUnavailable,
    UnknownRole,
)
from agent.model.spec import LoginSource, RegistryAuthentication
from tests.builders import a_container, a_spec
from tests.contracts.credentials import a_role
from tests.fakes.clock import FakeClock

PASSWORD = "fake-secret-of-the-registry"
ROLE_SECRETS = ("fake-secret-of-the-role", "fake-token-of-the-role")


def ecr_answer(clock, **changed):
    token = base64.b64encode(f"AWS:{PASSWORD}".encode()).decode()
    expires_at = (clock.now() + timedelta(hours=12)).timestamp()
    return json.dumps(
        {"authorizationData": [{"authorizationToken": token, "expiresAt": expires_at} | changed]}
    )


SECRET_ANSWER = json.dumps(
    {"Name": "registry/web", "SecretString": json.dumps({"username": "tester", "password": PASSWORD})}
)


class StubAws:
    """Answers what a test says (status and body, or nothing) and remembers who asked for what."""

    def __init__(self):
        self.answers = []
        self.asked = []
        self.go_on = threading.Event()
        self.go_on.set()
        stub = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                operation = self.headers["X-Amz-Target"].rpartition(".")[2]
                signer = self.headers["Authorization"].partition("Credential=")[2].partition("/")[0]
                stub.asked.append((operation, signer))
                stub.go_on.wait(20)
                status, body = stub.answers.pop(0)
                with contextlib.suppress(ConnectionError):
                    self.send_response(status)
                    self.send_header("Content-Type", "application/x-amz-json-1.1")
                    self.end_headers()
                    self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Roles:
    """Credentials of the execution role, or an error."""

    def __init__(self, clock):
        self.clock = clock
        self.error = None

    async def __call__(self, role, task):
        if self.error is not None:
            raise self.error
        expires_at = self.clock.now() + timedelta(hours=1)
        return Credentials(role.arn, "FAKE-ROLE-KEY", *ROLE_SECRETS, expires_at)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def aws():
    with contextlib.closing(StubAws()) as stub:
        yield stub


@pytest.fixture
def roles(clock):
    return Roles(clock)


@pytest.fixture
def logins(aws, clock, roles):
    tokens = HeldTokens(clock, jitter=lambda: 0.0)
    with contextlib.closing(
        Logins(clock, region="us-west-2", role_credentials=roles, endpoint=aws.endpoint, tokens=tokens)
    ) as made:
        yield made


def asking(source):
    how = {
        LoginSource.ECR: {"account": "123456789012", "region": "eu-west-1", "uses_execution_role": True},
        LoginSource.SECRETS_MANAGER: {"secret": "registry/web"},
    }[source]
    container = replace(a_container(), registry=RegistryAuthentication(source, **how))
    return replace(a_spec(container), execution_role=a_role()), container


FINAL = {LoginSource.ECR: CannotPullEcrImage, LoginSource.SECRETS_MANAGER: CannotPullPrivateImage}
TRANSIENT = {LoginSource.ECR: EcrLoginUnavailable, LoginSource.SECRETS_MANAGER: PrivateLoginUnavailable}
BOTH = pytest.mark.parametrize("source", list(LoginSource))


def an_error(code, message="because"):
    return json.dumps({"__type": code, "message": message})


def everything_told(caught):
    """The whole trace with every error on the way, and what those errors carry."""
    told, error = "".join(traceback.format_exception(caught.value)), caught.value
    while error is not None:
        told += repr(error) + repr(vars(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return told


async def test_the_role_asks_and_not_the_host(logins, aws, clock):
    aws.answers = [(200, ecr_answer(clock)), (200, SECRET_ANSWER)]
    assert await logins.login(*asking(LoginSource.ECR)) == RegistryLogin("AWS", PASSWORD)
    assert await logins.login(*asking(LoginSource.SECRETS_MANAGER)) == RegistryLogin("tester", PASSWORD)
    assert aws.asked == [("GetAuthorizationToken", "FAKE-ROLE-KEY"), ("GetSecretValue", "FAKE-ROLE-KEY")]


@BOTH
async def test_a_missing_permission_has_the_hint_and_is_final(logins, aws, source):
    aws.answers = [(400, an_error("AccessDeniedException", "role-1 is not authorized"))]
    with pytest.raises(FINAL[source]) as caught:
        await logins.login(*asking(source))
    assert str(caught.value).startswith(
        "The task can\N{RIGHT SINGLE QUOTATION MARK}t pull the image. Check that the role has the permissions "
        "to pull images from the registry. "
    )
    assert "AccessDeniedException: role-1 is not authorized" in str(caught.value)
    assert len(aws.asked) == 1


@BOTH
@pytest.mark.parametrize("code", ["InvalidParameterException", "ValidationException"])
async def test_a_request_that_can_only_fail_is_not_repeated(logins, aws, source, code):
    aws.answers = [(400, an_error(code))]
    with pytest.raises(FINAL[source], match=code) as caught:
        await logins.login(*asking(source))
    assert PERMISSION_HINT not in str(caught.value)


@pytest.mark.parametrize("code", ["DecryptionFailure", "InvalidRequestException"])
async def test_a_secret_that_cannot_be_opened_is_final(logins, aws, code):
    aws.answers = [(400, an_error(code, "scheduled for deletion"))]
    with pytest.raises(CannotPullPrivateImage, match=f"{code}: scheduled for deletion"):
        await logins.login(*asking(LoginSource.SECRETS_MANAGER))


@BOTH
@pytest.mark.parametrize(
    "answer",
    [
        (400, an_error("ThrottlingException", "slow down")),
        (500, an_error("InternalServiceError")),
        (503, "<html>not here</html>"),
        (400, an_error("ExpiredTokenException")),
        (400, an_error("UnrecognizedClientException")),
    ],
)
async def test_trouble_that_passes_is_worth_asking_again(logins, aws, clock, source, answer):
    aws.answers = [answer] * 2
    with pytest.raises(TRANSIENT[source]) as caught:
        await logins.login(*asking(source))
    assert caught.value.name == FINAL[source].name
    assert "the host's own" not in str(caught.value)
    aws.answers = [(200, ecr_answer(clock) if source is LoginSource.ECR else SECRET_ANSWER)]
    assert (await logins.login(*asking(source))).password == PASSWORD


@BOTH
async def test_credentials_that_were_not_delivered_yet_are_waited_for(logins, roles, aws, source):
    roles.error = CredentialsUnavailable("not delivered yet")
    with pytest.raises(TRANSIENT[source], match="credentials: not found: not delivered yet"):
        await logins.login(*asking(source))
    assert aws.asked == []


@BOTH
async def test_a_role_that_cannot_be_assumed_is_final(logins, roles, aws, source):
    roles.error = UnknownRole("no such role")
    with pytest.raises(FINAL[source], match="credentials: not found: no such role"):
        await logins.login(*asking(source))
    assert aws.asked == []


@BOTH
async def test_an_answer_that_hangs_is_given_up(logins, aws, monkeypatch, source):
    monkeypatch.setattr(module, "_LIMIT", 0.3)
    aws.go_on.clear()
    aws.answers = [(500, "")] * 2
    with pytest.raises(TRANSIENT[source], match="not answered"):
        await logins.login(*asking(source))
    aws.go_on.set()


@BOTH
async def test_a_source_of_credentials_that_hangs_is_given_up(clock, monkeypatch, source):
    async def hangs(role, task):
        await asyncio.Event().wait()

    monkeypatch.setattr(module, "_LIMIT", 0.05)
    with (
        contextlib.closing(Logins(clock, region="us-west-2", role_credentials=hangs)) as logins,
        pytest.raises(TRANSIENT[source], match="no credentials of"),
    ):
        await logins.login(*asking(source))


@BOTH
async def test_no_network_names_where_it_wanted_to_go(clock, roles, source):
    nowhere = "http://127.0.0.1:9"
    region = "eu-west-1" if source is LoginSource.ECR else "us-west-2"
    with (
        contextlib.closing(
            Logins(clock, region="us-west-2", role_credentials=roles, endpoint=nowhere)
        ) as logins,
        pytest.raises(TRANSIENT[source], match=f"cannot reach .* in {region} at {nowhere}"),
    ):
        await logins.login(*asking(source))


async def test_a_host_without_an_identity_may_get_one(aws, clock, roles, logins, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    task, container = asking(LoginSource.ECR)
    container = replace(container, registry=replace(container.registry, uses_execution_role=False))
    with pytest.raises(EcrLoginUnavailable, match="no AWS credentials of its own"):
        await logins.login(task, container)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FAKE-HOST-KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "fake-host-secret")
    aws.answers = [(200, ecr_answer(clock))]
    assert (await logins.login(task, container)).password == PASSWORD
    assert aws.asked == [("GetAuthorizationToken", "FAKE-HOST-KEY")]


async def test_an_old_ecr_login_bridges_trouble_at_its_renewal(logins, aws, clock):
    aws.answers = [(200, ecr_answer(clock))]
    login = await logins.login(*asking(LoginSource.ECR))
    clock.advance(timedelta(hours=11, minutes=45))
    aws.answers = [(500, an_error("ServerException"))] * 2
    with capture_logs() as logs:
        assert await logins.login(*asking(LoginSource.ECR)) is login
    assert [line["event"] for line in logs] == ["registry_login.kept"]
    clock.advance(timedelta(minutes=15))
    aws.answers = [(500, an_error("ServerException"))] * 2
    with pytest.raises(EcrLoginUnavailable):
        await logins.login(*asking(LoginSource.ECR))


RUBBISH = (
    "{}",
    '{"authorizationData": []}',
    '{"authorizationData": [{}]}',
    '{"authorizationData": [{"authorizationToken": "QVdT"}]}',
    f'{{"authorizationData": [{{"authorizationToken": "{PASSWORD}"}}]}}',
    '{"authorizationData": [{"authorizationToken": "//79Og=="}]}',
    f'{{"authorizationData": "{PASSWORD}"}}',
    f'"{PASSWORD}"',
    f"<<{PASSWORD}",
)


@pytest.mark.parametrize("body", RUBBISH)
async def test_rubbish_from_ecr_is_told_and_not_shown(logins, aws, body):
    aws.answers = [(200, body)] * 2
    with pytest.raises(EcrLoginUnavailable, match="answer that cannot be read") as caught:
        await logins.login(*asking(LoginSource.ECR))
    assert PASSWORD not in everything_told(caught)


async def test_a_date_that_cannot_be_read_is_told_and_the_token_is_not_shown(logins, aws, clock):
    aws.answers = [(200, ecr_answer(clock, expiresAt="the day after"))] * 2
    with pytest.raises(EcrLoginUnavailable, match="answer that cannot be read") as caught:
        await logins.login(*asking(LoginSource.ECR))
    assert PASSWORD not in everything_told(caught)
    assert base64.b64encode(f"AWS:{PASSWORD}".encode()).decode() not in everything_told(caught)


@pytest.mark.parametrize(
    "body", ["{}", f'"{PASSWORD}"', f"<<{PASSWORD}", f'{{"SecretString": ["{PASSWORD}"]}}']
)
async def test_rubbish_from_secrets_manager_is_told_and_not_shown(logins, aws, body):
    aws.answers = [(200, body)] * 2
    with pytest.raises((CannotPullPrivateImage, PrivateLoginUnavailable)) as caught:
        await logins.login(*asking(LoginSource.SECRETS_MANAGER))
    assert PASSWORD not in everything_told(caught)


async def test_neither_logins_nor_keys_are_logged(logins, aws, clock):
    aws.answers = [(200, ecr_answer(clock)), (200, SECRET_ANSWER)]
    with capture_logs() as logs:
        await logins.login(*asking(LoginSource.ECR))
        await logins.login(*asking(LoginSource.SECRETS_MANAGER))
    assert [line["event"] for line in logs] == ["registry_login.fetched"]
    for secret in (PASSWORD, *ROLE_SECRETS, "fake-host-secret"):
        assert secret not in repr(logs) + repr(logins)
