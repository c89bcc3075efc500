import asyncio
import socket as sockets
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType

from agent.adapters.ecs.channel_session import ChannelClosed
from agent.adapters.ecs.channel_socket import WebsocketDialer
from agent.adapters.ecs.channel_times import CONTROL_TIMES, Between
from tests.agent.adapters.ecs.channel_peers import (
    QUERY,
    Talk,
    channel,
    frozen_peer,
    hold,
    logged,
    serving,
    websocket,
)
from tests.agent.adapters.ecs.channel_world import HEADERS


async def test_messages_go_both_ways_as_text_frames():
    frames = asyncio.Queue()

    async def answer(request):
        socket = await websocket(request)
        await socket.send_str("one")
        await socket.send_bytes("zwölf".encode())
        await socket.send_bytes(b"\xff!")
        async for message in socket:
            frames.put_nowait((message.type, message.data))
        return socket

    talk = Talk()
    async with serving(answer) as url, channel(url + QUERY, talk) as (made, logs):
        assert [await talk.heard.get() for _ in range(3)] == ["one", "zwölf", "\ufffd!"]
        conversation = await talk.conversations.get()
        await conversation.send("hello")
        await conversation.send(b"Authorization: x\r\n\r\n{}")
        assert await frames.get() == (WSMsgType.TEXT, "hello")
        assert await frames.get() == (WSMsgType.TEXT, "Authorization: x\r\n\r\n{}")
        assert sum(line["event"] == "frame.misdeclared" for line in logs) == 2
        assert made.status().last_message_at is not None


async def test_pings_are_answered_and_are_no_sign_of_life():
    pongs = asyncio.Queue()

    async def answer(request):
        socket = await websocket(request, autoping=False)
        for number in range(100):
            await socket.ping(str(number).encode())
            message = await socket.receive()
            if message.type is not WSMsgType.PONG:
                break
            pongs.put_nowait(message.data)
            await asyncio.sleep(0.02)
        return socket

    quiet = Between(0.4, 0.5)
    async with serving(answer) as url, channel(url + QUERY, inactivity=quiet) as (_, logs):
        assert await pongs.get() == b"0"
        line = await logged(logs, "channel.closed")
    assert "nothing was heard" in line["why"]
    assert pongs.qsize() > 3


async def test_a_message_beyond_the_limit_ends_the_connection_and_one_below_is_heard():
    async def answer(request):
        socket = await websocket(request)
        await socket.send_str("x" * (4 * 1024 * 1024 - 1))
        await socket.send_str("x" * (4 * 1024 * 1024 + 1))
        async for _ in socket:
            continue
        return socket

    talk = Talk()
    async with serving(answer) as url, channel(url + QUERY, talk) as (_, logs):
        assert len(await talk.heard.get()) == 4 * 1024 * 1024 - 1
        line = await logged(logs, "message.unreadable")
        assert line["problem"] == "a message is larger than 4194304 bytes"
        closed = await logged(logs, "channel.closed")
        assert closed["retry_in"] > 0


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 4321])
async def test_the_peers_close_code_and_text_are_told(code):
    async def answer(request):
        socket = await websocket(request)
        await asyncio.sleep(0.2)
        await socket.close(code=code, message=b"see you")
        return socket

    async with serving(answer) as url, channel(url + QUERY) as (_, logs):
        line = await logged(logs, "channel.closed")
    assert line["why"] == f"the peer closed with {code}: see you"
    assert (line["retry_in"] == 0.0) is (code in (1000, 1001, 1011))


@pytest.mark.parametrize("is_reset", [True, False])
async def test_a_connection_that_breaks_off_is_made_again_at_once(is_reset):
    connects = []

    async def answer(request):
        connects.append(request.path)
        socket = await websocket(request)
        await asyncio.sleep(0.2)
        if is_reset:
            request.transport.abort()
        else:
            request.transport.close()
        return socket

    async with serving(answer) as url, channel(url + QUERY) as (_, logs):
        line = await logged(logs, "channel.closed")
        async with asyncio.timeout(5):
            while len(connects) < 2:
                await asyncio.sleep(0.01)
    assert line["why"] == "the peer closed without a word"
    assert line["retry_in"] == 0.0


