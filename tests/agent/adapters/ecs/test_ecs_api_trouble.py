"""Answers that are none: broken networks, strangers, proxies, wrong certificates."""

import asyncio
import contextlib
import ssl
import traceback

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agent.adapters.ecs import api as module
from agent.adapters.ecs.api import ApiUnreachable, EcsApi
from agent.adapters.ecs.endpoint import tls_context
from agent.adapters.ecs.keys import Keys
from agent.adapters.ecs.signing import Signer
from tests.agent.adapters.ecs.ecs_server import REGION, SECRET, TOKEN, USER_AGENT, HeldKeys, saying, staged
from tests.fakes.clock import FakeClock
from tests.fakes.ecs.serving import Certificate

QUICK = aiohttp.ClientTimeout(total=0.3, sock_connect=0.2)


async def unreachable(stage, **options):
    with pytest.raises(ApiUnreachable) as caught:
        await stage.api.call("Op", {}, **options)
    text = "".join(traceback.format_exception(caught.value))
    assert TOKEN not in text
    assert SECRET not in text
    assert str(caught.value).startswith(f"Op: Amazon ECS in us-west-2 at {stage.url}: ")
    return str(caught.value).removeprefix(f"Op: Amazon ECS in us-west-2 at {stage.url}: ")


@pytest.mark.parametrize(
    ("status", "body", "content_type", "times"),
    [
        (200, b"<html>sign in</html>", "text/html", 3),
        (200, b'{"endpoint": "https://', "application/x-amz-json-1.1", 3),
        (200, b"", "application/x-amz-json-1.1", 3),
        (200, b"[]", "application/json", 3),
        (200, b'"text"', "application/json", 3),
        (200, b"\xff\xfe{}", "application/json", 3),
        (200, b"[" * 200_000, "application/json", 3),
        (503, b"<html>upstream</html>", "text/html", 3),
        (403, b"<html>forbidden</html>", "text/html", 1),
        (407, b"", "text/plain", 1),
    ],
)
async def test_an_answer_that_is_not_the_apis_is_described_not_quoted(
    status, body, content_type, times
) -> None:
    async with staged() as stage:
        stage.server.answers = [saying(status, body, **{"Content-Type": content_type})] * 3
        text = await unreachable(stage)
        assert len(stage.server.got) == times
    assert text == f"HTTP {status} with {len(body)} bytes of {content_type}, expected a JSON object"


async def test_an_answer_that_becomes_one_is_taken() -> None:
    async with staged() as stage:
        stage.server.answers = [saying(200, b"{"), {"a": 1}]
        assert await stage.api.call("Op", {}) == {"a": 1}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(status) -> None:
    async with staged() as stage:
        stage.server.answers = [saying(status, b"", Location=f"{stage.url}/elsewhere?token=fake-secret")]
        text = await unreachable(stage)
        assert len(stage.server.got) == 1
    assert text == f"a redirect (HTTP {status}) to 127.0.0.1, which is not followed"


@pytest.mark.parametrize("location", [None, "http://[", "/sign-in"])
async def test_a_redirect_to_nowhere_is_told(location) -> None:
    async with staged() as stage:
        stage.server.answers = [saying(302, b"", **({} if location is None else {"Location": location}))]
        assert "a redirect (HTTP 302) to an un" in await unreachable(stage)


async def test_an_endless_answer_is_cut_off() -> None:
    sent = 0

    async def endless(request):
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while sent < 200:
                await response.write(b" " * 1_000_000)
                sent += 1
        return response

    async with staged() as stage:
        stage.server.answers = [endless]
        assert await unreachable(stage) == "an answer of more than 4194304 bytes"
        assert len(stage.server.got) == 1
    assert sent < 100


@pytest.mark.parametrize("spoil", ["\n", "\r\n", "\0", "\ud800"])
async def test_keys_that_fit_in_no_header_are_told_and_not_shown(spoil) -> None:
    keys = Keys("EXAMPLEKEYID1", SECRET, f"{TOKEN[:40]}{spoil}{TOKEN[40:]}")
    async with staged(keys) as stage:
        with pytest.raises(
            ApiUnreachable, match="cannot sign Op: the session token of this instance has"
        ) as caught:
            await stage.api.call("Op", {})
        assert stage.server.got == []
    assert not caught.value.is_passing
    told = "".join(traceback.format_exception(caught.value))
    for piece in (SECRET, TOKEN[:40], TOKEN[40:]):
        assert piece not in told


async def test_a_header_that_cannot_be_written_is_told_without_the_token() -> None:
    async with staged() as stage:
        stage.api.present_as("agent\r\nX-Other: 1")
        text = await unreachable(stage)
        assert stage.server.got == []
    assert text == "the request cannot be written (ValueError); expected headers without line breaks"


async def test_a_connection_that_breaks_off_is_tried_again() -> None:
    async def breaking(request):
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b'{"a": ')
        request.transport.abort()
        return response

    async def closing(request):
        request.transport.close()
        return web.Response()

    async with staged() as stage:
        stage.server.answers = [breaking, closing, {"a": 1}]
        assert await stage.api.call("Op", {}) == {"a": 1}
        stage.server.answers = [breaking] * 3
        assert "ClientPayloadError" in await unreachable(stage)
        assert len(stage.server.got) == 6


