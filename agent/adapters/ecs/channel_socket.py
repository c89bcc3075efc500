"""Dials a websocket and moves frames. What the frames mean, and how long to wait, is decided elsewhere."""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import aiohttp
from aiohttp import ClientWebSocketResponse, WSCloseCode, WSMsgType
from aiohttp.http_websocket import WebSocketError
from yarl import URL

from agent.adapters.ecs.channel_refusals import read_refusal, shown
from agent.adapters.ecs.channel_times import ChannelTimes
from agent.adapters.ecs.proxies import proxy_for
from agent.model.errors import BackendUnavailable

LARGEST_MESSAGE = 4 * 1024 * 1024
"""Bytes of one message. The largest payload that ECS sends is far below."""

_LARGEST_REFUSAL = 16 * 1024
_NO_CODE = 1005  # RFC 6455, 7.1.5: a close frame without a code


class CannotDial(BackendUnavailable):
    """There is no connection: name, network, proxy, TLS, or an answer that is no HTTP. No secret in it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of the peer. ``is_text`` False: it came in a binary frame."""

    text: str
    is_text: bool = True


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection's end. ``code`` None: it ended without a close frame."""

    code: int | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """The peer did not keep to the websocket protocol, or sent more than is read."""

    reason: str


class Socket(Protocol):
    """One open websocket. ``receive`` is called by one task at a time."""

    async def receive(self) -> Frame | Closed | Broken:
        """What comes next. Answers pings itself; they are never seen. Waits without a limit."""

    async def send(self, payload: bytes) -> None:
        """Send one text frame. Waits while the peer does not read. Raise ``OSError``."""

    async def close(self, code: int, text: str) -> None:
        """Say why, wait a moment for the peer's half, and let go. Idempotent; a waiting ``receive`` ends."""


class Dialer(Protocol):
    """Opens websockets."""

    async def dial(self, url: str, headers: Mapping[str, str]) -> Socket:
        """Connect to a ``ws`` or ``wss`` URL. Raise ``CannotDial`` or ``HandshakeRefused``."""


class WebsocketDialer:
    """Dials with the connections and TLS rules of ``http``, and through the environment's proxy if it may."""

    def __init__(self, http: aiohttp.ClientSession, times: ChannelTimes) -> None:
        self._http = http
        self._times = times

    async def dial(self, url: str, headers: Mapping[str, str]) -> Socket:
        """Connect within ``times.connect`` and hear an answer within ``times.handshake``, both in seconds."""
        # The query goes out as it was signed: yarl would write it anew.
        target = URL(url.replace("ws", "http", 1), encoded=True)
        whole = self._times.connect + self._times.handshake
        try:
            async with asyncio.timeout(whole):
                return await self._dial(target, dict(headers))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CannotDial(shown(_reason(error, target, self._times), headers.values())) from None

    async def _dial(self, target: URL, headers: dict[str, str]) -> Socket:
        proxy, login = proxy_for(target) if self._http.trust_env else (None, "")
        if login and target.scheme == "http":
            headers["Proxy-Authorization"] = login  # no tunnel: the proxy reads this request itself

        async def look(
            request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            response = await send(request)
            if response.status == 101:  # noqa: PLR2004 the HTTP status
                return response
            try:
                body = await _beginning(response)
            finally:
                response.close()
            raise read_refusal(response.status, response.headers, body, headers.values())

        # A session of its own on the same connector: this middleware reads refusals and sees redirects
        # before they are followed, and no netrc file can spoil the signed headers.
        async with aiohttp.ClientSession(
            connector=self._http.connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._http.headers,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=self._times.connect, sock_read=self._times.handshake
            ),
            middlewares=(look,),
        ) as dialling:
            websocket = await dialling.ws_connect(
                target,
                headers=headers,
                proxy=proxy,
                proxy_headers={"Proxy-Authorization": login} if login else None,
                max_msg_size=LARGEST_MESSAGE,
                timeout=aiohttp.ClientWSTimeout(ws_close=self._times.closing),
                decode_text=False,
            )
        _give_up_on_silence(websocket, self._times.write)
        return AiohttpSocket(websocket, self._times.closing)


class AiohttpSocket:
    """``Socket`` over aiohttp. ``closing``: seconds for the peer's half of a close."""

    def __init__(self, websocket: "ClientWebSocketResponse[bool]", closing: float) -> None:
        self._websocket = websocket
        self._closing = closing

    async def receive(self) -> Frame | Closed | Broken:
        """What comes next. Bytes that are no UTF-8 are replaced: one odd letter costs no connection."""
        try:
            message = await self._websocket.receive()
        except (aiohttp.ClientError, OSError) as error:
            # a pong that cannot be sent
            return Closed(None, shown(str(error)))
        match message.type:
            case WSMsgType.TEXT | WSMsgType.BINARY:
                text = bytes(message.data).decode(errors="replace")
                return Frame(text, is_text=message.type is WSMsgType.TEXT)
            case WSMsgType.CLOSE:
                return Closed(message.data or _NO_CODE, shown(str(message.extra or "")))
            case WSMsgType.ERROR:
                return Broken(_fault(message.data))
            case _:
                return Closed(None)

    async def send(self, payload: bytes) -> None:
        """Send one text frame (ecs-protocol 2.2; also with the prefix of 3.1)."""
        try:
            await self._websocket.send_frame(payload, WSMsgType.TEXT)
        except aiohttp.ClientError as error:
            raise ConnectionResetError(shown(str(error))) from error

    async def close(self, code: int, text: str) -> None:
        """Send a close frame and wait for the peer's, both within ``closing`` seconds, then drop it."""
        try:
            async with asyncio.timeout(self._closing):
                await self._websocket.close(code=code, message=text.encode())
        except (TimeoutError, aiohttp.ClientError, OSError):
            return  # the peer does not take its leave; aiohttp has let go of the socket


def _fault(error: object) -> str:
    if isinstance(error, WebSocketError) and error.code == WSCloseCode.MESSAGE_TOO_BIG:
        return f"a message is larger than {LARGEST_MESSAGE} bytes"
    return shown(str(error)) or type(error).__name__


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    while len(body) < _LARGEST_REFUSAL:
        part = await response.content.read(_LARGEST_REFUSAL - len(body))
        if not part:
            break
        body += part
    return body


def _give_up_on_silence(websocket: "ClientWebSocketResponse[bool]", seconds: float) -> None:
    """Let the kernel drop what a vanished peer never confirms, also after we have closed."""
    plain = websocket.get_extra_info("socket")
    if plain is not None and plain.family in (socket.AF_INET, socket.AF_INET6):
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def _reason(error: Exception, target: URL, times: ChannelTimes) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"the certificate of {target.host} is not trusted: {error.certificate_error}"
        case aiohttp.ClientProxyConnectionError():
            return f"the proxy cannot be reached: {error}"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy refuses the tunnel to {target.host}: {error.status} {error.message}"
        case aiohttp.WSServerHandshakeError():
            return f"{target.host} does not speak websocket: {error.message}"
        case aiohttp.ConnectionTimeoutError():
            return f"{target.host} cannot be reached: no connection within {times.connect:g} s"
        case aiohttp.SocketTimeoutError() | TimeoutError():
            return f"{target.host} does not answer the handshake within {times.handshake:g} s"
        case aiohttp.ServerDisconnectedError():
            return f"{target.host} hung up during the handshake"
        case _:
            return str(error) or type(error).__name__