async def test_an_old_connection_is_closed_by_us_and_made_again_at_once():
    ends = asyncio.Queue()

    async def answer(request):
        socket = await websocket(request)
        message = await socket.receive()
        ends.put_nowait((message.type, message.data, message.extra))
        return socket

    talk = Talk()
    old = Between(0.2, 0.2)
    async with serving(answer) as url, channel(url + QUERY, talk, max_age=old) as (_, logs):
        assert await ends.get() == (WSMsgType.CLOSE, 1000, "ConnectionExpired: Reconnect to continue")
        first, second, third = [await talk.conversations.get() for _ in range(3)]
        assert first is not second is not third
        line = await logged(logs, "channel.closed")
    assert (line["retry_in"], line["log_level"]) == (0.0, "info")


async def test_an_old_connection_whose_peer_does_not_close_is_dropped():
    connects = []

    async def answer(request):
        connects.append(request.path)
        socket = await websocket(request, autoclose=False)
        while (await socket.receive()).type is not WSMsgType.CLOSE:
            continue
        await asyncio.sleep(5)
        return socket

    old = Between(0.2, 0.2)
    async with serving(answer) as url, channel(url + QUERY, max_age=old) as (_, logs):
        await logged(logs, "channel.closed")
        async with asyncio.timeout(3):
            while len(connects) < 2:
                await asyncio.sleep(0.01)


async def test_a_half_open_socket_is_noticed_and_made_anew():
    async with frozen_peer() as (url, taken):
        began = asyncio.get_running_loop().time()
        async with channel(url + QUERY, inactivity=Between(0.3, 0.6)) as (_, logs):
            line = await logged(logs, "channel.closed")
            took = asyncio.get_running_loop().time() - began
            assert "nothing was heard" in line["why"]
            assert took < 0.6 + 0.3 + 1.0  # silence, the wait for its close, slack
            async with asyncio.timeout(5):
                while len(taken) < 2:
                    await asyncio.sleep(0.01)


async def test_sending_to_a_half_open_socket_is_bounded():
    outcome = asyncio.Queue()

    async def shout(conversation):
        loop = asyncio.get_running_loop()
        sent = 0
        try:
            while True:
                began = loop.time()
                await conversation.send("x" * 1_000_000)
                sent += 1
        except ChannelClosed as error:
            outcome.put_nowait((sent, loop.time() - began, str(error)))

    async with frozen_peer() as (url, _), channel(url + QUERY, shout, write=0.5):
        sent, took, text = await outcome.get()
    assert sent < 50  # what the kernel's buffers take
    assert 0.4 < took < 2.0
    assert text == "the peer has read nothing for 0.5 s"


async def test_stopping_the_agent_tells_the_peer_and_does_not_wait_for_it():
    async with frozen_peer() as (url, _):
        async with channel(url + QUERY) as (_, logs):
            await logged(logs, "channel.connected")
            stopping = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - stopping < 1.5


async def test_the_kernel_gives_up_what_a_vanished_peer_never_confirms():
    async with serving(hold) as url, aiohttp.ClientSession() as http:
        socket = await WebsocketDialer(http, CONTROL_TIMES).dial(url + QUERY, HEADERS)
        plain = socket._websocket.get_extra_info("socket")
        assert plain.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_USER_TIMEOUT) == 180_000
        await socket.close(1000, "")


async def test_many_connections_leave_no_descriptors_behind():
    connects = []

    async def answer(request):
        connects.append(request.path)
        socket = await websocket(request)
        if len(connects) % 2:
            await socket.close(code=1001)
        else:
            request.transport.abort()
        return socket

    async def until(count):
        async with asyncio.timeout(15):
            while len(connects) < count:
                await asyncio.sleep(0.01)
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    async with serving(answer) as url, channel(url + QUERY, short=0.0):
        before = await until(20)
        after = await until(220)
    assert after <= before + 4  # a connection or two may be in the making
