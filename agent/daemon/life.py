"""One life of the agent: started in order, run in one task group, ended by a signal or by what went wrong."""

import asyncio
import errno
import fcntl
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import structlog
from aiohttp import web

from agent import __version__
from agent.adapters.host.boots import forget_older_boots
from agent.adapters.host.peers import peer_of
from agent.adapters.host.sockets import bound_socket
from agent.adapters.interfaces import LinkWatcher
from agent.daemon.control import Control, Site, Surroundings
from agent.daemon.license import license_text
from agent.daemon.parts import Parts, build
from agent.daemon.state import state_of
from agent.daemon.surroundings import check_surroundings
from agent.daemon.watchdog import Watchdog, dump_stacks
from agent.daemon.watched import Watched, status_text, watched_by
from agent.daemon.whole import to_its_end
from agent.endpoints.audit import AuditLog
from agent.endpoints.credentials import credentials_application
from agent.endpoints.introspection import (
    INTROSPECTION_LIMITS,
    Answers,
    NodeIdentity,
    introspection_application,
)
from agent.endpoints.serving import Served
from agent.model.errors import CannotStart, RuntimeUnavailable, StepError, StepTimedOut
from agent.settings import Settings, Supervision

log = structlog.get_logger()

FIRST_RETRY, LONGEST_RETRY = 0.25, 5.0
"""Seconds between two tries to reach a container runtime that is not there yet."""

START_LIMIT, STOP_LIMIT = 600.0, 60.0
"""Seconds until the endpoints answer, and for the end. Waiting for Docker or the cluster comes in between."""

CLAIM = "berth-agent"
"""The name under which an agent holds the network of this machine: bridge, endpoint, rules, interfaces."""


async def live(
    settings: Settings, with_user_data: Callable[[str], Settings], supervision: Supervision | None = None
) -> None:
    """Run until SIGTERM or SIGINT. ``with_user_data``: the settings with what the machine was started with.

    ``supervision``: who wants to be told how it is; None: nobody. Raise ``CannotStart``, ``CheckpointFailed``
    (perhaps in a group) or ``BadSettings``.
    """
    watched = watched_by(supervision or Supervision())
    with Watchdog(watched.progress, settings.watchdog_limit.total_seconds()).watching():
        async with asyncio.TaskGroup() as group:
            told_to_stop = _signals()
            beating = group.create_task(watched.pulse.run())
            work = group.create_task(_live(settings, with_user_data, watched))
            await told_to_stop.wait()
            log.info("agent.stopping")
            watched.pulse.stopping()
            work.cancel()
            with watched.progress.watched("stop") as stop:
                stop.beat(STOP_LIMIT)
                await asyncio.wait((work,))
            beating.cancel()


async def _live(settings: Settings, with_user_data: Callable[[str], Settings], watched: Watched) -> None:
    check_surroundings(settings)
    async with AsyncExitStack() as ends:
        ends.enter_context(watched.progress.watching(watched.start))
        watched.start.beat(START_LIMIT)
        state = state_of(settings.data_directory, settings.run_directory)
        state.refuse_newer()  # before anything is made: what a newer agent wrote is left as it is
        ends.enter_context(alone(settings))
        # A migration copies everything first. The supervisor hears meanwhile that the start gets on.
        await to_its_end(state.settle)
        if settings.in_container:
            forget_older_boots(settings.run_directory)
        clock, health, progress = watched.clock, watched.health, watched.progress
        interfaces = LinkWatcher(progress=progress)
        ends.push_async_callback(interfaces.aclose)
        control = await _control(settings, Surroundings(interfaces, clock, health, progress), with_user_data)
        ends.push_async_callback(control.aclose)
        parts = build(
            control,
            interfaces,
            clock,
            health,
            progress,
            notifier=watched.notifier,
            received=watched.received,
        )
        _close_at_the_end(ends, parts)
        ends.enter_context(claimed(CLAIM))
        await _work(parts, watched)


