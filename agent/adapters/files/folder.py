"""A directory of small files, each replaced whole: a crash leaves the old content or the new one."""

import os
import re
import stat
from pathlib import Path

import structlog

from agent.model.errors import CheckpointFailed

log = structlog.get_logger()

SUFFIX = ".json"
_ASIDE_SUFFIX = ".json.new"
_LARGEST_BYTES = 16 * 1024 * 1024
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class FileUnreadable(Exception):
    """A file is not what it should be. The text says what it is."""


class Folder:
    """Files ``<name>.json``; what cannot be read goes to ``broken/``. Everything here blocks.

    ``purpose``: what is kept here, for messages. ``is_synced``: a write returns only when it survives a power
    cut.
    """

    def __init__(self, directory: Path, purpose: str, *, is_synced: bool) -> None:
        self._directory = directory
        self._purpose = purpose
        self._broken = directory / "broken"
        self._is_synced = is_synced

    def names(self) -> list[str]:
        """The names of all files, sorted; what a crash left half written is removed.

        Raise ``CheckpointFailed`` if the directory cannot be used.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = sorted(entry.name for entry in os.scandir(self._directory))
            for name in found:
                if name.endswith(_ASIDE_SUFFIX):  # a crash came between writing and renaming
                    (self._directory / name).unlink()
        except OSError as error:
            raise CheckpointFailed(
                f"cannot read the {self._purpose} in {self._directory}: {error.strerror}; "
                "make it a directory that the agent may write"
            ) from error
        return [name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX)]

    def read(self, name: str) -> bytes:
        """The content. Raise ``FileUnreadable`` or ``OSError``."""
        # O_NONBLOCK: a named pipe in the directory must not hold up the start.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self._directory / f"{name}{SUFFIX}", flags)
        with open(descriptor, "rb") as file:  # noqa: PTH123 -- of a descriptor
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise FileUnreadable("not a regular file")
            if found.st_size > _LARGEST_BYTES:
                raise FileUnreadable(f"{found.st_size} bytes long, expected at most {_LARGEST_BYTES}")
            return file.read()

    def write(self, name: str, content: bytes) -> None:
        """Replace the file. Raise ``CheckpointFailed`` naming the path and the cause."""
        path = self._path(name)
        aside = path.with_name(name + _ASIDE_SUFFIX)
        try:
            self._write_aside(aside, content)
            aside.replace(path)
            if self._is_synced:
                self._sync_directory()
        except OSError as error:
            raise CheckpointFailed(f"cannot write {path}: {error.strerror}") from error

    def delete(self, name: str) -> None:
        """Delete the file; fine if there is none. Raise ``CheckpointFailed``."""
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointFailed(f"cannot delete {path}: {error.strerror}") from error

    def set_aside(self, name: str, problem: str) -> None:
        """Keep what cannot be read for somebody to look at. Never fails; the log says where it is."""
        file = f"{name}{SUFFIX}"
        try:
            self._broken.mkdir(mode=0o700, exist_ok=True)
            target = self._broken / file
            number = 1
            while os.path.lexists(target):
                target = self._broken / f"{file}.{number}"
                number += 1
            (self._directory / file).rename(target)
        except OSError as error:
            log.error("checkpoint.set_aside_failed", file=file, problem=problem, cause=str(error))  # noqa: TRY400
        else:
            log.warning("checkpoint.set_aside", file=file, problem=problem, kept_as=str(target))

    def _write_aside(self, path: Path, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, flags, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 -- of a descriptor
            file.write(content)
            if self._is_synced:
                file.flush()
                os.fsync(descriptor)

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _path(self, name: str) -> Path:
        if not _FILE_NAME.fullmatch(name):
            raise CheckpointFailed(
                f"{name!r} cannot name a file in {self._directory}; "
                "expected letters, digits, '.', '_' and '-'"
            )
        return self._directory / f"{name}{SUFFIX}"
