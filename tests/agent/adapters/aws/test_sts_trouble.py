"""The provider against an STS that refuses, throttles, hangs or is not there."""

import contextlib
import subprocess
import sys
import threading
import traceback
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from structlog.testing import capture_logs

from agent.adapters.aws.holding import Patience
from agent.adapters.aws.roles import StsRoles
from agent.model.errors import CredentialsUnavailable, UnknownRole
from tests.contracts.credentials import a_role, an_arn
from tests.fakes.clock import FakeClock

GOOD = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>FAKE-KEY</AccessKeyId><SecretAccessKey>fake-secret</SecretAccessKey><SessionToken>fake-token</SessionToken>
<Expiration>2026-01-01T13:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"""


class StubSts:
    """Answers what a test says, and remembers what it was asked."""

    def __init__(self):
        self.answers = []
        self.asked = []
        self.go_on = threading.Event()
        self.go_on.set()
        stub = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self):
                stub.asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                stub.go_on.wait(20)
                status, body = stub.answers.pop(0) if stub.answers else (200, GOOD)
                with contextlib.suppress(ConnectionError):
                    self.send_response(status)
                    self.send_header("Content-Type", "text/xml")
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


def an_error(code, message="because"):
    return f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"


@pytest.fixture
def sts():
    with contextlib.closing(StubSts()) as stub:
        yield stub


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def provider(sts, clock):
    with contextlib.closing(StsRoles(clock, region="us-west-2", endpoint=sts.endpoint)) as made:
        yield made


async def test_the_session_is_named_after_the_task(provider, sts):
    credentials = await provider.for_role(a_role(), an_arn())
    assert credentials.access_key_id == "FAKE-KEY"
    assert credentials.expires_at == datetime(2026, 1, 1, 13, tzinfo=UTC)
    assert f"RoleSessionName={an_arn()[-32:]}" in sts.asked[0]
    assert "DurationSeconds=3600" in sts.asked[0]


@pytest.mark.parametrize("code", ["AccessDenied", "ValidationError"])
async def test_a_refusal_names_the_role_and_what_sts_said(provider, sts, code):
    sts.answers = [(403, an_error(code, "host may not assume role-1"))]
    with pytest.raises(UnknownRole) as caught:
        await provider.for_role(a_role(), an_arn())
    for words in (a_role().arn, code, "host may not assume role-1", "STS in us-west-2"):
        assert words in str(caught.value)
    assert "fake-host-secret" not in str(caught.value)


@pytest.mark.parametrize("code", ["InvalidClientTokenId", "ExpiredToken", "SignatureDoesNotMatch"])
async def test_wrong_keys_of_the_host_are_the_hosts_fault_and_not_the_roles(provider, sts, code):
    sts.answers = [(403, an_error(code))]
    with pytest.raises(CredentialsUnavailable, match="the host's own AWS credentials are not valid"):
        await provider.for_role(a_role(), an_arn())


async def test_throttling_is_tried_again_and_then_told(provider, sts, clock):
    sts.answers = [(400, an_error("Throttling", "Rate exceeded"))] * 2
    with pytest.raises(CredentialsUnavailable, match="Rate exceeded"):
        await provider.for_role(a_role(), an_arn())
    assert len(sts.asked) == 2
    clock.advance(5)
    assert (await provider.for_role(a_role(), an_arn())).token == "fake-token"


async def test_rubbish_is_told(provider, sts):
    sts.answers = [(200, f"<<{GOOD}")] * 2
    with pytest.raises(CredentialsUnavailable, match="cannot be read") as caught:
        await provider.for_role(a_role(), an_arn())
    assert "fake-secret" not in "".join(traceback.format_exception(caught.value))


async def test_an_sts_that_hangs_is_given_up(sts, clock):
    sts.go_on.clear()
    patience = Patience(limit=timedelta(seconds=0.3))
    with contextlib.closing(
        StsRoles(clock, region="us-west-2", endpoint=sts.endpoint, patience=patience)
    ) as provider:
        with pytest.raises(CredentialsUnavailable, match="no answer about"):
            await provider.for_role(a_role(), an_arn())
        sts.go_on.set()


async def test_no_network_names_where_it_wanted_to_go(clock):
    where = r"cannot reach STS in us-west-2 at http://127\.0\.0\.1:9"
    with (
        contextlib.closing(StsRoles(clock, region="us-west-2", endpoint="http://127.0.0.1:9")) as provider,
        pytest.raises(CredentialsUnavailable, match=where),
    ):
        await provider.for_role(a_role(), an_arn())


async def test_a_host_without_credentials_is_told_where_they_are_looked_for(
    provider, sts, clock, monkeypatch
):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsUnavailable, match="no AWS credentials of its own"):
        await provider.for_role(a_role(), an_arn())
    assert sts.asked == []
    # once they are there, they are found
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FAKE-HOST-KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "fake-host-secret")
    clock.advance(5)
    assert await provider.for_role(a_role(), an_arn())


def test_the_sdk_is_not_loaded_before_it_is_needed():
    program = (
        "import sys, agent.adapters.aws.roles, agent.adapters.aws.development\n"
        "assert not {'boto3', 'botocore'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


async def test_neither_secrets_nor_tokens_are_logged(provider, sts, clock):
    with capture_logs() as logs:
        await provider.for_role(a_role(), an_arn())
        sts.answers = [(403, an_error("AccessDenied"))]
        with pytest.raises(UnknownRole):
            await provider.for_role(a_role(2), an_arn(2))
    assert [line["event"] for line in logs] == ["credentials.fetched", "credentials.missed"]
    for secret in ("fake-secret", "fake-token", "FAKE-KEY", "fake-host-secret"):
        assert secret not in repr(logs)
