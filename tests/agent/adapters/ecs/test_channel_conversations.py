import asyncio

import pytest
from structlog.testing import capture_logs

from agent.adapters.ecs.channel_session import ChannelClosed
from agent.adapters.ecs.channel_socket import CannotDial, Frame
from agent.adapters.ecs.channel_times import Between
from agent.model.errors import CredentialsUnavailable
from tests.agent.adapters.ecs.channel_world import FakeSocket, World, closing

NEVER = Between(10.0**9, 10.0**9)


def test_texts_arrive_in_order_and_answers_go_out_as_bytes(jumping):
    world = World(jumping)

    async def story():
        world.socket.say(*(str(number) for number in range(100)))
        world.socket.coming.put_nowait(Frame("binary", is_text=False))
        await asyncio.sleep(1)

    with capture_logs() as logs:
        world.live(story)
    assert world.heard == [*(str(number) for number in range(100)), "binary"]
    assert world.dialer.sockets[0].sent[:2] == [b"ack 0", b"ack 1"]
    assert [line["found"] for line in logs if line["event"] == "frame.misdeclared"] == ["binary"]


def test_what_arrived_before_the_close_is_still_heard(jumping):
    world = World(jumping)

    async def slow(conversation):
        async for text in conversation.texts():
            conversation.active()
            await asyncio.sleep(0.5)
            world.heard.append(text)

    async def story():
        world.socket.say("a", "b", "c")
        world.socket.end(1000)
        await asyncio.sleep(20)

    world.live(story, converse=slow)
    assert world.heard == ["a", "b", "c"]


def test_a_conversation_that_is_behind_stops_the_reading(jumping):
    world = World(jumping, inactivity=NEVER, read=10.0**9)

    async def busy(conversation):
        async for text in conversation.texts():
            world.heard.append(text)
            await asyncio.sleep(10**6)

    async def story():
        world.socket.say(*(str(number) for number in range(100)))
        await asyncio.sleep(60)
        assert world.socket.coming.qsize() >= 100 - 10

    world.live(story, converse=busy)


def numbers(logs):
    return [line["number"] for line in logs if line["event"] == "channel.connected"]


def test_connections_are_counted_from_one(jumping):
    world = World(jumping, closing(1000, after=10.0))
    with capture_logs() as logs:
        world.live_for(35)
    assert len(world.conversations) >= 3
    assert numbers(logs) == list(range(1, len(world.conversations) + 1))


def test_a_failed_dial_does_not_count_as_a_connection(jumping):
    def answer(number):
        if number < 4:
            raise CannotDial("no route")
        return FakeSocket()

    world = World(jumping, answer)
    with capture_logs() as logs:
        world.live_for(10)
    assert len(world.conversations) == 1
    assert numbers(logs) == [1]


def test_a_crash_of_the_conversation_costs_the_connection_and_is_logged_with_its_trace(jumping):
    world = World(jumping)

    async def broken(conversation):
        raise KeyError("no such thing")

    with capture_logs() as logs:
        world.live_for(600, converse=broken)
    crashes = [line for line in logs if line["event"] == "conversation.crashed"]
    assert 10 < len(crashes) < 25
    assert crashes[0]["exc_info"]
    assert all(socket.closed_with == [(1000, "")] for socket in world.dialer.sockets)


def test_an_error_that_says_something_is_told_without_a_trace(jumping):
    world = World(jumping)

    async def failing(conversation):
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    async def fail():
        raise CredentialsUnavailable("no instance role")

    with capture_logs() as logs:
        world.live_for(1, converse=failing)
    assert {line["event"] for line in logs} == {"channel.connected", "channel.closed"}


def test_a_conversation_that_ends_closes_the_connection(jumping):
    world = World(jumping)

    async def short(conversation):
        await asyncio.sleep(20)

    world.live_for(65, converse=short)
    assert len(world.dialer.dials) == 4
    assert all(20.0 <= pause <= 21.0 for pause in world.pauses)


def test_a_conversation_that_does_not_notice_the_end_is_cancelled(jumping):
    world = World(jumping, closing(1000, after=10.0))
    ended = []

    async def stubborn(conversation):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(world.now)

    world.live_for(40, converse=stubborn)
    assert ended[0] == pytest.approx(15.0)
    assert len(world.dialer.dials) == 3


def test_sending_after_the_end_says_so(jumping):
    world = World(jumping)
    failures = []

    async def late(conversation):
        async for _ in conversation.texts():
            continue
        try:
            await conversation.send("late")
        except ConnectionError as error:
            failures.append(str(error))

    async def story():
        world.socket.end(1001, "going away")
        await asyncio.sleep(5)

    world.live(story, converse=late)
    assert failures[0] == "the connection has ended: the peer closed with 1001: going away"
    assert world.dialer.sockets[0].sent == []


def test_sending_to_a_peer_that_reads_nothing_ends_after_three_minutes(jumping):
    world = World(jumping, inactivity=NEVER, read=10.0**9)
    outcomes = []

    async def send(conversation):
        try:
            await conversation.send("x")
        except ChannelClosed:
            outcomes.append(world.now)

    async def shouting(conversation):
        world.socket.is_stuck = True
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(send(conversation))

    with capture_logs() as logs:
        world.live_for(200, converse=shouting)
    assert outcomes == [180.0] * 3  # also those that waited behind the first
    assert logs[1]["why"] == "the peer has read nothing for 180 s"


def test_a_send_that_fails_ends_the_connection(jumping):
    world = World(jumping)

    async def story():
        async def fail(payload):
            raise ConnectionResetError("reset by peer")

        world.socket.send = fail
        world.socket.say("hello")
        await asyncio.sleep(10)

    with capture_logs() as logs:
        world.live(story)
    assert [line["event"] for line in logs] == [
        "channel.connected",
        "channel.closed",
        "channel.connected",
    ] + ["channel.closed"] * (len(logs) - 3)
    assert len(world.dialer.dials) == 2
