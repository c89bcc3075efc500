"""Checks of disks and of what the agent keeps on them."""

import json
import os
from pathlib import Path

from agent.cli.doctor.facts import Facts
from agent.cli.doctor.findings import NotApplicable, Verdict, bad, warn, well, worst

MIB = 1 << 20
LITTLE, NOTHING = 0.10, 0.02
LITTLE_BYTES, NOTHING_BYTES = 2048 * MIB, 64 * MIB


def disk(facts: Facts) -> Verdict:
    """Whether there is room, and it may be written, where the agent and where Docker keep their files."""
    data = facts.settings.data_directory
    found = [_place(facts, "the data directory", facts.root / data.relative_to("/"), data)]
    try:
        root = facts.answering_docker().info.get("DockerRootDir")
    except NotApplicable:
        root = None
    if root:
        found.append(_place(facts, "Docker's directory", facts.host_root / str(root).lstrip("/"), Path(root)))
    else:
        found.append(well("Docker has not said where it keeps its files"))
    return worst(found, "")


def state(facts: Facts) -> Verdict:
    """Whether the records of tasks can be read, and by this version."""
    directory = facts.root / facts.settings.data_directory.relative_to("/")
    if not directory.is_dir():
        return well(f"there is no {facts.settings.data_directory} yet; the agent makes it")
    problems = [*_damaged(directory / "tasks"), *_set_aside(directory)]
    newer = newer_than_known(directory)
    if newer:
        return bad(
            newer,
            "the agent refuses to start, with exit code 5, and leaves the records as they are",
            "start the version that wrote them, or a newer one",
        )
    if problems:
        return warn(
            "; ".join(problems),
            "tasks of unreadable records are taken for unknown, and rebuilt from what Docker knows",
            f"look at {facts.settings.data_directory}/tasks/broken; what is not needed may be deleted",
        )
    count = len(list((directory / "tasks").glob("*.json"))) if (directory / "tasks").is_dir() else 0
    return well(f"{count} records of tasks, all readable")


def newer_than_known(directory: Path) -> str | None:
    """Which record a newer agent wrote, in words; None: none."""
    from agent.adapters.files.codec import VERSION  # noqa: PLC0415

    for path in sorted((directory / "tasks").glob("*.json")):
        try:
            version = json.loads(path.read_bytes()).get("version")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(version, int) and version > VERSION:
            return f"{path} has version {version}; this agent knows {VERSION} and older"
    return None


def _damaged(directory: Path) -> list[str]:
    from agent.adapters.files.codec import CheckpointUnreadable, decode_task  # noqa: PLC0415

    found = []
    for path in sorted(directory.glob("*.json")):
        try:
            decode_task(path.read_bytes())
        except FileNotFoundError:
            continue  # its task has just been forgotten
        except (CheckpointUnreadable, OSError) as error:
            found.append(f"{path.name}: {error}")
    return found[:5]


def _set_aside(directory: Path) -> list[str]:
    broken = [path for path in directory.glob("**/broken/*") if path.is_file()]
    return [f"{len(broken)} damaged records have been set aside in {broken[0].parent}"] if broken else []


def _place(facts: Facts, what: str, path: Path, shown: Path) -> Verdict:
    nearest = next(each for each in (path, *path.parents) if each.exists())
    seen = facts.disk(nearest)
    where = f"{what} ({shown})"
    stops = "tasks cannot be started, and what is known of them cannot be saved"
    if seen.f_flag & os.ST_RDONLY:
        return bad(f"{where} is on a file system that is read-only", stops, "see dmesg for why; remount it")
    size, free = seen.f_blocks * seen.f_frsize, seen.f_bavail * seen.f_frsize
    part = free / size if size else 1.0
    told = f"{where}: {free // MIB} MiB of {size // MIB} MiB free"
    inodes = seen.f_favail / seen.f_files if seen.f_files else 1.0
    advice = "docker system df says what images and containers take; docker image prune removes unused ones"
    if free < NOTHING_BYTES or part < NOTHING:
        return bad(told, stops, advice)
    if inodes < NOTHING:
        return bad(f"{where}: {seen.f_favail} of {seen.f_files} inodes free", stops, advice)
    if inodes < LITTLE:
        return warn(
            f"{where}: {seen.f_favail} of {seen.f_files} inodes free", "soon nothing can be written", advice
        )
    if part < LITTLE and free < LITTLE_BYTES:
        return warn(told, "an image or a log may fill it", advice)
    return well(told)
