"""Where role credentials come from fails: the endpoint says why, and gives them as soon as it can."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs

import pytest

from tests.e2e.agent_process import eventually
from tests.e2e.conftest import MakeAgent
from tests.e2e.inside import Containers, credentials_url, parsed
from tests.e2e.task_definitions import a_definition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

KNOWN = "arn:aws:iam::111122223333:role/known"
UNKNOWN = "arn:aws:iam::111122223333:role/unknown"

GIVEN = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<AssumedRoleUser><Arn>arn:aws:sts::111122223333:assumed-role/known/x</Arn><AssumedRoleId>A:x</AssumedRoleId>
</AssumedRoleUser><Credentials><AccessKeyId>EXAMPLEKEY</AccessKeyId><SecretAccessKey>not-a-secret</SecretAccessKey>
<SessionToken>token-of-known</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleResponse>"""

DENIED = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole on resource: {role}</Message></Error>
<RequestId>1</RequestId></ErrorResponse>"""


class _StandIn(http.server.BaseHTTPRequestHandler):
    """Gives credentials of one role only."""

    def do_POST(self) -> None:
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        (role,) = asked["RoleArn"]
        status, text = (200, GIVEN) if role == KNOWN else (403, DENIED.format(role=role))
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def sts() -> Iterator[http.server.ThreadingHTTPServer]:
    """A stand-in for STS that is not listening yet."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _StandIn, bind_and_activate=False)
    server.server_bind()
    with server:
        yield server


@contextmanager
def _listening(server: http.server.ThreadingHTTPServer) -> Iterator[None]:
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def test_the_endpoint_says_whether_a_role_is_unknown_or_its_source_silent(
    make_agent: MakeAgent, containers: Containers, sts: http.server.ThreadingHTTPServer
) -> None:
    agent = make_agent(
        BERTH_CREDENTIALS_SOURCE="sts",
        BERTH_STS_ENDPOINT=f"http://127.0.0.1:{sts.server_port}",
        environ={"AWS_ACCESS_KEY_ID": "EXAMPLEHOSTKEY", "AWS_SECRET_ACCESS_KEY": "of-the-host-not-real"},
    )
    agent.start()
    # that credentials cannot be had now is no reason not to run
    known, unknown = agent.all_running(
        [
            *agent.run(a_definition("known", {"name": "app"}, taskRoleArn=KNOWN)),
            *agent.run(a_definition("unknown", {"name": "app"}, taskRoleArn=UNKNOWN)),
        ]
    )

    def asked(task: object) -> tuple[int, dict[str, object]]:
        answer = containers.network(task).fetch(credentials_url(containers, task))  # type: ignore[arg-type]
        return answer.code, json.loads(answer.text)

    code, said = asked(known)
    assert (code, said["code"]) == (503, "CredentialsUninitialized")
    assert agent.said("credentials.missed")[-1]["role"] == KNOWN

    with _listening(sts):
        eventually("credentials are given", lambda: asked(known)[0] == 200, seconds=30, every=0.3)
        assert asked(known)[1]["Token"] == "token-of-known"
        eventually("the unknown role is told", lambda: asked(unknown)[0] == 400, seconds=30, every=0.3)
        code, said = asked(unknown)
        assert said["code"] == "UnknownRole"
        assert UNKNOWN in str(said["message"])
        assert parsed(containers.network(known).fetch(credentials_url(containers, known)))["RoleArn"] == KNOWN
