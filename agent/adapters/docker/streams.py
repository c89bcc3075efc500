"""Reads a response without end in a thread and hands its parts to an async iterator."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Generic, TypeVar

import requests
from docker import APIClient
from docker.types import CancellableStream

from agent.adapters.docker.connection import Connection
from agent.adapters.docker.errors import refusal_in, translated
from agent.model.errors import RuntimeUnavailable

T = TypeVar("T")


class Stream(Generic[T]):
    """One response that is read. ``parse`` runs in the thread; at most ``ahead`` parts wait for the reader.

    ``open_limit``: how long the daemon may take to begin its answer. After that it may be silent for ever;
    whoever needs to know whether it lives asks it with ``Connection.ping``.
    """

    def __init__(
        self,
        connection: Connection,
        host: str,
        request: Callable[[APIClient, float], requests.Response],
        parse: Callable[[requests.Response], Iterator[T]],
        *,
        open_limit: timedelta,
        ahead: int,
    ) -> None:
        self._connection = connection
        self._host = host
        self._request = request
        self._parse = parse
        self._open_limit = open_limit
        self._free = threading.Semaphore(ahead)
        self._lock = threading.Lock()
        self._response: requests.Response | None = None
        self._is_closed = False
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._parts: asyncio.Queue[tuple[T] | None] = asyncio.Queue()
        self._error: BaseException | None = None

    async def open(self) -> None:
        """Begin. Returns when the daemon has begun to answer. Raise ``RuntimeUnavailable``."""
        self._connection.background(self._read)
        try:
            async with asyncio.timeout(self._open_limit.total_seconds()):
                await asyncio.shield(self._opened)
        except TimeoutError as error:
            self.close()
            raise RuntimeUnavailable(f"Docker at {self._host} does not answer: no stream begins") from error
        except BaseException:
            self.close()
            raise
        self._raise_error()

    async def parts(self) -> AsyncIterator[T]:
        """Yield what comes, until the stream ends. Raise ``RuntimeUnavailable`` when it breaks."""
        while True:
            part = await self.next(None)
            if part is None:
                return
            yield part[0]

    async def next(self, patience: timedelta | None) -> tuple[T] | None:
        """The next part, in a tuple; None at the end. Raise ``TimeoutError`` after ``patience``."""
        seconds = None if patience is None else patience.total_seconds()
        async with asyncio.timeout(seconds):
            part = await self._parts.get()
        if part is None:
            self._parts.put_nowait(None)
            self._raise_error()
            return None
        self._free.release()
        return part

    def close(self) -> None:
        """Stop reading; the thread ends at once. May be called twice."""
        with self._lock:
            self._is_closed = True
            response = self._response
        self._free.release()
        if response is not None:
            shut(response)

    # -- in the thread -------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            client = self._connection.client(self._open_limit)
            response = self._request(client, self._open_limit.total_seconds())
            with self._lock:
                self._response = response
                is_closed = self._is_closed
            if not is_closed:
                try:
                    response.raise_for_status()
                except requests.HTTPError as error:
                    raise refusal_in(error) from error
                wait_for_ever(response)
                self._post(self._open_done)
                for part in self._parse(response):
                    self._free.acquire()
                    if self._is_closed:
                        break
                    self._post(self._parts.put_nowait, (part,))
            response.close()
        except BaseException as error:  # noqa: BLE001 # it belongs to the reader, in the loop's thread
            self._error = error
        self._post(self._ended)

    def _post(self, function: Callable[..., object], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(function, *arguments)

    # -- in the loop ---------------------------------------------------------------------------

    def _open_done(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def _ended(self) -> None:
        self._open_done()
        self._parts.put_nowait(None)

    def _raise_error(self) -> None:
        if self._error is not None and not self._is_closed:
            with translated(None, self._host):
                raise self._error


def shut(response: requests.Response) -> None:
    """End a response that another thread is reading: that thread sees the end of it. Fine if it has ended."""
    stream = CancellableStream(iter(()), response)
    with suppress(OSError, AttributeError):  # it ended by itself in the meantime
        stream.close()


def wait_for_ever(response: requests.Response) -> None:
    """Let the response be silent for as long as it likes; whoever needs a limit closes it with ``shut``."""
    # The time limit of the request would otherwise go on to limit every silence of the stream.
    connection = getattr(response.raw, "connection", None)
    sock = getattr(connection, "sock", None)
    if sock is not None:
        sock.settimeout(None)
