"""Runs one plugin as a process of its own: clean environment, bounded output, nothing survives its limit."""

import asyncio
import errno
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import structlog

from agent.adapters.cni.replies import PluginReply, PluginTimedOut
from agent.model.errors import CannotAttachNetwork

log = structlog.get_logger()

_LARGEST_OUTPUT = 1024 * 1024
_KEPT_COMPLAINT = 4096
_GRACE_S = 0.5
"""How long a plugin that is told to end may take to undo what it began."""

_PIPE_GRACE_S = 0.25
"""How long output may stay open after the plugin's end; then whoever holds it is killed."""

_DEATH_LIMIT_S = 5.0
"""How long a killed plugin is waited for: the kernel may hold it in a call that cannot be interrupted."""

_BUSY_PAUSES_S = (0.01, 0.05, 0.2, 1.0, 1.0)
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def run_plugin(
    path: Path, environment: Mapping[str, str], stdin: bytes, limit_s: float, arguments: tuple[str, ...] = ()
) -> PluginReply:
    """Run the executable and return how it ended.

    ``environment`` is all it gets, beside a ``PATH``. Raise ``CannotAttachNetwork`` if it cannot be run or
    prints too much, ``PluginTimedOut`` after ``limit_s`` seconds. Then, and when cancelled, the plugin and
    all processes of its group are killed.
    """
    run = await _start(path, arguments, {"PATH": SYSTEM_PATH, **environment})
    try:
        run.feed(stdin)
        try:
            async with asyncio.timeout(limit_s):
                await run.ended.wait()
        except TimeoutError as error:
            raise PluginTimedOut(f"{path.name}: did not end within {limit_s:g} s and was killed") from error
        if run.is_flooded:
            raise CannotAttachNetwork(
                f"{path.name}: printed more than {_LARGEST_OUTPUT} bytes and was killed"
            )
        return run.reply()
    finally:
        await run.end()


async def _start(path: Path, arguments: tuple[str, ...], environment: Mapping[str, str]) -> "_Run":
    pauses = iter(_BUSY_PAUSES_S)
    while True:
        try:
            return await _spawn(path, arguments, environment)
        except FileNotFoundError as error:
            raise CannotAttachNetwork(
                f"{path.name}: no such plugin (or its interpreter) at {path}; "
                "install the plugins there or set the plugin directory"
            ) from error
        except PermissionError as error:
            raise CannotAttachNetwork(
                f"{path.name}: {path} is not executable; set its execute bit (chmod 755)"
            ) from error
        except OSError as error:
            # The file is being replaced; that takes a moment (cni 1.1).
            pause = next(pauses, None) if error.errno == errno.ETXTBSY else None
            if pause is None:
                raise CannotAttachNetwork(f"{path.name}: cannot run {path}: {error.strerror}") from error
            await asyncio.sleep(pause)


async def _spawn(path: Path, arguments: tuple[str, ...], environment: Mapping[str, str]) -> "_Run":
    loop = asyncio.get_running_loop()
    spawning = loop.create_task(_exec(path, arguments, environment))
    try:
        return await asyncio.shield(spawning)
    except asyncio.CancelledError:
        # Cancelled in the middle, asyncio would kill the plugin alone and wait for whoever holds its output.
        spawning.add_done_callback(_kill_group)
        await asyncio.wait((spawning,))
        if spawning.exception() is None:
            await spawning.result().end()
        raise


async def _exec(path: Path, arguments: tuple[str, ...], environment: Mapping[str, str]) -> "_Run":
    _, run = await asyncio.get_running_loop().subprocess_exec(
        _Run, str(path), *arguments, env=dict(environment), cwd="/", process_group=0
    )
    return run


def _kill_group(spawning: "asyncio.Task[_Run]") -> None:
    if spawning.exception() is None:
        spawning.result().kill()


class _Run(asyncio.SubprocessProtocol):
    """One process and what it has printed.

    asyncio's own ``Process.wait`` returns only when all output is closed, and a grandchild may keep it open
    for ever; hence a protocol.
    """

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.is_flooded = False
        self._exited = asyncio.Event()
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._printed = bytearray()
        self._complained = bytearray()
        self._open = {1, 2}
        self._transport: asyncio.SubprocessTransport | None = None
        self._patience: asyncio.TimerHandle | None = None

    # -- called by the loop --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)  # noqa: S101 -- for the type checker
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._printed += data
            if len(self._printed) > _LARGEST_OUTPUT:
                self.is_flooded = True
                self.ended.set()
        else:
            self._complained += data
            del self._complained[:-_KEPT_COMPLAINT]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 -- a broken pipe is an end
        self._open.discard(fd)
        self._see_whether_ended()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- a broken pipe is an end
        if not self._closed.done():
            self._closed.set_result(None)

    def process_exited(self) -> None:
        self._exited.set()
        self._patience = asyncio.get_running_loop().call_later(_PIPE_GRACE_S, self.ended.set)
        self._see_whether_ended()

    def _see_whether_ended(self) -> None:
        if self._exited.is_set() and not self._open:
            self.ended.set()

    # -- called by run_plugin ------------------------------------------------------------------

    def feed(self, stdin: bytes) -> None:
        """Write all of stdin and close it. A plugin may end without reading it."""
        pipe = self._live().get_pipe_transport(0)
        assert isinstance(pipe, asyncio.WriteTransport)  # noqa: S101 -- for the type checker
        pipe.write(stdin)
        pipe.close()

    def reply(self) -> PluginReply:
        """How it ended; only after ``ended``."""
        return PluginReply(
            exit=self._live().get_returncode() or 0,
            stdout=self._printed.decode("utf-8", "replace"),
            stderr=self._complained.decode("utf-8", "replace"),
        )

    async def end(self) -> None:
        """Leave no process of the group behind, and reap the plugin. Also when cancelled meanwhile."""
        try:
            if not self._exited.is_set():
                self._signal(signal.SIGTERM)
                await asyncio.wait_for(self._exited.wait(), _GRACE_S)
        except TimeoutError:
            pass  # it is killed now
        finally:
            if self._patience is not None:
                self._patience.cancel()
            if not self._exited.is_set() or self._open:
                self.kill()
            self._live().close()
            # Reaped and closed: nothing is left when the caller goes on.
            _, surviving = await asyncio.wait((self._closed,), timeout=_DEATH_LIMIT_S)
            if surviving:
                log.warning("plugin.survived", pid=self._live().get_pid(), limit_s=_DEATH_LIMIT_S)

    def kill(self) -> None:
        """Kill the whole group at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._live().get_pid(), number)
        except ProcessLookupError:
            return

    def _live(self) -> asyncio.SubprocessTransport:
        if self._transport is None:
            raise RuntimeError("a process was used before it was started")
        return self._transport
