import asyncio
import json
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from agent.adapters.ecs.channel_socket import CannotDial, WebsocketDialer
from agent.model.channels import ChannelState
from tests.agent.adapters.ecs.channel_peers import QUERY, SHORT, channel, hold, logged, raw, serving
from tests.agent.adapters.ecs.channel_world import HEADERS, TOKEN


async def test_the_upgrade_carries_the_signed_headers_and_the_query_as_signed():
    seen = asyncio.Queue()

    async def answer(request):
        seen.put_nowait((request.method, request.raw_path, request.headers))
        return await hold(request)

    async with serving(answer) as url, channel(url + QUERY):
        method, path, headers = await seen.get()
    assert (method, path) == ("GET", QUERY)
    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert "Cookie" not in headers
    assert "Sec-WebSocket-Extensions" not in headers


async def refusal(status, body="", headers=None):
    async def answer(request):
        return web.Response(status=status, text=body, headers=headers)

    async with serving(answer) as url, channel(url + QUERY) as (made, logs):
        line = await logged(logs, "channel.refused")
        return line, made


async def test_a_refusal_is_read_from_its_body_and_retried():
    asked = []

    async def answer(request):
        asked.append(request.raw_path)
        if len(asked) == 3:
            return await hold(request)
        body = {"type": "InvalidClusterException", "message": {"message": f"no cluster here, {TOKEN}"}}
        return web.Response(status=400, text=json.dumps(body))

    async with serving(answer) as url, channel(url + QUERY) as (made, logs):
        line = await logged(logs, "channel.refused")
        assert line["problem"] == "InvalidClusterException: no cluster here, [removed]"
        assert line["status"] == 400
        await logged(logs, "channel.connected")
        assert made.status().state is ChannelState.CONNECTED
        assert made.status().problem is None


async def test_an_inactive_instance_is_known_from_the_answer():
    body = {"type": "InactiveInstanceException", "message": {"message": "register again"}}
    line, made = await refusal(400, json.dumps(body))
    assert line["retry_in"] == 3600.0
    assert made.status().state is ChannelState.INACTIVE


async def test_a_refused_signature_gives_the_servers_time_to_the_signer():
    body = {"type": "InvalidSignatureException", "message": "Signature expired: 20260101T120000Z"}
    _, made = await refusal(403, json.dumps(body), {"Date": "Thu, 01 Jan 2026 12:00:00 GMT"})
    assert made.signer.dates[0] == "Thu, 01 Jan 2026 12:00:00 GMT"
    assert made.signer.forgotten >= 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status):
    paths = []

    async def answer(request):
        paths.append(request.path)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async with serving(answer) as url, channel(url + QUERY) as (_, logs):
        line = await logged(logs, "channel.refused")
    assert line["problem"] == f"HTTP {status} redirects to /elsewhere; redirects are not followed"
    assert set(paths) == {"/ws"}


async def test_an_answer_without_an_upgrade_says_so():
    line, _ = await refusal(200, "welcome to the router")
    assert line["problem"] == "HTTP 200 instead of a websocket: welcome to the router"


async def test_an_endless_refusal_is_not_read_to_its_end():
    async def answer(request):
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        while True:
            await response.write(b"no " * 4096)

    async with serving(answer) as url, channel(url + QUERY) as (_, logs):
        line = await logged(logs, "channel.refused")
    assert line["problem"].startswith("HTTP 500: no no")
    assert len(line["problem"]) <= 512


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ((b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         b"Sec-WebSocket-Accept: wrong\r\n\r\n"), "127.0.0.1 does not speak websocket: Invalid challenge response"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n",
         "127.0.0.1 does not speak websocket: Invalid upgrade header"),
        (b"SSH-2.0-OpenSSH\r\n", "Bad status line"),
        (b"", "127.0.0.1 hung up during the handshake"),
    ],
)  # fmt: skip
async def test_nonsense_is_named(reply, problem):
    async def talk(_, writer):
        writer.write(reply)
        writer.close()

    async with raw(talk) as url, channel(url + QUERY) as (_, logs):
        line = await logged(logs, "channel.failed")
    assert problem in line["problem"]


async def test_a_peer_that_never_answers_the_handshake_is_given_up():
    async def talk(_, __):
        await asyncio.sleep(5)

    async with raw(talk) as url, channel(url + QUERY, handshake=0.2) as (_, logs):
        began = asyncio.get_running_loop().time()
        line = await logged(logs, "channel.failed")
        assert asyncio.get_running_loop().time() - began < 1.5  # not the time for connecting as well
    assert line["problem"] == "127.0.0.1 does not answer the handshake within 0.2 s"


async def test_nobody_there():
    async with channel("ws://127.0.0.1:9/ws?a=b") as (_, logs):
        line = await logged(logs, "channel.failed")
    assert "Cannot connect to host 127.0.0.1:9" in line["problem"]


@pytest.mark.parametrize("spoil", ["\n", "\0"])
async def test_a_token_that_fits_in_no_header_is_told_and_not_shown(spoil):
    times = replace(SHORT, connect=1.0, handshake=1.0)
    token = f"fake-token-of-the-instance{spoil}and-its-second-half-{'x' * 30}"
    asked = []

    async def answer(request):
        asked.append(request.path)
        return web.Response()

    async with serving(answer) as url, aiohttp.ClientSession() as http:
        with pytest.raises(CannotDial) as caught:
            await WebsocketDialer(http, times).dial(url + QUERY, {"X-Amz-Security-Token": token})
    assert asked == []
    assert str(caught.value)
    assert "fake-token" not in str(caught.value)
    assert "second-half" not in str(caught.value)
