"""The loop of one task: the only place that replaces its state, and the only one that saves it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from agent.lifecycle.derive import is_removed, report
from agent.lifecycle.difference import differences
from agent.lifecycle.plan import launched, next_wake, plan
from agent.lifecycle.reduce import is_in_flight, reduce
from agent.lifecycle.table import transition_of
from agent.model.errors import (
    CheckpointFailed,
    CredentialsUnavailable,
    InternalStepError,
    PortUnavailable,
    StepError,
    StepTimedOut,
)
from agent.model.events import Event, StepFailed, StepSucceeded, TimePassed
from agent.model.progress import Loop, Progress
from agent.model.report import TaskReport
from agent.model.state import InFlight, Reason, TaskState
from agent.model.steps import Step
from agent.model.timeouts import timed_out
from agent.ports.checkpoint import CheckpointStore
from agent.ports.clock import Clock
from agent.supervisor.perform import Performer

log = structlog.get_logger()

SHORTEST_WAIT = 0.01
"""Seconds. A gate that opens by time may say the present moment; the loop must not spin on it."""


class TaskSupervisor:
    """Takes events one at a time: reduce, plan, save, tell, act.

    ``tell`` is given each new report; it must not wait. ``is_saved``: whether the state comes from a record.
    """

    def __init__(
        self,
        state: TaskState,
        *,
        performer: Performer,
        checkpoints: CheckpointStore,
        clock: Clock,
        tell: Callable[[TaskReport], None],
        progress: Progress,
        is_saved: bool = False,
    ) -> None:
        self._state = state
        self._performer = performer
        self._checkpoints = checkpoints
        self._clock = clock
        self._tell = tell
        self._is_saved = is_saved
        self._told: TaskReport | None = None
        self._progress = progress
        self._loop = Loop(f"task {state.task_id}", progress)
        self._inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._running: dict[Step, asyncio.Task[None]] = {}

    @property
    def state(self) -> TaskState:
        """The task as it is now."""
        return self._state

    def deliver(self, event: Event) -> None:
        """Put an event into the inbox. Never waits."""
        self._inbox.put_nowait(event)
        self._loop.wake()

    def undelivered(self) -> tuple[Event, ...]:
        """Empty the inbox of a loop that has ended, for the one that goes on in its place."""
        return tuple(self._inbox.get_nowait() for _ in range(self._inbox.qsize()))

    async def run(self) -> None:
        """Return when nothing of the task is left on this machine. Raise ``CheckpointFailed``."""
        structlog.contextvars.bind_contextvars(task_id=self._state.task_id)
        async with asyncio.TaskGroup() as steps_running:
            with self._progress.watching(self._loop):
                while not is_removed(self._state):
                    event = await self._next_event()
                    self._loop.beat()
                    decided = reduce(self._state, event)
                    steps = plan(decided)
                    await self._become(launched(decided, steps))
                    self._cancel_abandoned()
                    for step in steps:
                        self._running[step] = steps_running.create_task(self._carry_out(step))
        await self._checkpoints.forget(self._state.arn)
        log.info("task.removed")

    async def _next_event(self) -> Event:
        wake = next_wake(self._state)
        if not self._inbox.empty():
            return self._inbox.get_nowait()
        if wake is None:
            self._loop.rest()
            return await self._inbox.get()
        delay = max((wake - self._clock.now()).total_seconds(), SHORTEST_WAIT)
        self._loop.beat(delay)
        try:
            async with asyncio.timeout(delay):
                return await self._inbox.get()
        except TimeoutError:
            return TimePassed(self._clock.now())

    async def _become(self, after: TaskState) -> None:
        """Save before we tell, save before we act."""
        before, self._state = self._state, after
        if not self._is_saved or replace(after, now=before.now) != before:
            await self._checkpoints.save(after)
            self._is_saved = True
        for event, fields in differences(before, after):
            log.info(event, **fields)
        news = report(after)
        if news not in (self._told, after.accepted):
            self._told = news
            self._tell(news)

    def _cancel_abandoned(self) -> None:
        for step, running in self._running.items():
            # Once: to be cancelled again would cut off what it does to end in order.
            if not is_in_flight(self._state, step) and not running.done() and not running.cancelling():
                running.cancel()
                log.info("step.abandoned", step=step.name, container=step.container)

    async def _carry_out(self, step: Step) -> None:
        try:
            event = await self._outcome(step)
        finally:
            del self._running[step]
        if isinstance(event, StepFailed):
            log.warning("step.failed", step=step.name, container=step.container, reason=str(event.reason))
        self.deliver(event)

    async def _outcome(self, step: Step) -> StepSucceeded | StepFailed:
        flight = self._in_flight(step)
        began = self._clock.now()
        try:
            async with asyncio.timeout((flight.until - flight.since).total_seconds()):
                learned = await self._performer.perform(self._state, step)
        except TimeoutError:
            sentence = timed_out(transition_of(step.name), flight.until - flight.since)
            return StepFailed(self._clock.now(), step, Reason(StepTimedOut.name, sentence))
        except StepError as error:
            return StepFailed(self._clock.now(), step, Reason(error.name, error.detail))
        except CredentialsUnavailable as error:
            reason = Reason(error.name, str(error))
            return StepFailed(self._clock.now(), step, reason, is_unavailable=True)
        except PortUnavailable as error:
            reason = Reason("DockerStateError", f"the container runtime does not answer: {error}")
            return StepFailed(self._clock.now(), step, reason, is_unavailable=True)
        except CheckpointFailed:
            raise  # fatal for the agent, whoever needed the disk
        except Exception as bug:
            # A bug must hurt its own task only.
            log.exception("step.crashed", step=step.name, container=step.container)
            reason = Reason(
                InternalStepError.name, f"{type(bug).__name__} in {step.name}; see the agent's log"
            )
            return StepFailed(self._clock.now(), step, reason)
        ended = self._clock.now()
        took_ms = round((ended - began).total_seconds() * 1000, 1)
        log.debug("step.succeeded", step=step.name, container=step.container, took_ms=took_ms)
        return StepSucceeded(ended, step, learned)

    def _in_flight(self, step: Step) -> InFlight:
        entity = self._state.sandbox if step.container is None else self._state.container(step.container)
        assert entity.in_flight is not None  # noqa: S101  # launched() has just put it there
        return entity.in_flight
