"""Peers of a channel on real sockets of this machine, and a channel with times in hundredths of seconds."""

import asyncio
import base64
import hashlib
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import aiohttp
from aiohttp import web
from structlog.testing import capture_logs

from agent.adapters.clock import SystemClock
from agent.adapters.ecs.channel import CONTROL_TIMES, Channel
from agent.adapters.ecs.channel_times import BackOffRule, Between
from tests.agent.adapters.ecs.channel_world import FakeHealth, FakeSigner

QUERY = "/ws?clusterArn=a%2Fb&dockerVersion=DockerVersion%3A+25.0.8&seqNum=1"
HOUR = Between(3600.0, 3600.0)
SHORT = replace(
    CONTROL_TIMES,
    back_off=BackOffRule(0.02, 0.1, 1.5, 0.2),
    connect=2.0,
    handshake=2.0,
    inactivity=HOUR,
    max_age=HOUR,
    read=3600.0,
    at_once=Between(0.0, 0.0),
    short=0.05,
    closing=0.3,
    linger=0.3,
    tolerated=0.3,
)


@asynccontextmanager
async def serving(answer, *, certificate=None):
    """An HTTP server on a free port of loopback; yields its URL without a path."""
    server = web.Server(answer, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate.context if certificate else None)
    await site.start()
    try:
        port = site._server.sockets[0].getsockname()[1]
        yield f"{'wss' if certificate else 'ws'}://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


class Talk:
    """What the channel's conversations did, as events that a test can wait for."""

    def __init__(self):
        self.heard = asyncio.Queue()
        self.conversations = asyncio.Queue()

    async def __call__(self, conversation):
        self.conversations.put_nowait(conversation)
        async for text in conversation.texts():
            conversation.active()
            self.heard.put_nowait(text)


@asynccontextmanager
async def channel(url, converse=None, *, trust_env=False, connector=None, **changes):
    """A running channel and the lines that it logs."""

    async def give():
        return url

    signer = FakeSigner()
    async with aiohttp.ClientSession(trust_env=trust_env, connector=connector) as http:
        made = Channel(
            "control", url=give, signer=signer, http=http, converse=converse or Talk(), on_inactive=lambda: None,
            times=replace(SHORT, **changes), clock=SystemClock(), health=FakeHealth(), random=Random(3),
        )  # fmt: skip
        made.signer = signer
        with capture_logs() as logs:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(made.run())
                try:
                    async with asyncio.timeout(20):
                        yield made, logs
                    assert not running.done()
                finally:
                    running.cancel()


async def logged(logs, event):
    """The first line of that event, once there is one."""
    async with asyncio.timeout(10):
        while True:
            for line in logs:
                if line["event"] == event:
                    return line
            await asyncio.sleep(0.01)


async def websocket(request, **options):
    socket = web.WebSocketResponse(**options)
    await socket.prepare(request)
    return socket


async def hold(request):
    """Take the websocket, and stay until the client goes."""
    socket = await websocket(request)
    async for _ in socket:
        continue
    return socket


@asynccontextmanager
async def raw(talk):
    """A server that speaks no HTTP of its own; yields its URL without a path."""
    open_writers = []

    async def serve(reader, writer):
        open_writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        await talk(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in open_writers:
            writer.close()


@asynccontextmanager
async def frozen_peer():
    """Takes the upgrade, then neither reads, writes nor closes: as behind a pulled cable."""
    taken = []

    async def talk(reader, writer):
        taken.append(writer)
        writer.transport.pause_reading()

    async def serve(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key"))
        digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()  # noqa: S324 - RFC 6455
        accept = base64.b64encode(digest).decode()
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        await talk(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", taken
    finally:
        server.close()
        for writer in taken:
            writer.transport.abort()
