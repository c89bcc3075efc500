"""The telemetry channel's conversation: measures the containers, and says every 20 seconds how they are."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from agent.adapters.ecs.samples import Samples
from agent.adapters.ecs.subjects import Running, checked_in, label, running_in
from agent.adapters.ecs.wire import telemetry as wire
from agent.adapters.ecs.wire.envelope import BadEnvelope, read_envelope
from agent.model.errors import AgentError, PortUnavailable
from agent.model.ids import ContainerId
from agent.model.observation import PAUSE_NAME
from agent.model.state import TaskState
from agent.ports.clock import Clock
from agent.ports.directory import TaskDirectory
from agent.ports.usage import UsageProbe, UsageSubject

log = structlog.get_logger()

PUBLISH_PERIOD = 20.0
"""Seconds from one report to the next (ecs-protocol 3.2)."""

PUBLISH_LIMIT = 15.0
"""Seconds for all messages of one report. What is not sent by then is dropped: the next report is newer."""

SAMPLE_PERIOD = 2.5
"""Seconds from one look at the counters to the next: about 1 % of a core for 100 tasks of one container."""

SAMPLE_LIMIT = 10.0
"""Seconds for one look at all containers, which takes some milliseconds."""

CHECK_LIMIT = 2.0
"""Seconds for the container runtime to show that it is well (ecs-protocol 3.5)."""

GRACE = timedelta(seconds=30)
"""How long a container may run before it is odd that nothing was measured (ecs-protocol 3.3)."""


class Conversation(Protocol):
    """One live connection, as the channel gives it."""

    @property
    def url(self) -> str:
        """Where it is connected to, with the query."""

    def texts(self) -> AsyncIterator[str]:
        """Yield what arrives, until the connection ends."""

    async def send(self, text: str) -> None:
        """Send one text frame. Raise ``ConnectionError`` if the connection has ended."""

    def active(self) -> None:
        """A message was understood: the peer is alive."""


class FrameSigner(Protocol):
    """Signs what is sent."""

    async def frame(self, url: str, payload: bytes) -> bytes:
        """Signed header lines, an empty line, the payload. Raise ``CredentialsUnavailable``."""


_NOT_WELL = "the container runtime is not well"


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What is told.

    ``metrics``: not ECS_DISABLE_METRICS. ``health``: not ECS_DISABLE_DOCKER_HEALTH_CHECK.
    """

    metrics: bool = True
    health: bool = True

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to connect for (ecs-protocol 3.1)."""
        return self.metrics or self.health


class Telemetry:
    """Measures for ever with ``sample()``; ``converse()`` tells, for the life of each connection.

    ``instance`` is asked at each report: the machine is registered later than this is made. ``cores``: of the
    whole host. ``is_runtime_well`` is given ``CHECK_LIMIT``, so it needs no limit of its own; it may raise an
    ``AgentError``, whose text is then told as the reason.
    """

    def __init__(
        self,
        *,
        directory: TaskDirectory,
        probe: UsageProbe,
        signer: FrameSigner,
        instance: Callable[[], wire.Instance],
        clock: Clock,
        is_runtime_well: Callable[[], Awaitable[bool]],
        cores: int,
        settings: TelemetrySettings,
    ) -> None:
        self._directory = directory
        self._probe = probe
        self._signer = signer
        self._instance = instance
        self._clock = clock
        self._is_runtime_well = is_runtime_well
        self._settings = settings
        self._samples = Samples(cores)
        self._unmeasured: set[ContainerId] = set()
        self._is_sampling_well = True
        self._heartbeat = asyncio.Event()
        self._status: wire.InstanceStatus | None = None
        self._is_status_told = True

    # -- measuring -----------------------------------------------------------------------------

    async def sample(self) -> None:
        """Look at all running containers again and again. Never ends, unless metrics are disabled."""
        while self._settings.metrics:
            try:
                await self._look()
            except Exception:
                # Nothing else of the agent needs these numbers, so a bug here must not end it.
                log.exception("sampling.crashed")
            await asyncio.sleep(SAMPLE_PERIOD)

    async def _look(self) -> None:
        running = [each for task in self._live_tasks() for each in running_in(task)]
        known = {each.container_id for each in running}
        self._samples.keep_only(known)
        self._unmeasured &= known
        if not running:
            return
        try:
            async with asyncio.timeout(SAMPLE_LIMIT):
                found = await self._probe.read(
                    [UsageSubject(each.container_id, each.pid, each.link) for each in running]
                )
        except (TimeoutError, PortUnavailable) as problem:
            if self._is_sampling_well:
                log.warning("sampling.failed", reason=str(problem) or f"no end within {SAMPLE_LIMIT:g} s")
            self._is_sampling_well = False
            return
        self._is_sampling_well = True
        for each, usage in zip(running, found, strict=True):
            if usage is not None:
                self._samples.add(each.container_id, usage)

    # -- the session ---------------------------------------------------------------------------

    def note_heartbeat(self) -> None:
        """A heartbeat came over the control channel: look whether the container runtime is well."""
        self._heartbeat.set()

    async def converse(self, conversation: Conversation) -> None:
        """Tell and listen until the connection ends or the other side wants no more."""
        async with asyncio.TaskGroup() as group:
            talking = [
                group.create_task(self._publish(conversation)),
                group.create_task(self._examine()),
            ]
            await self._listen(conversation)
            for each in talking:
                each.cancel()

    async def _listen(self, conversation: Conversation) -> None:
        async for text in conversation.texts():
            try:
                message = read_envelope(text)
            except BadEnvelope as problem:
                log.warning("message.skipped", problem=str(problem))
                continue
            if message.type in wire.SIGNS_OF_LIFE:
                conversation.active()
            elif message.type == wire.STOP:
                log.info("telemetry.stopped", reason=wire.text_of(message))
                return
            elif message.type in wire.REFUSALS:
                log.warning("telemetry.refused", kind=message.type, reason=wire.text_of(message))
            else:
                log.warning("message.skipped", problem=f"a message of type {message.type!r}")

    async def _publish(self, conversation: Conversation) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        is_first = True
        while True:
            try:
                await self._report(conversation, with_status=not is_first)
            except ConnectionError:
                return  # the listener hears of it too, and ends the session
            is_first = False
            passed = loop.time() - began
            await asyncio.sleep(PUBLISH_PERIOD - passed % PUBLISH_PERIOD)

    async def _report(self, conversation: Conversation, *, with_status: bool) -> None:
        try:
            async with asyncio.timeout(PUBLISH_LIMIT):
                for text in (*self._metrics(), *self._health()):
                    await self._send(conversation, text)
                if with_status and self._status is not None and not self._is_status_told:
                    status = self._status
                    await self._send(conversation, self._status_message(status))
                    self._is_status_told = self._status is status
        except ConnectionError:
            raise
        except TimeoutError:
            log.warning("telemetry.dropped", reason=f"it could not be sent within {PUBLISH_LIMIT:g} s")
        except AgentError as problem:
            log.warning("telemetry.dropped", reason=str(problem))
        except Exception:
            # The next report may do without what this one stumbled over; the tasks do without all of them.
            log.exception("telemetry.crashed")

    async def _send(self, conversation: Conversation, text: str) -> None:
        frame = await self._signer.frame(conversation.url, text.encode())
        await conversation.send(frame.decode())

    # -- what is told --------------------------------------------------------------------------

    def _metrics(self) -> tuple[str, ...]:
        if not self._settings.metrics:
            return ()
        now, message_id = self._clock.now(), str(uuid.uuid4())
        tasks = [(task, running) for task in self._live_tasks() if (running := tuple(running_in(task)))]
        if not tasks:
            return (wire.idle_message(self._instance(), at=now, message_id=message_id),)
        measured = [
            wire.TaskMetrics(label(task.spec), containers)
            for task, running in tasks
            if (containers := self._measured(task, running, now))
        ]
        return wire.metrics_messages(self._instance(), measured, at=now, message_id=message_id)

    def _measured(
        self, task: TaskState, running: tuple[Running, ...], now: datetime
    ) -> tuple[wire.ContainerMetrics, ...]:
        windows = {each.container_id: self._samples.take(each.container_id) for each in running}
        for each in running:
            self._note_unmeasured(task, each, now, is_measured=windows[each.container_id] is not None)
        pause = windows.get(task.sandbox.container_id) if task.sandbox.container_id else None
        link = pause.link if pause else None
        return tuple(
            wire.ContainerMetrics(
                each.name, window, arn=each.arn, link=None if each.name == PAUSE_NAME else link
            )
            for each in running
            if (window := windows[each.container_id]) is not None
        )

    def _note_unmeasured(
        self, task: TaskState, container: Running, now: datetime, *, is_measured: bool
    ) -> None:
        if is_measured:
            self._unmeasured.discard(container.container_id)
        elif container.since is not None and now - container.since > GRACE:
            if container.container_id not in self._unmeasured:
                log.warning("usage.missed", task_id=task.task_id, container=container.name)
            self._unmeasured.add(container.container_id)

    def _health(self) -> tuple[str, ...]:
        if not self._settings.health:
            return ()
        tasks = [
            wire.TaskHealth(label(task.spec), containers)
            for task in self._live_tasks()
            if (containers := tuple(checked_in(task)))
        ]
        return wire.health_messages(
            self._instance(), tasks, at=self._clock.now(), message_id=str(uuid.uuid4())
        )

    def _live_tasks(self) -> Iterator[TaskState]:
        return (task for task in self._directory.tasks() if task.stopped_at is None)

    # -- the container runtime -----------------------------------------------------------------

    async def _examine(self) -> None:
        while True:
            await self._heartbeat.wait()
            status, reason = await self._check()
            # Only now: a check that was cut off is made anew in the next session.
            self._heartbeat.clear()
            now, before = self._clock.now(), self._status
            since = before.since if before is not None and before.status is status else now
            self._status = wire.InstanceStatus(status, since, now, reason)
            self._is_status_told = False

    async def _check(self) -> tuple[wire.RuntimeStatus, str]:
        try:
            async with asyncio.timeout(CHECK_LIMIT):
                if await self._is_runtime_well():
                    return wire.RuntimeStatus.OK, ""
        except TimeoutError:
            reason = f"the container runtime did not answer within {CHECK_LIMIT:g} s"
            return wire.RuntimeStatus.IMPAIRED, reason
        except AgentError as problem:
            return wire.RuntimeStatus.IMPAIRED, str(problem) or _NOT_WELL
        return wire.RuntimeStatus.IMPAIRED, _NOT_WELL

    def _status_message(self, status: wire.InstanceStatus) -> str:
        return wire.status_message(
            self._instance(), status, at=self._clock.now(), request_id=str(uuid.uuid4())
        )