async def test_nobody_listens() -> None:
    async with staged() as stage:
        stage.api._url = "http://127.0.0.1:1/"
        assert "cannot connect: " in await unreachable(stage)


async def test_a_server_that_never_answers_is_given_up() -> None:
    async def silent(_):
        await asyncio.sleep(5)
        return web.Response()

    async with staged(limits=QUICK) as stage:
        stage.server.answers = [silent, {"a": 1}]
        assert await stage.api.call("Op", {}) == {"a": 1}
        stage.server.answers = [silent]
        assert await unreachable(stage, attempts=1) == "no answer within 0.3 s"


def test_the_limits_are_those_of_the_protocol() -> None:
    assert (module.LIMITS.total, module.LIMITS.sock_connect) == (42, 30)


async def test_a_server_that_does_not_speak_http_is_told_without_what_it_said() -> None:
    async def stranger(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\n"
            + request.split(b"X-Amz-Security-Token: ")[1].split(b"\r\n")[0]
            + b"\r\n\r\n"
        )
        await writer.drain()
        writer.close()

    async with staged() as stage:
        server = await asyncio.start_server(stranger, "127.0.0.1", 0)
        stage.api._url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert "Error" in await unreachable(stage)
        server.close()
        await server.wait_closed()


@pytest.fixture(scope="module")
def certificate():
    """A certificate for 127.0.0.1 that nobody vouches for."""
    made = Certificate()
    yield made
    made.remove()


class TestTls:
    @contextlib.asynccontextmanager
    async def reached(self, certificate, client_tls):
        async def answer(_):
            return web.json_response({"a": 1})

        application = web.Application()
        application.router.add_post("/", answer)
        signer = Signer(HeldKeys(), REGION, FakeClock())
        server = TestServer(application, host="127.0.0.1", scheme="https")
        await server.start_server(ssl=certificate.context)
        async with server, aiohttp.ClientSession() as http:  # the server is closed at the end
            yield EcsApi(
                endpoint=f"https://127.0.0.1:{server.port}", region=REGION, signer=signer, http=http,
                user_agent=USER_AGENT, tls=client_tls, pause=lambda _: 0.0,
            )  # fmt: skip

    async def test_a_certificate_that_nobody_vouches_for_is_refused(self, certificate) -> None:
        async with self.reached(certificate, tls_context(verify=True)) as api:
            with pytest.raises(
                ApiUnreachable, match=r"certificate is not trusted: .*self.signed certificate"
            ) as caught:
                await api.call("Op", {})
            assert not caught.value.is_passing

    async def test_without_a_context_of_its_own_it_is_refused_too(self, certificate) -> None:
        async with self.reached(certificate, None) as api:
            with pytest.raises(ApiUnreachable, match="certificate is not trusted"):
                await api.call("Op", {})

    async def test_who_is_vouched_for_is_believed(self, certificate) -> None:
        context = tls_context(verify=True)
        context.load_verify_locations(certificate.file)
        async with self.reached(certificate, context) as api:
            assert await api.call("Op", {}) == {"a": 1}

    async def test_anybody_is_believed_when_told_so(self, certificate) -> None:
        async with self.reached(certificate, tls_context(verify=False)) as api:
            assert await api.call("Op", {}) == {"a": 1}

    async def test_plain_http_where_tls_is_expected_is_told(self) -> None:
        async with staged() as stage:
            stage.api._url = stage.api._url.replace("http:", "https:")
            with pytest.raises(ApiUnreachable, match=r"TLS failed: \[SSL: WRONG_VERSION_NUMBER\]"):
                await stage.api.call("Op", {})


def test_old_tls_is_not_spoken() -> None:
    for verify in (True, False):
        assert tls_context(verify).minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls_context(verify=True).verify_mode == ssl.CERT_REQUIRED
    assert tls_context(verify=True).check_hostname


async def test_a_netrc_file_does_not_keep_the_signature_from_being_sent(tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password fake-secret-word\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with staged() as stage, aiohttp.ClientSession(trust_env=True) as http:
        api = EcsApi(endpoint=stage.url, region=REGION, signer=stage.signer, http=http, user_agent=USER_AGENT)
        assert await api.call("DescribeClusters", {}) == await stage.api.call("DescribeClusters", {})


async def test_calls_go_through_the_proxy_that_the_environment_names(monkeypatch):
    asked = []

    async def proxy(request):
        asked.append((request.method, request.path, request.headers.get("Proxy-Authorization", "")))
        return web.Response(status=502, text="no way out")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", proxy)
    async with (
        TestServer(application, host="127.0.0.1") as listening,
        aiohttp.ClientSession(trust_env=True) as http,
    ):
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setenv("HTTP_PROXY", f"http://somebody:fake-secret-word@127.0.0.1:{listening.port}")
        async with staged() as stage:
            api = EcsApi(
                endpoint="http://ecs.example",
                region=REGION,
                signer=stage.signer,
                http=http,
                user_agent=USER_AGENT,
            )
            with pytest.raises(ApiUnreachable) as failed:
                await api.call("DescribeClusters", {}, attempts=1)
    assert "fake-secret-word" not in str(failed.value)
    (first,) = asked
    assert first[0] == "POST"
    assert first[2].startswith("Basic ")
