"""Signatures, checked by a verifier that shares no code with the signer."""

from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from agent.adapters.ecs.keys import Keys
from agent.adapters.ecs.signing import Signer, canonical_host, canonical_url
from agent.model.errors import CredentialsUnavailable
from tests.agent.adapters.ecs.ecs_server import KEYS, REGION, HeldKeys
from tests.fakes.clock import FakeClock
from tests.fakes.ecs.signatures import KeyPair, SignatureRefused, Verifier

QUERY = (
    "agentHash=a8b3e7d3&agentVersion=0.1.0&clusterArn=fk-cluster&containerInstanceArn=arn%3Aaws%3Aecs%3Aus-west-2"
    "%3A111122223333%3Acontainer-instance%2Ffk-cluster%2F38132122&dockerVersion=DockerVersion%3A+20.10.24%2Bdfsg1"
    "&protocolVersion=2&sendCredentials=true&seqNum=1"
)
URLS = (
    f"wss://ecs-a-1.us-west-2.amazonaws.com/ws?{QUERY}",
    f"wss://ecs-a-1.us-west-2.amazonaws.com:443/ws?{QUERY}",
    f"wss://127.0.0.1:9443/acs/ws?{QUERY}",
    f"ws://LOCALHOST:80/ws?{QUERY.replace('+', '%20')}",
    "ws://[::1]:8080/a%20b/~c/ws?b=2&a=&a=1&c",
    "https://127.0.0.1:9443",
)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def signer(clock):
    return Signer(HeldKeys(), REGION, clock)


def check(clock, url, headers, body=b"", *, method="GET", keys=KEYS):
    pair = KeyPair(keys.access_key_id, keys.secret_access_key, keys.token or None)
    parts = urlsplit(url)
    headers = {**headers, "Host": canonical_host(url)}
    verifier = Verifier({pair.access_key_id: pair}, REGION, clock.now)
    return verifier.check(method, parts.path or "/", parts.query, headers, body)


@pytest.mark.parametrize("url", URLS)
async def test_a_handshake_signs_host_date_and_token_and_nothing_else(signer, clock, url) -> None:
    headers = await signer.handshake(url)
    assert set(headers) == {"Authorization", "X-Amz-Date", "X-Amz-Security-Token"}
    assert check(clock, url, headers).signed_headers == ("host", "x-amz-date", "x-amz-security-token")
    assert (
        "/20260101/us-west-2/ecs/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token"
        in headers["Authorization"]
    )


async def test_keys_without_a_token_sign_without_it(clock) -> None:
    keys = Keys("EXAMPLEKEYID1", "fake-secret", "")
    headers = await Signer(HeldKeys(keys), REGION, clock).handshake(URLS[0])
    assert set(headers) == {"Authorization", "X-Amz-Date"}
    assert check(clock, URLS[0], headers, keys=keys).signed_headers == ("host", "x-amz-date")


@pytest.mark.parametrize("part", ["path", "query", "body", "secret"])
async def test_the_verifier_of_these_tests_notices_what_is_wrong(signer, clock, part) -> None:
    headers = await signer.handshake(URLS[2])
    url = {"path": URLS[2].replace("/acs", "/tcs"), "query": URLS[2].replace("true", "false")}.get(
        part, URLS[2]
    )
    keys = Keys(KEYS.access_key_id, "fake-other", KEYS.token) if part == "secret" else KEYS
    with pytest.raises(SignatureRefused, match="does not match"):
        check(clock, url, headers, b"x" if part == "body" else b"", keys=keys)


@pytest.mark.parametrize("url", URLS)
async def test_a_frame_is_signed_header_lines_an_empty_line_and_the_payload(signer, clock, url) -> None:
    payload = b'{"type":"PublishMetricsRequest","message":{"a":"\xc3\xa9\\r\\n"}}'
    frame = await signer.frame(url, payload)
    assert frame.endswith(b"\r\n\r\n" + payload)
    names = [line.partition(": ")[0] for line in frame[: -len(payload) - 4].decode().split("\r\n")]
    assert names == ["Authorization", "Host", "X-Amz-Date", "X-Amz-Security-Token"]
    pair = KeyPair(KEYS.access_key_id, KEYS.secret_access_key, KEYS.token)
    parts = urlsplit(url)
    verifier = Verifier({pair.access_key_id: pair}, REGION, clock.now)
    signed, found = verifier.check_frame(canonical_host(url), parts.path or "/", parts.query, frame)
    assert found == payload
    assert signed.signed_headers == ("host", "x-amz-date", "x-amz-security-token")
    with pytest.raises(SignatureRefused):
        verifier.check_frame(
            canonical_host(url), parts.path or "/", parts.query, frame.replace(b"Metrics", b"Healths")
        )


