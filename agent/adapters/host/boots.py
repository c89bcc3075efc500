"""What was true of an earlier boot of this machine, and is kept where only a boot's own things belong."""

import re
import shutil
from pathlib import Path

import structlog

log = structlog.get_logger()


def this_boot() -> str:
    """The id of this boot of the machine (random(4)). Raise ``OSError`` where /proc does not tell."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def forget_older_boots(directory: Path) -> None:
    """Remove the neighbours of ``directory`` that are named by other boots as it is named by this one.

    A directory that no boot has named has no such neighbours. What cannot be removed stays, and the log says
    so: it takes room, and nothing reads it.
    """
    if not _BOOT_ID.fullmatch(directory.name) or not directory.parent.is_dir():
        return
    for other in directory.parent.iterdir():
        if other.name == directory.name or not _BOOT_ID.fullmatch(other.name) or other.is_symlink():
            continue
        try:
            shutil.rmtree(other)
        except OSError as error:
            log.warning("boot.kept", path=str(error.filename or other), problem=str(error))
        else:
            log.info("boot.forgotten", path=str(other))


_BOOT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""How the kernel writes /proc/sys/kernel/random/boot_id (random(4))."""
