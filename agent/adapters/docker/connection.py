"""The way to the daemon: negotiated version, one pool of threads per class of call, a deadline on each."""

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from math import ceil
from typing import Any, TypeVar

import structlog
from docker import APIClient
from docker.constants import DEFAULT_DOCKER_API_VERSION

from agent.adapters.docker.errors import is_timeout, translated
from agent.adapters.docker.settings import DockerSettings
from agent.adapters.docker.threads import DeadlinePassed, Job, QueueFull, ThreadPool, Turn
from agent.adapters.docker.transport import new_client
from agent.model.errors import RuntimeUnavailable, StepError, StepTimedOut
from agent.model.timeouts import timed_out

T = TypeVar("T")

log = structlog.get_logger()


class Lane(StrEnum):
    """The classes of calls. They do not wait for each other: a hung pull leaves ``LOOK`` free."""

    PING = "ping"
    LOOK = "look"
    LIST = "list"
    CHANGE = "change"
    START = "start"
    STOP = "stop"
    PULL = "pull"
    STREAM = "stream"
    LOCAL = "local"


class Connection:
    """Makes calls. Whatever Docker does, a call ends within twice its limit; the loop never waits for it."""

    def __init__(self, settings: DockerSettings) -> None:
        self._host = settings.host
        self._ping_limit = settings.limits.ping
        # Stops last as long as the grace of the containers, pulls for hours: they need not share with others.
        sizes = {
            Lane.PING: 2,
            Lane.LOOK: 8,
            Lane.LIST: 2,
            Lane.CHANGE: 8,
            Lane.START: settings.start_slots,
            Lane.STOP: 256,
            Lane.PULL: settings.pull_slots,
            Lane.STREAM: 64,
            Lane.LOCAL: 2,
        }
        self._pools = {lane: ThreadPool(lane.value, size) for lane, size in sizes.items()}
        self._clients: dict[int, APIClient] = {}
        self._clients_lock = threading.Lock()
        self._version: str | None = None

    @property
    def version(self) -> str | None:
        """The API version agreed upon with the daemon; None before ``open``."""
        return self._version

    async def open(self) -> str:
        """Agree upon an API version, again if the daemon has changed. Raise ``RuntimeUnavailable``."""
        agreed = await self._finish(
            self._pools[Lane.PING].submit(self._negotiate), None, self._ping_limit, "inspecting"
        )
        if agreed != self._version:
            with self._clients_lock:
                self._version, old, self._clients = agreed, self._clients, {}
            for client in old.values():
                client.close()
            log.info("runtime.connected", host=self._host, api_version=agreed)
        return agreed

    async def call(
        self,
        lane: Lane,
        function: Callable[[APIClient], T],
        *,
        limit: timedelta,
        transition: str,
        refusal: type[StepError] | None = None,
        turn: Turn | None = None,
    ) -> T:
        """Call in a thread of the lane.

        Raise ``refusal`` with Docker's words if Docker says no, ``StepTimedOut`` if the limit passes while
        Docker still answers others, ``RuntimeUnavailable`` if it does not. ``transition``: ECS's word for the
        call.
        """
        job = self.begin(lane, function, limit=limit, turn=turn)
        return await self._finish(job, refusal, limit, transition)

    def begin(
        self, lane: Lane, function: Callable[[APIClient], T], *, limit: timedelta, turn: Turn | None = None
    ) -> Job[T]:
        """Begin a call whose end is awaited elsewhere, in ``finish``."""
        job = self._pools[lane].submit(lambda: function(self._client(limit)))
        if turn is not None:
            turn.note(job)
        return job

    async def finish(
        self, job: Job[T], *, limit: timedelta, transition: str, refusal: type[StepError] | None = None
    ) -> T:
        """Await the end of a call that was begun, with the errors of ``call``."""
        return await self._finish(job, refusal, limit, transition)

    async def ping(self) -> bool:
        """Whether the daemon answers at all."""
        job = self._pools[Lane.PING].submit(lambda: self._client(self._ping_limit).ping())
        try:
            await self._finish_quietly(job)
        except RuntimeUnavailable:
            return False
        return True

    def background(self, function: Callable[[], T]) -> Job[T]:
        """Run something that lasts, such as reading a stream, in the lane of streams."""
        return self._pools[Lane.STREAM].submit(function)

    def client(self, limit: timedelta) -> APIClient:
        """The SDK's client whose sockets wait that long. Only to be used inside a thread of a lane."""
        return self._client(limit)

    def close(self) -> None:
        """Close idle connections and let the threads end. Calls that are under way go on alone."""
        for pool in self._pools.values():
            pool.close()
        with self._clients_lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    # -- inside --------------------------------------------------------------------------------

    def _negotiate(self) -> str:
        # Asked without a version in the path, so what the client is given does not matter.
        client = new_client(self._host, DEFAULT_DOCKER_API_VERSION, _seconds(self._ping_limit))
        try:
            answer: Mapping[str, Any] = client.version(api_version=False)
            return str(answer["ApiVersion"])
        finally:
            client.close()

    def _client(self, limit: timedelta) -> APIClient:
        # The socket's limit is the call's: when the caller has given up, the thread comes free soon after.
        seconds = _seconds(limit)
        version = self._version
        if version is None:
            raise RuntimeUnavailable(f"Docker at {self._host} has not answered yet")
        with self._clients_lock:
            client = self._clients.get(seconds)
            if client is None:
                client = self._clients[seconds] = new_client(self._host, version, seconds)
            return client

    async def _finish(
        self, job: Job[T], refusal: type[StepError] | None, limit: timedelta, transition: str
    ) -> T:
        with translated(refusal, self._host):
            try:
                return await job.wait(limit.total_seconds())
            except (DeadlinePassed, QueueFull) as error:
                raise await self._late(refusal, limit, transition) from error
            except Exception as error:
                if not is_timeout(error):
                    raise
                raise await self._late(refusal, limit, transition) from error

    async def _late(
        self, refusal: type[StepError] | None, limit: timedelta, transition: str
    ) -> StepTimedOut | RuntimeUnavailable:
        sentence = timed_out(transition, limit)
        if refusal is not None and await self.ping():
            return StepTimedOut(sentence)
        return RuntimeUnavailable(f"Docker at {self._host} does not answer: {sentence}")

    async def _finish_quietly(self, job: Job[bool]) -> None:
        with translated(None, self._host):
            try:
                await job.wait(self._ping_limit.total_seconds())
            except (DeadlinePassed, QueueFull) as error:
                raise RuntimeUnavailable(timed_out("inspecting", self._ping_limit)) from error


def _seconds(limit: timedelta) -> int:
    return max(1, ceil(limit.total_seconds()))
