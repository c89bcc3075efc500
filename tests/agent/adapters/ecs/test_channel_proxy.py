import asyncio
import base64
import ssl
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.agent.adapters.ecs.channel_peers import QUERY, channel, hold, logged, serving
from tests.agent.adapters.ecs.channel_world import HEADERS
from tests.fakes.ecs.serving import Certificate


@pytest.fixture
def certificate():
    made = Certificate()
    yield made
    made.remove()


def trusting(certificate):
    return aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=certificate.file))


async def test_a_certificate_that_is_not_trusted_is_named(certificate):
    async with serving(hold, certificate=certificate) as url, channel(url + QUERY) as (_, logs):
        line = await logged(logs, "channel.failed")
    assert line["problem"].startswith("the certificate of 127.0.0.1 is not trusted: ")


class Proxy:
    """A proxy on loopback that tunnels (CONNECT), and remembers what it was asked with which login."""

    def __init__(self, refusal=None):
        self.asked = []
        self.refusal = refusal
        self.address = ""

    @asynccontextmanager
    async def open(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *rest = head.strip().split("\r\n")
        headers = dict(header.split(": ", 1) for header in rest)
        self.asked.append((line, headers.get("Proxy-Authorization")))
        if self.refusal:
            writer.write(self.refusal)
            writer.close()
            return
        host, port = line.split()[1].split(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


@pytest.fixture
def clean_environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ws_proxy", "wss_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("form", ["http://{}", "{}"])
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
async def test_a_websocket_over_tls_goes_through_the_proxy_of_the_environment(
    certificate, clean_environment, form, name
):
    async with Proxy().open() as proxy, serving(hold, certificate=certificate) as url:
        clean_environment.setenv(name, form.format(proxy.address))
        async with channel(url + QUERY, trust_env=True, connector=trusting(certificate)) as (_, logs):
            await logged(logs, "channel.connected")
        assert proxy.asked == [(f"CONNECT {url[6:]} HTTP/1.1", None)]


async def test_the_proxys_password_is_sent_to_it_alone_and_never_logged(certificate, clean_environment):
    login = "Basic " + base64.b64encode(b"us@er:fake-secret-word").decode()
    headers = []

    async def answer(request):
        headers.append(dict(request.headers))
        return await hold(request)

    async with Proxy().open() as proxy, serving(answer, certificate=certificate) as url:
        clean_environment.setenv("HTTPS_PROXY", f"http://us%40er:fake-secret-word@{proxy.address}")
        async with channel(url + QUERY, trust_env=True, connector=trusting(certificate)) as (_, logs):
            await logged(logs, "channel.connected")
        assert [auth for _, auth in proxy.asked] == [login]
        assert "Proxy-Authorization" not in headers[0]
        proxy.refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
        async with channel(url + QUERY, trust_env=True, connector=trusting(certificate)) as (_, more):
            line = await logged(more, "channel.failed")
        assert (
            line["problem"] == "the proxy refuses the tunnel to 127.0.0.1: 407 Proxy Authentication Required"
        )
    async with channel(url + QUERY, trust_env=True) as (_, last):
        line = await logged(last, "channel.failed")
        assert line["problem"].startswith("the proxy cannot be reached: ")
    assert "fake-secret-word" not in repr(logs + more + last)


@pytest.mark.parametrize("value", ["127.0.0.1", "*", "example.com,127.0.0.1"])
async def test_no_proxy_is_kept(certificate, clean_environment, value):
    async with Proxy().open() as proxy, serving(hold, certificate=certificate) as url:
        clean_environment.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        clean_environment.setenv("NO_PROXY", value)
        async with channel(url + QUERY, trust_env=True, connector=trusting(certificate)) as (_, logs):
            await logged(logs, "channel.connected")
        assert proxy.asked == []


async def test_a_session_that_does_not_trust_the_environment_uses_no_proxy(certificate, clean_environment):
    clean_environment.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    async with (
        serving(hold, certificate=certificate) as url,
        channel(url + QUERY, connector=trusting(certificate)) as (_, logs),
    ):
        await logged(logs, "channel.connected")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (
            "socks5://u:fake-secret-word@h:1",
            "HTTPS_PROXY is 'socks5://h'; expected http://host:port or https://host:port",
        ),
        ("http://u:fake-secret-word@h:port", "HTTPS_PROXY is not a URL; expected http://host:port"),
        ("http://", "HTTPS_PROXY is 'http://'; expected http://host:port or https://host:port"),
    ],
)
async def test_a_proxy_that_cannot_be_used_is_named_without_its_password(clean_environment, value, problem):
    clean_environment.setenv("HTTPS_PROXY", value)
    async with channel("wss://127.0.0.1:9" + QUERY, trust_env=True) as (_, logs):
        line = await logged(logs, "channel.failed")
    assert line["problem"] == problem


async def test_a_netrc_file_does_not_spoil_the_signature(certificate, clean_environment, tmp_path):
    """aiohttp refuses to send an ``Authorization`` header to a host that a netrc file has a login for."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password fake-secret-word\n")
    netrc.chmod(0o600)
    clean_environment.setenv("NETRC", str(netrc))
    seen = []

    async def answer(request):
        seen.append(request.headers["Authorization"])
        return await hold(request)

    async with (
        serving(answer, certificate=certificate) as url,
        channel(url + QUERY, trust_env=True, connector=trusting(certificate)) as (_, logs),
    ):
        await logged(logs, "channel.connected")
    assert seen == [HEADERS["Authorization"]]
