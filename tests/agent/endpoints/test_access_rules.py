from dataclasses import dataclass

import pytest

from agent.endpoints.access import Caller, audit_path, refusal_of

GOOD = {"Host": "169.254.170.2"}


@pytest.mark.parametrize("host", ["169.254.170.2", "169.254.170.2:80"])
def test_a_plain_request_is_not_refused(host):
    assert refusal_of("GET", "/v2/credentials/x", {"Host": host}) is None


@dataclass
class Case:
    method: str
    target: str
    headers: dict[str, str]
    status: int
    code: str


@pytest.mark.parametrize(
    "case",
    [
        Case("POST", "/v2/credentials/x", GOOD, 405, "MethodNotAllowed"),
        Case("HEAD", "/v2/credentials/x", GOOD, 405, "MethodNotAllowed"),
        Case("GET", "http://169.254.170.2/v2/credentials/x", GOOD, 403, "ProxyRequest"),
        Case("GET", "*", GOOD, 403, "ProxyRequest"),
        Case("GET", "/", {**GOOD, "X-Forwarded-For": "10.0.0.1"}, 403, "ForwardedRequest"),
        Case("GET", "/", {**GOOD, "Forwarded": "for=10.0.0.1"}, 403, "ForwardedRequest"),
        Case("GET", "/", {**GOOD, "Via": "1.1 proxy"}, 403, "ForwardedRequest"),
        Case("GET", "/", {**GOOD, "X-Real-IP": ""}, 403, "ForwardedRequest"),
        Case("GET", "/", {"Host": "evil.example"}, 403, "WrongHost"),
        Case("GET", "/", {"Host": "169.254.170.2:8080"}, 403, "WrongHost"),
        Case("GET", "/", {"Host": "169.254.170.2.evil.example"}, 403, "WrongHost"),
        Case("GET", "/", {}, 403, "WrongHost"),
    ],
)
def test_a_request_that_somebody_else_may_have_sent_is_refused(case):
    refusal = refusal_of(case.method, case.target, case.headers)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (case.status, case.code)


@pytest.mark.parametrize(
    ("target", "written"),
    [
        ("/v2/credentials/an-id", "/v2/credentials"),
        ("/v2/credentials", "/v2/credentials"),
        ("/v1/credentials?id=an-id", "/v1/credentials"),
        ("//v2/credentials/an-id", "-"),
        ("http://169.254.170.2/v2/credentials/an-id", "-"),
        ("/v2/credentialsan-id", "-"),
    ],
)
def test_an_id_is_never_written_down(target, written):
    assert audit_path(target) == written


@pytest.mark.parametrize(
    ("address", "interface", "is_host"),
    [
        ("127.0.0.1", "", True),
        ("127.0.0.1", "lo", True),
        ("169.254.170.2", "lo", True),
        ("169.254.172.2", "ecs-bridge", False),
        ("127.0.0.1", "ecs-bridge", False),
        ("172.17.0.2", "docker0", False),
    ],
)
def test_only_a_process_of_the_host_counts_as_the_host(address, interface, is_host):
    assert Caller(address, 4000, interface).is_this_host is is_host
