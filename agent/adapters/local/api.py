"""The ECS JSON API over HTTP: who may speak, what was asked, what is answered. Loopback only, signed only."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import structlog
from aiohttp import web

from agent.adapters.local.database import DatabaseFailed
from agent.adapters.local.errors import AccessDenied, ApiError, ServerFault, UnknownOperation, Unreadable
from agent.adapters.local.operations import OPERATIONS
from agent.adapters.local.records import Document, epoch
from agent.adapters.local.shapes import Shapes
from agent.adapters.local.signatures import Verifier
from agent.ports.clock import Clock

log = structlog.get_logger()

CONTENT_TYPE = "application/x-amz-json-1.1"
LARGEST_BODY = 1024 * 1024
_HOSTS = frozenset({"127.0.0.1", "localhost"})
_TARGET_PREFIX = "AmazonEC2ContainerServiceV20141113"

Perform = Callable[[str, Document], Awaitable[Document]]
"""Carries out a checked request of the named operation in one transaction."""


class Api:
    """The application's handlers. ``perform`` does the work; everything else here is the border."""

    def __init__(self, verifier: Verifier, clock: Clock, perform: Perform) -> None:
        self._verifier = verifier
        self._clock = clock
        self._perform = perform
        self._shapes: Shapes | None = None
        self._loading = asyncio.Lock()

    def application(self) -> web.Application:
        """The aiohttp application. It answers every path: who asks is checked before what is asked."""
        application = web.Application(client_max_size=LARGEST_BODY)
        application.router.add_route("*", "/{path:.*}", self._handle)
        return application

    async def _handle(self, request: web.Request) -> web.Response:
        request_id = str(uuid.uuid4())
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        try:
            answer = await self._answer(request)
        except ApiError as refusal:
            if refusal.status >= 500 or isinstance(refusal, AccessDenied):  # noqa: PLR2004 the HTTP class
                log.warning(
                    "request.refused", operation=operation[:64], error=refusal.kind, problem=str(refusal)
                )
            return _response({"__type": refusal.kind, "message": str(refusal)}, request_id, refusal.status)
        except DatabaseFailed as failure:
            return _response(
                {"__type": ServerFault.kind, "message": str(failure)}, request_id, ServerFault.status
            )
        except web.HTTPRequestEntityTooLarge:
            message = f"The body is too large, expected at most {LARGEST_BODY} bytes"
            return _response({"__type": Unreadable.kind, "message": message}, request_id, 413)
        except Exception:
            # A bug in one operation must not close the connection without an answer.
            log.exception("request.crashed", operation=operation[:64], request_id=request_id)
            message = f"Internal error; the agent's log has the details of request {request_id}"
            return _response({"__type": ServerFault.kind, "message": message}, request_id, ServerFault.status)
        return _response(answer, request_id, 200)

    async def _answer(self, request: web.Request) -> Document:
        _check_origin(request)
        body = await request.read()
        host = request.headers["Host"]
        self._verifier.check("POST", f"http://{host}/", request.headers, body, self._clock.now())
        prefix, _, operation = request.headers.get("X-Amz-Target", "").rpartition(".")
        if prefix != _TARGET_PREFIX:
            raise UnknownOperation(
                f"X-Amz-Target {request.headers.get('X-Amz-Target', '')[:128]!r}: "
                f"expected {_TARGET_PREFIX}. and the name of an operation"
            )
        if operation not in OPERATIONS:
            raise UnknownOperation(
                f"{operation[:128]}: not supported by berth; supported are {', '.join(sorted(OPERATIONS))}"
            )
        shapes = self._shapes or await self._load_shapes()
        return await self._perform(operation, shapes.request(operation, _parsed(body)))

    async def _load_shapes(self) -> Shapes:
        """The description of the API; read once, when first needed, in a thread: it takes 50 ms and 3 MiB."""
        async with self._loading:
            if self._shapes is None:
                self._shapes = await asyncio.to_thread(Shapes, tuple(OPERATIONS))
            return self._shapes


def _check_origin(request: web.Request) -> None:
    """Refuse what a browser could have been tricked into sending. Raise ``AccessDenied``."""
    hosts = request.headers.getall("Host", [])
    name, _, port = (hosts[0] if len(hosts) == 1 else "").partition(":")
    # A foreign name that resolves to this machine is how web pages reach local servers (DNS rebinding).
    if name.lower() not in _HOSTS or (port and not port.isdecimal()):
        raise AccessDenied(f"Host {', '.join(hosts)[:128]!r}: expected 127.0.0.1 or localhost")
    for header in ("Origin", "Sec-Fetch-Site"):
        if header in request.headers:
            raise AccessDenied(f"{header} is not allowed: this API does not serve browsers")
    if request.method != "POST":
        raise AccessDenied(f"method {request.method}: expected POST")
    if request.raw_path != "/":
        raise AccessDenied(f"path {request.raw_path[:128]!r}: expected /")


def _parsed(body: bytes) -> Document:
    try:
        parsed = json.loads(body or b"{}")
        # JSON can write half of a surrogate pair; neither SQLite nor Docker can.
        json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"The body is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise Unreadable(f"The body is a JSON {type(parsed).__name__}, expected an object")
    return parsed


def _response(content: Document, request_id: str, status: int) -> web.Response:
    return web.Response(
        body=json.dumps(content, default=_time, separators=(",", ":")).encode(),
        status=status,
        headers={"Content-Type": CONTENT_TYPE, "x-amzn-RequestId": request_id},
    )


def _time(value: Any) -> float:
    if isinstance(value, datetime):
        return epoch(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
