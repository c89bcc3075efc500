import asyncio
import socket

import pytest
from aiohttp import web

from agent.endpoints.serving import Limits, Served


@pytest.fixture
def application():
    async def hello(_):
        return web.Response(text="hello")

    made = web.Application()
    made.router.add_get("/", hello)
    return made


def a_socket():
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    return listening, listening.getsockname()[1]


async def fetch(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    text = await reader.read()
    writer.close()
    return text


async def test_a_later_socket_of_the_same_name_replaces_the_earlier(application):
    first, first_port = a_socket()
    second, second_port = a_socket()
    other, other_port = a_socket()
    async with Served(application) as served:
        await served.listen("docker0", first)
        await served.listen("lo", other)
        assert (await fetch(first_port)).endswith(b"hello")
        await served.listen("docker0", second)
        assert served.names == ("lo", "docker0")
        assert (await fetch(second_port)).endswith(b"hello")
        assert (await fetch(other_port)).endswith(b"hello")
        with pytest.raises(ConnectionRefusedError):
            await fetch(first_port)
    with pytest.raises(ConnectionRefusedError):
        await fetch(second_port)


async def test_listening_needs_a_running_application(application):
    listening, _ = a_socket()
    with pytest.raises(RuntimeError, match="async with"):
        await Served(application).listen("lo", listening)
    listening.close()


async def test_connections_are_counted_down_when_they_end(application):
    listening, port = a_socket()
    async with Served(application, Limits(connections=2)) as served:
        await served.listen("lo", listening)
        for _ in range(10):
            assert (await fetch(port)).endswith(b"hello")
        assert not served._open
