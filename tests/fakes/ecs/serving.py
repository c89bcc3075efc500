"""A small HTTP server on a fixed loopback port, with an event loop in a thread of its own, for blocking tests."""

import asyncio
import contextlib
import ipaddress
import shutil
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

T = TypeVar("T")
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

HOST = "127.0.0.1"
_START_S = 10.0


class Certificate:
    """A certificate for loopback that vouches for itself, in a folder of its own until ``remove``."""

    def __init__(self) -> None:
        self._place = Path(tempfile.mkdtemp(prefix="stand-in-"))
        self.file = self._place / "certificate.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in")])
        now = datetime.now(UTC)
        names = [x509.IPAddress(ipaddress.ip_address(HOST)), x509.DNSName("localhost")]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        key_file = self._place / "key.pem"
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.load_cert_chain(self.file, key_file)

    def remove(self) -> None:
        """Delete the files."""
        shutil.rmtree(self._place, ignore_errors=True)


class LoopbackServer:
    """Answers HTTP on one port of loopback from ``start`` to ``stop``, on a thread of its own.

    The port is held also while nobody listens: connections are refused then, and nobody else can take it.
    """

    def __init__(self, name: str, answer: Answer, *, tls: bool = False) -> None:
        self._name = name
        self._answer = answer
        self._certificate = Certificate() if tls else None
        self._scheme = "https" if tls else "http"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._server: web.Server | None = None
        self._runner: web.ServerRunner | None = None
        self._site: web.SockSite | None = None
        self._port_holder = _bound(0)
        self.port: int = self._port_holder.getsockname()[1]
        self._reopening: asyncio.TimerHandle | None = None

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"{self._scheme}://{HOST}:{self.port}"

    @property
    def host(self) -> str:
        """Address and port, as in a ``Host`` header."""
        return f"{HOST}:{self.port}"

    @property
    def certificate_file(self) -> Path | None:
        """What a client must trust that checks certificates; None for plain HTTP."""
        return self._certificate.file if self._certificate else None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of its thread."""
        return self._loop

    def start(self) -> None:
        """Listen. Returns when connections are accepted."""
        self._thread.start()
        self.run(self._open())

    def stop(self) -> None:
        """End everything: connections, thread, port. May be repeated."""
        if self._thread.is_alive():
            self.run(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_START_S)
        if not self._loop.is_running() and not self._loop.is_closed():
            self._loop.close()
        self._port_holder.close()
        if self._certificate is not None:
            self._certificate.remove()

    def run(self, work: Coroutine[Any, Any, T], seconds: float = _START_S) -> T:
        """The result of the coroutine, done on the server's loop. Not to be called on its thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def soon(self, work: Callable[[], Any]) -> None:
        """Call that on the server's loop, and do not wait."""
        self._loop.call_soon_threadsafe(work)

    def refuse_connections(self, seconds: float | None = None) -> None:
        """Stop listening: new connections are refused. Established ones stay. Listens again after that time."""
        self.run(self._stop_listening(seconds))

    def accept_connections(self) -> None:
        """Listen again, on the same port."""
        self.run(self._listen())

    def drop_connections(self, *, reset: bool = False) -> int:
        """End every established connection without a word; how many there were. ``reset``: with RST."""
        return self.run(self._drop(reset))

    # -- on the server's thread ----------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _open(self) -> None:
        # Cancelled when the client goes: nobody waits out a slow answer that nobody wants.
        self._server = web.Server(self._answer, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=0.2)
        await self._runner.setup()
        await self._listen()

    async def _listen(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
        if self._site is None and self._runner is not None:
            context = self._certificate.context if self._certificate else None
            self._site = web.SockSite(self._runner, _bound(self.port), ssl_context=context)
            await self._site.start()

    async def _stop_listening(self, seconds: float | None) -> None:
        if self._site is not None:
            await self._site.stop()
            self._site = None
        if seconds is not None:
            self._reopening = self._loop.call_later(seconds, self._reopen)

    def _reopen(self) -> None:
        self._reopening = None
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop)

    async def _drop(self, reset: bool) -> int:
        transports = [
            each.transport
            for each in (self._server.connections if self._server else ())
            if each.transport is not None
        ]
        for transport in transports:
            abort(transport, reset=reset)
        await asyncio.sleep(0)
        return len(transports)

    async def _close(self) -> None:
        await self._stop_listening(None)
        if self._reopening is not None:
            self._reopening.cancel()
        await self._drop(reset=False)
        if self._runner is not None:
            await self._runner.cleanup()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()


def abort(transport: asyncio.BaseTransport, *, reset: bool = False) -> None:
    """End a connection without a word, with RST instead of FIN if asked."""
    # A transport over TLS that is closed does not know its socket any more, and fails when asked.
    connection = transport.get_extra_info("socket") if reset and not transport.is_closing() else None
    if connection is not None:
        with contextlib.suppress(OSError):  # it has just gone by itself
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()
    else:
        transport.close()


def _bound(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # With this on both, a port may be bound twice as long as only one of them listens.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((HOST, port))
    except OSError:
        made.close()
        raise
    return made
