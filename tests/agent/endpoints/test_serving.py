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


async def test_hundreds_that_waited_while_nobody_served_are_all_answered(application):
    listening, port = a_socket()
    listening.listen(512)
    waiting = []
    for _ in range(400):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        waiting.append((reader, writer))
    async with Served(application, Limits(connections=128)) as served:
        await served.listen("lo", listening)
        answers = await asyncio.gather(*(reader.read() for reader, _ in waiting))
    for _, writer in waiting:
        writer.close()
    assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 200 OK"}


async def test_at_the_end_a_request_that_is_being_answered_is_answered():
    began = asyncio.Event()

    async def slow(_):
        began.set()
        await asyncio.sleep(0.3)
        return web.Response(text="slow")

    application = web.Application()
    application.router.add_get("/", slow)
    listening, port = a_socket()
    async with Served(application) as served:
        await served.listen("lo", listening)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(fetch(port))
            await began.wait()
            await served.__aexit__(None, None, None)
            assert (await asking).endswith(b"slow")


async def test_at_the_end_who_has_just_connected_and_not_yet_spoken_is_answered(application):
    listening, port = a_socket()
    async with Served(application) as served:
        await served.listen("lo", listening)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
        async with asyncio.TaskGroup() as group:
            group.create_task(served.__aexit__(None, None, None))
            await asyncio.sleep(0.1)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).endswith(b"hello")
    writer.close()


async def test_who_never_speaks_does_not_hold_up_the_end(application):
    listening, port = a_socket()
    loop = asyncio.get_running_loop()
    async with Served(application) as served:
        await served.listen("lo", listening)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
        began = loop.time()
    assert loop.time() - began < 2
    writer.close()


async def test_at_the_end_a_socket_that_somebody_else_has_goes_on_listening(application):
    listening, port = a_socket()
    kept = listening.dup()
    async with Served(application) as served:
        await served.listen("lo", listening)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    async with Served(application) as served:
        await served.listen("lo", kept)
        assert (await reader.read()).endswith(b"hello")
    writer.close()
