"""The frame of every plugin: environment and stdin in, your function, JSON and an exit status out."""

from __future__ import annotations

import posix
import sys

from cni_plugins.skeleton import document, signals, stamp
from cni_plugins.skeleton.arguments import Arguments, read_arguments, require_container_id
from cni_plugins.skeleton.config import (
    NEWEST_VERSION,
    SUPPORTED_VERSIONS,
    NetworkConfig,
    dialect,
    read_config,
    read_object,
)
from cni_plugins.skeleton.errors import CRASHED, IO_FAILURE, TRY_AGAIN, CniError, Terminated
from cni_plugins.skeleton.log import Log
from cni_plugins.skeleton.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 65536


class Call(Record):
    """One call as a verb sees it: who asks for what, what the network is, and where to log."""

    arguments: Arguments
    config: NetworkConfig
    log: Log


class Plugin(Record):
    """A plugin: its name, log file, and one function per verb.

    `add` returns the result object; the others return None and raise CniError if they fail.
    """

    name: str
    log_file: str
    capabilities: tuple[str, ...]
    add: Callable[[Call], dict[str, object]]
    delete: Callable[[Call], None]
    check: Callable[[Call], None]
    collect: Callable[[Call], None]
    status: Callable[[Call], None]


class Answer(Record):
    """What goes to the caller: the exit status and stdout."""

    exit: int
    stdout: str


def main(plugin: Plugin) -> int:
    """Run as an executable: read the process's arguments, environment and stdin; return the exit status."""
    environment = {
        key.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for key, value in posix.environ.items()
    }
    answer = run(plugin, sys.argv[1:], environment, _read_stdin)
    _write(1, answer.stdout.encode())
    return answer.exit


def run(
    plugin: Plugin, options: list[str], environment: dict[str, str], read_stdin: Callable[[], bytes]
) -> Answer:
    """Answer one call. Never raises: whatever happens becomes an error object and a non-zero exit status."""
    stdin = b""
    log = Log(
        environment.get("ECS_CNI_LOG_FILE", plugin.log_file),
        environment.get("ECS_CNI_LOGLEVEL", "info"),
        plugin.name,
        environment.get("CNI_CONTAINERID", ""),
    )
    try:
        if options:
            return _option(plugin, options[0])
        signals.signal(signals.SIGTERM, _terminate)
        arguments = read_arguments(environment)
        stdin = read_stdin()
        if arguments.command == "VERSION":
            return Answer(0, _version(stdin))
        config = read_config(stdin, arguments.command)
        if config.at_least("1.0.0"):
            require_container_id(arguments)
        return Answer(0, _carry_out(plugin, Call(arguments, config, log)))
    except CniError as error:
        log.failure("call.failed", code=error.code, message=error.message, details=error.details)
        return Answer(1, _line(error.as_document(dialect(stdin))))
    except Terminated:
        log.failure("call.terminated")
        return Answer(1, _line(CniError(TRY_AGAIN, "terminated by a signal").as_document(dialect(stdin))))
    except Exception as bug:  # noqa: BLE001 -- the caller must always get an error object, also for our bugs
        log.failure("call.crashed", error=repr(bug), place=_place(bug))
        crash = CniError(CRASHED, f"internal error: {type(bug).__name__}: {bug}", _place(bug))
        return Answer(1, _line(crash.as_document(dialect(stdin))))


def _carry_out(plugin: Plugin, call: Call) -> str:
    command = call.arguments.command
    call.log.debug("call.accepted", command=command, ifname=call.arguments.ifname, netns=call.arguments.netns)
    if command == "ADD":
        return _line(plugin.add(call))
    verbs = {"DEL": plugin.delete, "CHECK": plugin.check, "GC": plugin.collect, "STATUS": plugin.status}
    verbs[command](call)
    return ""


def _option(plugin: Plugin, option: str) -> Answer:
    if option == "--version":
        stamped = {"version": stamp.VERSION, "dirty": stamp.DIRTY, "gitShortHash": stamp.GIT_SHORT_HASH}
        return Answer(0, _line(stamped))
    if option == "--capabilities":
        return Answer(0, _line({"capabilities": list(plugin.capabilities)}))
    return Answer(
        2, _line({"code": 4, "msg": f"unknown option {option!r}, expected --version or --capabilities"})
    )


def _version(stdin: bytes) -> str:
    """VERSION answers in the asker's dialect, and in the newest to one whose dialect we do not speak."""
    asked = read_object(stdin).get("cniVersion") if stdin.strip() else None
    spoken = asked if asked in SUPPORTED_VERSIONS else NEWEST_VERSION
    return _line({"cniVersion": spoken, "supportedVersions": list(SUPPORTED_VERSIONS)})


def _line(value: dict[str, object]) -> str:
    return document.encode(value) + "\n"


def _place(bug: BaseException) -> str:
    trace = bug.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def _terminate(_signal_number: int, _frame: object) -> None:
    signals.signal(signals.SIGTERM, signals.SIG_IGN)  # once is enough; what follows must not be cut short
    raise Terminated


def _read_stdin() -> bytes:
    chunks = []
    try:
        while chunk := posix.read(0, _CHUNK):
            chunks.append(chunk)
    except OSError as error:
        raise CniError(IO_FAILURE, f"cannot read the network config from stdin: {error.strerror}") from error
    return b"".join(chunks)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[posix.write(descriptor, data) :]