async def _control(
    settings: Settings, around: Surroundings, with_user_data: Callable[[str], Settings]
) -> Control:
    # Each loads a lot that the other has no use for.
    if settings.backend == "local":
        from agent.daemon.local import LocalControl  # noqa: PLC0415

        return LocalControl(settings, around.clock, around.progress)
    from agent.daemon.ecs import EcsControl  # noqa: PLC0415

    return await EcsControl.prepare(settings, around, with_user_data)


async def _work(parts: Parts, watched: Watched) -> None:
    if parts.control.is_new_machine:
        # The tasks of another machine: what an image of it has brought along (ecs-protocol 0.4).
        for task in (await parts.checkpoints.load_all()).tasks:
            await parts.checkpoints.forget(task.arn)
    await parts.interfaces.start()
    async with asyncio.TaskGroup() as starting:
        starting.create_task(parts.plumbing.ensure())
        starting.create_task(parts.network.start())
        starting.create_task(parts.control.start())
        # before the endpoint answers: whoever waited for it while the agent restarted is known
        starting.create_task(parts.node.load())
    audit = AuditLog(
        None if parts.settings.audit_disabled else parts.settings.audit_file,
        parts.clock,
        parts.health,
        cluster=parts.settings.cluster,
        container_instance=lambda: parts.control.container_instance or "",
    )
    endpoint = credentials_application(
        parts.node,
        parts.control.credentials,
        parts.clock,
        audit,
        is_ready=lambda: parts.node.known() is not None,
    )
    introspection = Site(
        _introspection(parts), parts.settings.introspection_address, "BERTH_INTROSPECTION_ADDRESS"
    )
    is_open = asyncio.Event()
    async with Served(endpoint) as served, AsyncExitStack() as sites, asyncio.TaskGroup() as group:
        for site in (introspection, *parts.control.sites()):
            await sites.enter_async_context(_served(site))
        group.create_task(_serve_credentials(parts, served, is_open))
        group.create_task(parts.interfaces.run())
        group.create_task(parts.plumbing.keep())
        group.create_task(parts.control.run(parts.machine))
        group.create_task(parts.janitor.run())
        group.create_task(_follow_tasks(parts))
        group.create_task(_say_ready(parts, is_open, watched))


async def _say_ready(parts: Parts, is_open: asyncio.Event, watched: Watched) -> None:
    """As soon as tasks find the agent: whoever is told may rely on it."""
    await is_open.wait()
    watched.start.rest()
    log.info(
        "agent.ready",
        version=__version__,
        cluster=parts.settings.cluster,
        backend=parts.settings.backend,
        introspection=str(parts.settings.introspection_address),
    )
    watched.pulse.ready(lambda: status_text(parts))


async def _follow_tasks(parts: Parts) -> None:
    """The endpoints answer from the records while the runtime is awaited; nothing else begins without it."""
    await _reach_runtime(parts)
    parts.machine.is_reached.set()
    await parts.node.run()


async def _reach_runtime(parts: Parts) -> None:
    delay = FIRST_RETRY
    while True:
        try:
            await parts.runtime.start()
        except (RuntimeUnavailable, StepTimedOut) as error:  # it is away, or slow: no reason to give up
            parts.health.report("runtime", f"the container runtime does not answer: {error}")
            log.warning("runtime.lost", reason=str(error), retry_in=delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_RETRY)
        except StepError as error:
            raise CannotStart(f"the pause image cannot be had: {error}", is_final=True) from error
        else:
            parts.health.report("runtime", None)
            return


async def _serve_credentials(parts: Parts, served: Served, is_open: asyncio.Event) -> None:
    try:
        async for listener in parts.plumbing.listeners():
            await served.listen(listener.interface, listener.socket)
            is_open.set()
    except CannotStart as error:
        raise CannotStart(
            f"{error}. Or choose another port with BERTH_ENDPOINT_PORT: tasks find the agent at port 80 all "
            "the same",
            is_final=error.is_final,
        ) from error


