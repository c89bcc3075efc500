"""A channel among stand-ins: sockets without a network, a signer without keys, a health board that remembers."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from random import Random

from agent.adapters.ecs.channel import CONTROL_TIMES, Channel
from agent.adapters.ecs.channel_socket import Closed, Frame

TOKEN = "fake-secret-session-token-of-the-instance"
SIGNATURE = "f00dfeed" * 8
HEADERS = {
    "Authorization": f"AWS4-HMAC-SHA256 Credential=EXAMPLEKEYID/x/ecs/aws4_request, Signature={SIGNATURE}",
    "X-Amz-Date": "20260101T120000Z",
    "X-Amz-Security-Token": TOKEN,
}
URL = "wss://control.example/ws?agentHash=abcd1234&dockerVersion=DockerVersion%3A+25.0.8&seqNum=1"


class FakeSigner:
    def __init__(self):
        self.urls = []
        self.dates = []
        self.forgotten = 0
        self.is_clock_wrong = False
        self.failure = None

    async def handshake(self, url):
        self.urls.append(url)
        if self.failure is not None:
            raise self.failure
        return dict(HEADERS)

    def note_server_time(self, date_header):
        self.dates.append(date_header)
        return self.is_clock_wrong

    def forget_keys(self):
        self.forgotten += 1


class FakeHealth:
    def __init__(self):
        self.reports = []

    def report(self, component, problem):
        if not self.reports or self.reports[-1] != (component, problem):
            self.reports.append((component, problem))

    @property
    def problem(self):
        return self.reports[-1][1] if self.reports else None


class FakeSocket:
    """Hears what a test puts into ``coming``; its peer answers our close at once."""

    def __init__(self):
        self.coming = asyncio.Queue()
        self.sent = []
        self.closed_with = []
        self.is_stuck = False

    async def receive(self):
        return await self.coming.get()

    async def send(self, payload):
        if self.is_stuck:
            await asyncio.Event().wait()
        self.sent.append(payload)

    async def close(self, code, text):
        self.closed_with.append((code, text))
        self.coming.put_nowait(Closed(None))

    def say(self, *texts):
        for text in texts:
            self.coming.put_nowait(Frame(text))

    def end(self, code=None, reason=""):
        self.coming.put_nowait(Closed(code, reason))


class FakeDialer:
    """``answer(number)`` gives a socket, or raises, for each dial; ``dials`` are the times of all."""

    def __init__(self, answer):
        self.answer = answer
        self.dials = []
        self.urls = []
        self.sockets = []

    async def dial(self, url, headers):
        assert headers == HEADERS
        self.dials.append(asyncio.get_running_loop().time())
        self.urls.append(url)
        socket = self.answer(len(self.dials))
        self.sockets.append(socket)
        return socket


class World:
    """One channel. ``heard``: every text of every conversation; ``pauses``: what ``dialer.dials`` are apart."""

    def __init__(
        self, jumping, answer=lambda _: FakeSocket(), *, name="control", times=CONTROL_TIMES, **changes
    ):
        self.jumping = jumping
        self.signer = FakeSigner()
        self.health = FakeHealth()
        self.dialer = FakeDialer(answer)
        self.heard = []
        self.conversations = []
        self.inactive_at = []
        self.url_failure = None
        parts = {
            "url": self.url,
            "signer": self.signer,
            "http": None,
            "converse": self.converse,
            "on_inactive": self.on_inactive,
            "times": replace(times, **changes),
            "clock": jumping.clock,
            "health": self.health,
            "dialer": self.dialer,
            "random": Random(7),
        }
        self.name = name
        self.parts = parts
        self.channel = None

    async def url(self):
        if self.url_failure is not None:
            raise self.url_failure
        return URL

    async def converse(self, conversation):
        """Understands every text, and answers each with ``ack``."""
        self.conversations.append(conversation)
        async for text in conversation.texts():
            conversation.active()
            self.heard.append(text)
            await conversation.send("ack " + text)

    def on_inactive(self):
        self.inactive_at.append(asyncio.get_running_loop().time())

    @property
    def now(self):
        return asyncio.get_running_loop().time()

    @property
    def pauses(self):
        dials = self.dialer.dials
        return [after - before for before, after in pairwise(dials)]

    @property
    def socket(self):
        return self.dialer.sockets[-1]

    def live(self, story, **parts):
        """Run ``story()`` beside the channel; the channel must not have ended by itself."""

        async def both():
            self.channel = Channel(self.name, **(self.parts | parts))
            async with asyncio.TaskGroup() as group:
                running = group.create_task(self.channel.run())
                await asyncio.sleep(0)
                await story()
                assert not running.done()
                running.cancel()

        self.jumping.run(both())

    def live_for(self, seconds, **parts):
        async def wait():
            await asyncio.sleep(seconds)

        self.live(wait, **parts)


def talking(socket, every=30.0):
    """A socket whose peer says something now and then, for ever."""

    async def receive():
        await asyncio.sleep(every)
        return Frame("tick")

    socket.receive = receive
    return socket


def closing(code, after=0.0, reason=""):
    """Sockets whose peer closes after some seconds."""

    def answer(_):
        socket = FakeSocket()

        async def receive():
            await asyncio.sleep(after)
            return Closed(code, reason)

        socket.receive = receive
        return socket

    return answer
