"""Running another plugin, as the specification wants IPAM to be run: same environment, same stdin."""

from __future__ import annotations

import posix
import select
import time

from cni_plugins.skeleton import document
from cni_plugins.skeleton.arguments import Arguments
from cni_plugins.skeleton.errors import FAILED, INVALID_CONFIG, TRY_AGAIN, CniError
from cni_plugins.skeleton.record import Record

LIMIT_S = 30.0
_SIGKILL = 9
_CHUNK = 65536
_LARGEST_ANSWER = 1 << 20
_REGULAR, _KIND = 0o100000, 0o170000
_BUSY_PAUSE_S, _BUSY_ATTEMPTS = 0.2, 5
_TEXT_FILE_BUSY = 26


class Delegate(Record):
    """A plugin found on CNI_PATH: its type and the file that is executed."""

    type: str
    file: str


def find(kind: object, arguments: Arguments) -> Delegate:
    """Look `kind` up in CNI_PATH. Raises CniError 7 if it is no file name or in none of the directories."""
    if not isinstance(kind, str) or not kind:
        raise CniError(
            INVALID_CONFIG, "failed to execute plugin: no plugin name provided", "ipam.type is missing"
        )
    if "/" in kind or kind in (".", ".."):
        raise CniError(INVALID_CONFIG, f"failed to execute plugin: invalid plugin name: {kind}")
    for directory in arguments.path:
        file = f"{directory}/{kind}"
        try:
            mode = posix.stat(file).st_mode
        except OSError:
            continue
        if mode & _KIND == _REGULAR:
            return Delegate(kind, file)
    searched = ":".join(arguments.path)
    raise CniError(
        INVALID_CONFIG, f"failed to execute plugin: failed to find plugin {kind!r} in path [{searched}]"
    )


def run(plugin: Delegate, arguments: Arguments, stdin: bytes, command: str = "") -> dict[str, object]:
    """Execute the plugin and return the object it printed, {} if it printed nothing.

    `command` replaces CNI_COMMAND, for undoing an ADD. Raises the plugin's own error as CniError, or CniError
    100 if it died without one, or 11 if it did not end in LIMIT_S.
    """
    environment = {**arguments.environment, "CNI_COMMAND": command or arguments.command}
    status, output = _execute(plugin.file, environment, stdin)
    try:
        printed = document.decode(output) if output.strip() else {}
    except ValueError as error:
        raise CniError(
            FAILED, f"plugin {plugin.type} printed no JSON: {error}", f"exit status {status}"
        ) from error
    if not isinstance(printed, dict):
        raise CniError(FAILED, f"plugin {plugin.type} printed no JSON object", f"exit status {status}")
    if status == 0:
        return printed
    code, message = printed.get("code"), printed.get("msg")
    if not isinstance(code, int) or not isinstance(message, str):
        raise CniError(FAILED, f"plugin {plugin.type} failed with no error message", f"exit status {status}")
    raise CniError(code, message, str(printed.get("details", "")))


def _execute(file: str, environment: dict[str, str], stdin: bytes) -> tuple[int, bytes]:
    document_fd = posix.memfd_create("cni-stdin", 1)  # MFD_CLOEXEC; a pipe could fill up and block us
    answer, answer_end = posix.pipe2(posix.O_CLOEXEC)
    try:
        posix.write(document_fd, stdin)
        posix.lseek(document_fd, 0, 0)
        actions = [
            (posix.POSIX_SPAWN_DUP2, document_fd, 0),
            (posix.POSIX_SPAWN_DUP2, answer_end, 1),
        ]
        child = _spawn(file, environment, actions)
        posix.close(answer_end)
        answer_end = -1
        try:
            output = _read_all(answer, file)
        except BaseException:
            posix.kill(child, _SIGKILL)
            posix.waitpid(child, 0)
            raise
        _, status = posix.waitpid(child, 0)
        return posix.waitstatus_to_exitcode(status), output
    finally:
        for descriptor in (document_fd, answer, answer_end):
            if descriptor >= 0:
                posix.close(descriptor)


def _spawn(file: str, environment: dict[str, str], actions: list[tuple[int, int, int]]) -> int:
    for _ in range(_BUSY_ATTEMPTS):
        try:
            return posix.posix_spawn(file, [file], environment, file_actions=actions)
        except OSError as error:
            if error.errno != _TEXT_FILE_BUSY:  # busy: it is being replaced right now
                raise CniError(FAILED, f"failed to execute plugin: {file}: {error.strerror}") from error
        time.sleep(_BUSY_PAUSE_S)
    raise CniError(TRY_AGAIN, f"failed to execute plugin: {file}: text file busy")


def _read_all(descriptor: int, file: str) -> bytes:
    deadline = time.monotonic() + LIMIT_S
    chunks = b""
    while len(chunks) < _LARGEST_ANSWER:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise CniError(TRY_AGAIN, f"plugin {file} did not end within {LIMIT_S:.0f} s")
        chunk = posix.read(descriptor, _CHUNK)
        if not chunk:
            break
        chunks += chunk
    return chunks
