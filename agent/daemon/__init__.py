"""The composition root: reads the settings, wires the parts, runs them, and says with which code it ended."""

import asyncio
import errno
import faulthandler
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import structlog

from agent import logs
from agent.daemon.life import live
from agent.daemon.surroundings import check_surroundings
from agent.model.errors import BadSettings, CannotStart, CheckpointFailed
from agent.settings import Settings, Supervision, environment, hand_to_libraries, supervision

log = structlog.get_logger()

CLEAN, RETRIABLE, TERMINAL = 0, 1, 5
"""Exit codes (ecs-protocol 0.2): done; start me again; starting me again will not help."""


def main(env_file: Path | None = None, *, environ: Mapping[str, str] | None = None) -> int:
    """Run the agent until SIGTERM or SIGINT; return the exit code. Containers are never stopped by it."""
    watch = supervision() if environ is None else Supervision.of(environ, os.getpid())
    variables = environment() if environ is None else environ

    def with_user_data(user_data: str) -> Settings:
        return Settings.load(variables, env_file=env_file, user_data=user_data)

    try:
        settings = Settings.load(variables, env_file=env_file)
    except BadSettings as error:
        return _refused(error)
    # systemd's watchdog ends a process that hangs with SIGABRT: where it hung is then in its last words
    faulthandler.enable(2)
    hand_to_libraries(settings)
    try:
        _configure_logs(settings)
    except OSError as error:
        return _without_log_file(settings, error)
    for warning in (*settings.warnings, *watch.warnings):
        log.warning("settings.doubted", problem=warning)
    try:
        asyncio.run(live(settings, with_user_data, watch))
    except BadSettings as error:
        return _refused(error)
    except (CannotStart, CheckpointFailed) as error:
        return _ended_by([error])
    except BaseExceptionGroup as group:
        expected, bugs = group.split((CannotStart, CheckpointFailed))
        if bugs is not None or expected is None:
            raise
        return _ended_by(_leaves(expected))
    # The end is decided. A second signal, which no loop takes any more, must not change the exit code.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    log.info("agent.stopped")
    return CLEAN


def _refused(error: BadSettings) -> int:
    print("berth agent: cannot start with these settings:", file=sys.stderr)  # noqa: T201
    for problem in error.problems:
        print(f"  {problem}", file=sys.stderr)  # noqa: T201
    return RETRIABLE


def _without_log_file(settings: Settings, error: OSError) -> int:
    """Say so on stderr alone, together with whatever else is missing."""
    _configure_logs(replace(settings, log_file=None))
    reason = f"cannot write the log file {settings.log_file} of ECS_LOGFILE: {error.strerror or error}"
    is_final = error.errno not in (errno.ENOSPC, errno.EDQUOT)
    problems: list[BaseException] = [CannotStart(reason, is_final=is_final)]
    try:
        check_surroundings(settings)
    except CannotStart as more:
        problems.append(more)
    return _ended_by(problems)


def _ended_by(errors: list[BaseException]) -> int:
    is_final = any(isinstance(error, CannotStart) and error.is_final for error in errors)
    for error in errors:
        log.critical("agent.failed", reason=str(error), is_final=is_final)
    return TERMINAL if is_final else RETRIABLE


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _configure_logs(settings: Settings) -> None:
    file = None
    if settings.log_file is not None:
        file = logs.LogFile(
            settings.log_file,
            level=settings.file_log_level,
            format=settings.log_format,
            rollover=settings.log_rollover,
            max_bytes=int(settings.log_file_size * 1_000_000),
            keep=settings.log_file_count,
        )
    logs.configure(
        level=settings.log_level,
        console=settings.log_console,
        file=file,
        lines_per_second=settings.log_lines_per_second,
    )