async def test_a_request_signs_every_header_that_it_was_given(signer, clock) -> None:
    given = {"X-Amz-Target": "T.Op", "Content-Type": "application/x-amz-json-1.1", "Content-Length": "2"}
    headers = await signer.request("POST", "https://ecs.us-west-2.amazonaws.com/", given, b"{}")
    signed = check(
        clock, "https://ecs.us-west-2.amazonaws.com/", headers, b"{}", method="POST"
    ).signed_headers
    assert signed == (
        "content-length",
        "content-type",
        "host",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-target",
    )
    assert given.items() <= headers.items()


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("wss://Example.COM:443/x", "example.com"),
        ("wss://example.com:8443/x", "example.com:8443"),
        ("ws://example.com:80", "example.com"),
        ("ws://example.com:443", "example.com:443"),
        ("https://[::1]:443/", "[::1]"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("https://user@example.com/", "example.com"),
    ],
)
def test_the_host_is_what_a_client_sends(url, host) -> None:
    assert canonical_host(url) == host


def test_a_plus_in_the_query_is_a_space_and_a_fragment_is_nothing() -> None:
    assert canonical_url("wss://h/ws?v=a%3A+1%2B2&e=#x") == "https://h/ws?v=a%3A%201%2B2&e="


class TestSkew:
    async def test_a_server_far_ahead_is_believed(self, signer, clock) -> None:
        with capture_logs() as logs:
            assert signer.note_server_time("Thu, 01 Jan 2026 13:00:00 GMT")
            assert not signer.note_server_time("Thu, 01 Jan 2026 13:00:30 GMT")
        assert signer.skew == timedelta(hours=1)
        assert [line["event"] for line in logs] == ["clock.skewed"]
        assert (await signer.handshake(URLS[0]))["X-Amz-Date"] == "20260101T130000Z"
        clock.advance(timedelta(minutes=10))
        assert (await signer.handshake(URLS[0]))["X-Amz-Date"] == "20260101T131000Z"

    async def test_a_server_far_behind_is_believed(self, signer) -> None:
        assert signer.note_server_time("Wed, 31 Dec 2025 11:59:00 GMT")
        assert (await signer.handshake(URLS[0]))["X-Amz-Date"] == "20251231T115900Z"

    def test_a_clock_that_was_set_right_is_believed_again(self, signer, clock) -> None:
        assert signer.note_server_time("Thu, 01 Jan 2026 13:00:00 GMT")
        clock.advance(timedelta(hours=1))
        assert signer.note_server_time("Thu, 01 Jan 2026 13:00:30 GMT")
        assert signer.skew == timedelta(0)

    @pytest.mark.parametrize(
        "header",
        [
            None,
            "",
            "yesterday",
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Fri, 31 Dec 9999 23:59:59 -2300",
            "Thu, 99 Foo 2026 12:00:00 GMT",
            "Thu, 01 Jan 2026 12:04:00 GMT",
            "Thu, 01 Jan 2026 11:56:00 +0000",
        ],
    )
    def test_what_is_near_or_unreadable_changes_nothing(self, signer, header) -> None:
        assert not signer.note_server_time(header)
        assert signer.skew == timedelta(0)

    @pytest.mark.parametrize("header", ["Thu, 01 Jan 2026 14:00:00 +0100", "Thu, 01 Jan 2026 13:00:00 -0000"])
    def test_other_ways_to_write_a_time_are_understood(self, signer, header) -> None:
        assert signer.note_server_time(header)
        assert signer.skew == timedelta(hours=1)


async def test_forgetting_keys_reaches_their_source(clock) -> None:
    keys = HeldKeys()
    Signer(keys, REGION, clock).forget_keys()
    assert keys.invalidated == 1


def test_secrets_do_not_show() -> None:
    assert KEYS.secret_access_key not in repr(KEYS)
    assert KEYS.token not in repr(KEYS)


@pytest.mark.parametrize("field", ["access_key_id", "secret_access_key", "token"])
@pytest.mark.parametrize("odd", ["\n", "\0", "ü", "\udcff"])
async def test_keys_that_no_request_can_carry_are_refused_by_name(clock, field, odd) -> None:
    keys = replace(KEYS, **{field: f"fake-one{odd}fake-two"})
    signer = Signer(HeldKeys(keys), REGION, clock)
    with pytest.raises(CredentialsUnavailable, match="expected printable ASCII") as caught:
        await signer.handshake(URLS[0])
    assert field.replace("_", " ").replace("token", "session token") in str(caught.value)
    assert "fake" not in str(caught.value)
