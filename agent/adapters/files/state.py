"""The state directory as a whole: which format it has, who may use it, and how it becomes the newest one.

One file, ``format.json``, says the format of everything beside it. It is looked at before anything is
written, so that an agent that is too old for a directory leaves it exactly as it is. Decision 0031.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from agent.adapters.files import sums
from agent.adapters.files.folder import FileUnreadable, Folder
from agent.model.errors import CannotStart, StateTooNew

log = structlog.get_logger()

FORMAT = 1
"""The format of a state directory that this agent writes. 0: one from before the number was written."""

STAMP = "format.json"
_LARGEST_STAMP = 64 * 1024
_SYNC_FLAGS = os.O_RDONLY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Stamp:
    """What ``format.json`` says. ``migrating_from``: a migration from that format has begun and not ended."""

    format: int
    written_by: str
    migrating_from: int | None = None


@dataclass(frozen=True, slots=True)
class Newer:
    """A file of which the own number says that a newer agent wrote it."""

    file: Path
    found: int
    understood: int


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a migration of the directory. Both are given the directory, and block.

    ``is_needed`` only reads. ``run`` may be cut off anywhere and run again; a single broken file is no reason
    for it to fail. It raises ``OSError`` or ``ValueError`` if it cannot be done.
    """

    name: str
    is_needed: Callable[[Path], bool]
    run: Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What this agent knows of state directories. The default knows how to stamp, and nothing else.

    ``newest``: the format that it writes. ``steps``: format n -> what makes n + 1 of it. ``contents``: names
    of files and directories that a copy consists of. ``witnesses`` look for files that a newer agent wrote:
    each is given the directory, and whether its format is known from its stamp, and only reads.
    """

    agent_version: str
    newest: int = FORMAT
    steps: Mapping[int, tuple[Step, ...]] | None = None
    contents: tuple[str, ...] = ()
    witnesses: tuple[Callable[[Path, bool], Iterable[Newer]], ...] = ()


class StateDirectory:
    """A state directory and what may be done with it. Everything blocks; used before the agent's loop works.

    ``refuse_newer`` comes first and needs no lock. ``settle`` comes after, under the agent's lock.
    """

    def __init__(self, directory: Path, plan: Plan) -> None:
        self._directory = directory
        self._plan = plan
        self._copy = directory / f"before-format-{plan.newest}"

    def refuse_newer(self) -> None:
        """Raise ``StateTooNew`` if a newer agent has written here. Nothing is made, written or renamed.

        Who cannot read it is told so when he takes the lock, with what to do; ``settle`` looks once more.
        """
        with suppress(OSError):
            self._refuse_newer()

    def _refuse_newer(self) -> None:
        stamp = read_stamp(self._directory)
        if stamp is not None and stamp.format > self._plan.newest:
            raise self._too_new(Newer(self._directory / STAMP, stamp.format, self._plan.newest), stamp.format)
        for witness in self._plan.witnesses:
            for found in witness(self._directory, stamp is not None):
                raise self._too_new(found, None)

    def settle(self) -> None:
        """Bring the directory to this agent's format and say so in its stamp.

        What was there before a migration is kept whole in ``before-format-<n>``; the copy is complete before
        anything changes, and the stamp says that a migration has begun before the first step. Whatever cuts
        it off, the next start goes on with it. Raise ``StateTooNew`` or ``CannotStart``.
        """
        try:
            self._settle()
        except (OSError, ValueError) as error:
            raise CannotStart(
                f"the state in {self._directory} cannot be brought to format {self._plan.newest}: {error}. "
                "Check the space and the owner of the directory and start again"
                + (f"; what was there before is kept in {self._copy}" if self._copy.exists() else ""),
                is_final=False,
            ) from error

    # -- within ----------------------------------------------------------------------------------

    def _settle(self) -> None:
        self._refuse_newer()
        stamp = read_stamp(self._directory)
        if stamp is None and os.path.lexists(self._directory / STAMP):
            log.warning("state.stamp_unreadable", path=str(self._directory / STAMP))
        steps = self._steps(stamp)
        if stamp is not None and stamp.migrating_from is not None:
            log.warning("state.migration_resumed", since_format=stamp.migrating_from, kept_as=str(self._copy))
            self._migrate(steps, stamp.migrating_from)
        elif any(step.is_needed(self._directory) for step in steps):
            before = stamp.format if stamp is not None else 0
            self._keep_copy(is_fresh=stamp is not None)
            self._migrate(steps, before)
        self._say_who_is_here(stamp)

    def _steps(self, stamp: Stamp | None) -> tuple[Step, ...]:
        before = 0
        if stamp is not None:
            before = stamp.format if stamp.migrating_from is None else stamp.migrating_from
        known = self._plan.steps or {}
        return tuple(step for number in range(before, self._plan.newest) for step in known.get(number, ()))

    def _say_who_is_here(self, stamp: Stamp | None) -> None:
        try:
            self._write_stamp(Stamp(self._plan.newest, self._plan.agent_version))
        except OSError as error:
            if stamp is None or (stamp.format, stamp.migrating_from) != (self._plan.newest, None):
                raise
            # Only the name of the last writer is out of date: no reason to keep the agent from its tasks.
            log.warning("state.stamp_not_written", path=str(self._directory / STAMP), reason=str(error))

    def _migrate(self, steps: tuple[Step, ...], before: int) -> None:
        self._write_stamp(Stamp(self._plan.newest, self._plan.agent_version, migrating_from=before))
        for step in steps:
            if step.is_needed(self._directory):
                step.run(self._directory)
                log.info("state.migrated", step=step.name, path=str(self._directory))
        log.info("state.upgraded", before=before, now=self._plan.newest, kept_as=str(self._copy))

    def _keep_copy(self, *, is_fresh: bool) -> None:
        """Copy what there is. ``is_fresh``: a copy that is there already belongs to an earlier upgrade."""
        if self._copy.exists() and not is_fresh:
            return  # the stamp was lost while a migration was under way: this is what was there before it
        aside = self._copy.with_name(self._copy.name + ".new")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(mode=0o700)
        for name in (*self._plan.contents, STAMP):
            source = self._directory / name
            if source.is_dir() and not source.is_symlink():
                shutil.copytree(source, aside / name, symlinks=True, ignore=_not_state)
            elif os.path.lexists(source):
                shutil.copy2(source, aside / name, follow_symlinks=False)
        _sync_tree(aside)
        for earlier in self._directory.glob("before-format-*"):
            if earlier != aside:
                shutil.rmtree(earlier)
        aside.rename(self._copy)
        _sync(self._directory)
        log.info("state.copied", kept_as=str(self._copy))

    def _write_stamp(self, stamp: Stamp) -> None:
        if read_stamp(self._directory) == stamp:
            return
        fields: dict[str, int | str] = {"format": stamp.format, "written_by": stamp.written_by}
        if stamp.migrating_from is not None:
            fields["migrating_from"] = stamp.migrating_from
        content = json.dumps({**fields, sums.NAME: sums.sum_of(sums.text_of(fields))}) + "\n"
        aside = self._directory / f"{STAMP}.new"
        aside.unlink(missing_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 -- of a descriptor
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        aside.replace(self._directory / STAMP)
        _sync(self._directory)

    def _too_new(self, newer: Newer, directory_format: int | None) -> StateTooNew:
        copy = self._directory / f"before-format-{directory_format}"
        has_copy = directory_format is not None and copy.is_dir()
        more = f"What was there before the upgrade is in {copy}" if has_copy else ""
        return StateTooNew(
            file=str(newer.file),
            found=newer.found,
            understood=newer.understood,
            directory=str(self._directory),
            more=more,
        )


def read_stamp(directory: Path) -> Stamp | None:
    """What ``format.json`` says. None: there is none, or it is damaged. Reads only."""
    try:
        descriptor = os.open(directory / STAMP, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 -- of a descriptor
            document = json.loads(file.read(_LARGEST_STAMP))
        sums.check(document.pop(sums.NAME), document)
        before = document.get("migrating_from")
        stamp = Stamp(document["format"], document["written_by"], before)
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError, sums.SumWrong):
        return None
    is_whole = type(stamp.format) is int and stamp.format > 0 and (before is None or type(before) is int)
    return stamp if is_whole and isinstance(stamp.written_by, str) else None


def newer_documents(folder: Path, field: str, understood: int) -> Iterable[Newer]:
    """The JSON files of a directory with a number higher than ``understood``; what is broken is none."""
    for path in sorted(folder.glob("*.json")):
        document = read_document(path)
        found = document.get(field) if document is not None else None
        if type(found) is int and found > understood:
            yield Newer(path, found, understood)


def read_document(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file ``<name>.json``. None: it is missing or broken; its own store says so."""
    try:
        document = json.loads(Folder(path.parent, "state", is_synced=False).read(path.stem))
    except (OSError, ValueError, RecursionError, FileUnreadable):
        return None
    return document if isinstance(document, dict) else None


def _not_state(directory: str, names: list[str]) -> list[str]:
    """What no copy needs: what was set aside, half-written files, and what is no file at all."""
    special = (
        name for name in names if not (Path(directory, name).is_file() or Path(directory, name).is_dir())
    )
    return [*special, *(name for name in names if name == "broken" or name.endswith(".new"))]


def _sync_tree(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, _SYNC_FLAGS)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
