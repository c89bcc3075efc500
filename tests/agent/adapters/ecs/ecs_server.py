"""An ECS API for tests: real HTTP on loopback, every signature verified, answers as a test says."""

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from agent.adapters.ecs.api import EcsApi
from agent.adapters.ecs.keys import Keys
from agent.adapters.ecs.signing import Signer
from tests.fakes.clock import NOON, FakeClock
from tests.fakes.ecs.signatures import KeyPair, SignatureRefused, Verifier

REGION = "us-west-2"
USER_AGENT = "Amazon ECS Agent - v0.1.0 (*0123abcd) (linux; LINUX) (+http://aws.amazon.com/ecs/)"
SECRET = "fake-secret-of-the-instance"
TOKEN = "fake-token-of-the-instance/+=" + "x" * 300
KEYS = Keys("EXAMPLEKEYID1", SECRET, TOKEN)
NEWER = Keys("EXAMPLEKEYID2", "fake-secret-two", "fake-token-two")


class HeldKeys:
    """A source of keys that are given in turn: the next ones after each ``invalidate``."""

    def __init__(self, *keys):
        self.keys = list(keys) or [KEYS]
        self.invalidated = 0

    async def current(self):
        return self.keys[0]

    def invalidate(self):
        self.invalidated += 1
        if len(self.keys) > 1:
            self.keys.pop(0)


@dataclass
class Got:
    """A request as it came."""

    headers: dict
    body: dict
    signed: tuple


class EcsServer:
    """``answers``: what is said in turn, then ``{}`` for ever. An answer is a dict (200) or a coroutine function."""

    def __init__(self, clock=None):
        self.answers = []
        self.got = []
        self.clock = clock or FakeClock()
        self.date = None
        self.known = {
            one.access_key_id: KeyPair(one.access_key_id, one.secret_access_key, one.token)
            for one in (KEYS, NEWER)
        }

    async def answer(self, request):
        body = await request.read()
        verifier = Verifier(self.known, REGION, self.clock.now)
        try:
            signed = verifier.check(request.method, request.path, request.query_string, request.headers, body)
        except SignatureRefused as refused:
            self.got.append(Got(dict(request.headers), json.loads(body), ()))
            return self.error(400, refused.code, str(refused))
        self.got.append(Got(dict(request.headers), json.loads(body), signed.signed_headers))
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, dict):
            return self.json(200, answer)
        return await answer(request)

    def json(self, status, document, **headers):
        response = web.Response(
            status=status,
            body=json.dumps(document).encode(),
            content_type="application/x-amz-json-1.1",
            headers=headers,
        )
        now = self.clock.now().strftime("%a, %d %b %Y %H:%M:%S GMT")
        response.headers["Date"] = now if self.date is None else self.date
        return response

    def error(self, status, code, message="because"):
        return self.json(status, {"__type": code, "message": message})


def refusing(server, status, code, message="because"):
    """An answer for ``EcsServer.answers``."""

    async def answer(_):
        return server.error(status, code, message)

    return answer


def saying(status, body, **headers):
    """A raw answer."""

    async def answer(_):
        return web.Response(status=status, body=body, headers=headers)

    return answer


@dataclass
class Stage:
    server: EcsServer
    api: EcsApi
    keys: HeldKeys
    signer: Signer
    clock: FakeClock
    url: str
    http: aiohttp.ClientSession


@asynccontextmanager
async def staged(*keys, behind=timedelta(0), **options):
    """A server and a client. ``behind``: how much the client's clock lags behind the server's."""
    server = EcsServer(FakeClock(NOON + timedelta(days=30)))
    clock = FakeClock((NOON + timedelta(days=30) - behind).astimezone(UTC))
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    held = HeldKeys(*keys)
    signer = Signer(held, REGION, clock)
    async with TestServer(application, host="127.0.0.1") as listening, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{listening.port}"
        options = {"pause": lambda _: 0.0, **options}
        api = EcsApi(endpoint=url, region=REGION, signer=signer, http=http, user_agent=USER_AGENT, **options)
        yield Stage(server, api, held, signer, clock, url, http)


def at(text):
    """A time such as ``2026-11-21T01:59:17``, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
