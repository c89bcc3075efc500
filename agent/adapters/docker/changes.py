"""Docker's event stream as hints: what changed is looked at, and after every break everything is."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from typing import Any

import requests
import structlog
from docker import APIClient

from agent.adapters.docker.connection import Connection
from agent.adapters.docker.marks import Unmarked, may_be_marked_yet
from agent.adapters.docker.settings import DockerSettings
from agent.adapters.docker.snapshot import end_told_by
from agent.adapters.docker.streams import Stream
from agent.adapters.docker.translate import own_filter
from agent.model.errors import RuntimeUnavailable
from agent.model.observation import ContainerSnapshot
from agent.model.progress import Loop, Progress

log = structlog.get_logger()

ACTIONS = ("start", "die", "oom", "health_status")
"""What is listened to. The checks of a health check (``exec_*``) would be most of the traffic otherwise.

Docker may mark a container as out of memory only after it has told of its end; hence ``oom``.
"""

FIRST_PAUSE = timedelta(seconds=0.25)
LONGEST_PAUSE = timedelta(seconds=5)
SILENCE = timedelta(seconds=15)
"""How long the stream may be silent before the daemon is asked whether it is still there."""

_AHEAD = 10_000


class Changes:
    """Watches this agent's containers. ``is_busy``: whether a verb will look at that Docker name anyway."""

    def __init__(
        self,
        connection: Connection,
        settings: DockerSettings,
        progress: Progress,
        *,
        observe: Callable[[], Awaitable[tuple[ContainerSnapshot, ...]]],
        inspect: Callable[[str], Awaitable[ContainerSnapshot | None]],
        is_busy: Callable[[str], bool],
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._observe = observe
        self._inspect = inspect
        self._is_busy = is_busy
        self._progress = progress
        self._unmarked = Unmarked()
        limits = settings.limits
        # Each call waits for a thread first, as long as it may then take itself.
        self._longest_opening = 2 * (limits.list + 4 * limits.inspect).total_seconds()
        self._longest_look = (SILENCE + 2 * limits.ping + 4 * limits.inspect).total_seconds()
        self.stream: Stream[Mapping[str, Any]] | None = None

    async def watch(self) -> AsyncIterator[ContainerSnapshot]:
        """Yield for ever: the full list after every connect, then each container that changed."""
        with self._progress.watched("container events") as loop:
            async for snapshot in self._watch(loop):
                yield snapshot

    async def _watch(self, loop: Loop) -> AsyncIterator[ContainerSnapshot]:
        pause = FIRST_PAUSE
        is_lost = False
        while True:
            loop.beat(self._longest_opening)
            try:
                await self._connection.open()
                self.stream = stream = self._stream()
                with closing(stream):
                    await stream.open()
                    # Listed after the stream is open: nothing falls between the two.
                    for snapshot in await self._observe():
                        yield snapshot
                    if is_lost:
                        log.info("events.regained")
                    pause, is_lost = FIRST_PAUSE, False
                    async for snapshot in self._follow(stream, loop):
                        yield snapshot
                problem = "the stream ended"
            except RuntimeUnavailable as error:
                problem = str(error)
            for snapshot in self._unmarked.release_all():
                yield snapshot
            if not is_lost:
                log.warning("events.lost", problem=problem)
            is_lost = True
            await asyncio.sleep(pause.total_seconds())
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _follow(
        self, stream: Stream[Mapping[str, Any]], loop: Loop
    ) -> AsyncIterator[ContainerSnapshot]:
        while True:
            loop.beat(self._longest_look)
            for identity, ended in self._unmarked.due():
                seen = await self._inspect(identity)
                self._unmarked.release(identity)
                yield seen if seen is not None and seen.was_oom_killed else ended
            remaining = self._unmarked.remaining()
            try:
                part = await stream.next(SILENCE if remaining is None else remaining)
            except TimeoutError:
                if remaining is None and not await self._connection.ping():
                    raise RuntimeUnavailable("the daemon is silent and does not answer a ping") from None
                continue
            if part is None:
                return
            async for snapshot in self._seen_in(part[0]):
                yield snapshot

    async def _seen_in(self, message: Mapping[str, Any]) -> AsyncIterator[ContainerSnapshot]:
        """What an event shows."""
        identity, name, action = _event(message)
        if not identity:
            return
        if action != "oom" and (ended := self._unmarked.release(identity)):
            yield ended  # before what came after it
        if action == "start" and self._is_busy(name):
            return  # our own start looks by itself when it ends
        snapshot = await self._inspect(identity)
        held = self._unmarked.release(identity)
        if snapshot is not None and action == "die" and may_be_marked_yet(snapshot):
            self._unmarked.hold(identity, snapshot)
        elif seen := snapshot or held:  # it may have been removed by now
            yield seen
        elif action == "die":
            yield end_told_by(message)

    def _stream(self) -> Stream[Mapping[str, Any]]:
        filters = {"type": ["container"], "label": own_filter(self._settings), "event": list(ACTIONS)}

        def request(client: APIClient, seconds: float) -> requests.Response:
            return client.get(
                f"{client.base_url}/v{client.api_version}/events",
                params={"filters": json.dumps(filters)},
                stream=True,
                timeout=seconds,
            )

        return Stream(
            self._connection,
            self._settings.host,
            request,
            _messages,
            open_limit=self._settings.limits.inspect,
            ahead=_AHEAD,
        )


def _messages(response: requests.Response) -> Iterator[Mapping[str, Any]]:
    return (json.loads(line) for line in response.iter_lines() if line)


def _event(message: Mapping[str, Any]) -> tuple[str, str, str]:
    """The container's id and name, and what happened to it."""
    actor = message.get("Actor") or {}
    name = (actor.get("Attributes") or {}).get("name", "")
    return str(actor.get("ID") or ""), str(name), str(message.get("Action") or "")