def _introspection(parts: Parts) -> web.Application:
    def identity() -> NodeIdentity:
        return NodeIdentity(
            cluster=parts.settings.cluster,
            container_instance=parts.control.container_instance,
            version=f"berth - v{__version__}",
        )

    answers = Answers(
        directory=parts.node,
        health=parts.health,
        identity=identity,
        explain=parts.node.explain,
        logs=parts.runtime,
        leaks=_leaks(parts),
        known=parts.janitor.standing,
        config=lambda: {
            "settings": [
                {"name": each.name, "value": each.value, "source": each.source, "has_effect": each.has_effect}
                for each in parts.settings.described()
            ]
        },
        channels=parts.control.channels,
    )
    return introspection_application(answers, parts.clock, license_text=license_text())


def _leaks(parts: Parts) -> Callable[[], Awaitable[dict[str, tuple[str, ...]]]]:
    async def look() -> dict[str, tuple[str, ...]]:
        return {**await parts.janitor.leaks(), "interfaces": await parts.control.orphans()}

    return look


@asynccontextmanager
async def _served(site: Site) -> AsyncIterator[None]:
    """Serve on one loopback address, and say which setting chooses another when it is taken."""
    async with Served(site.application, INTROSPECTION_LIMITS) as served:
        try:
            listening = bound_socket(None, site.address.host, site.address.port)
        except CannotStart as error:
            raise CannotStart(
                f"{error}. Or choose another address with {site.setting}", is_final=error.is_final
            ) from error
        await served.listen(site.setting, listening)
        yield


def _signals() -> asyncio.Event:
    """Set when this process is told to stop. From now on that ends it in order, whatever it is doing.

    SIGUSR1 logs where everything stands, and changes nothing (ecs-protocol 0.2).
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, dump_stacks, loop)
    return stop


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Hold the data directory: two agents on one state would fight over every container.

    Raise ``CannotStart``.
    """
    path = settings.data_directory / "agent.lock"
    try:
        settings.data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.run_directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise CannotStart(
                f"another agent (process {holder}) already uses {settings.data_directory}; stop it: a "
                "machine has one agent",
                is_final=False,
            ) from error
        _sign(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _unusable(error: OSError) -> CannotStart:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "make room, or set ECS_DATADIR and BERTH_RUN_DIRECTORY to directories where there is some"
        return CannotStart(f"cannot use {error.filename}: {error.strerror}; {remedy}", is_final=False)
    remedy = "run as root, or set ECS_DATADIR and BERTH_RUN_DIRECTORY to directories that the agent may write"
    return CannotStart(f"cannot use {error.filename}: {error.strerror}; {remedy}", is_final=True)


def _sign(lock: int, path: Path) -> None:
    """Write into the lock who holds it. That somebody does is what counts, so a full disk is no obstacle."""
    try:
        os.truncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    except OSError as error:
        log.warning("lock.not_signed", path=str(path), reason=error.strerror)


@contextmanager
def claimed(name: str) -> Iterator[None]:
    """Hold the machine's network: a second agent would take the interfaces of the first for leftovers.

    The lock on the data directory does not keep apart two agents with two of them. A socket with an abstract
    name does: there is one such name per network namespace, and it is free as soon as its process is gone.
    Raise ``CannotStart``.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as claim:
        try:
            claim.bind(f"\0{name}")
        except OSError as error:
            raise CannotStart(
                f"another agent ({_holder_of(name)}) runs on this machine and has its network; stop it, "
                "also if it has another ECS_DATADIR",
                is_final=False,
            ) from error
        claim.listen(128)  # so that it can be asked who holds it; nobody is ever accepted
        yield


def _holder_of(name: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(f"\0{name}")
            return f"process {peer_of(asking).process}"
        except OSError:
            return "a process that does not answer"


def _close_at_the_end(ends: AsyncExitStack, parts: Parts) -> None:
    """Each part is closed whatever becomes of the others; the last one here is the first."""
    ends.push_async_callback(parts.checkpoints.aclose)
    ends.push_async_callback(parts.runtime.aclose)
    ends.push_async_callback(parts.network.aclose)
    ends.callback(parts.logins.close)
