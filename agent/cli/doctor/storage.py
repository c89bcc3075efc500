"""Checks of disks and of what the agent keeps on them."""

import os
from pathlib import Path

from agent.adapters.files.state import FORMAT, STAMP, Newer, newer_documents, read_stamp
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
    """Which file a newer agent wrote, in words; None: none. Only reads (decision 0031)."""
    from agent.adapters.ecs.records import FORMAT as ECS_FORMAT  # noqa: PLC0415 - most words do not ask this
    from agent.adapters.files.codec import VERSION  # noqa: PLC0415
    from agent.adapters.local.page import user_version  # noqa: PLC0415
    from agent.adapters.local.schema import SCHEMA_VERSION  # noqa: PLC0415

    stamp = read_stamp(directory)
    found: list[Newer] = []
    if stamp is not None and stamp.format > FORMAT:
        found.append(Newer(directory / STAMP, stamp.format, FORMAT))
    if stamp is None:
        # where the stamp says that this agent knows the format, a high number in one record is damage
        found += newer_documents(directory / "tasks", "version", VERSION)
        found += newer_documents(directory / "ecs", "format", ECS_FORMAT)
    database = directory / "berth.db"
    if database.exists() and (version := user_version(database)) > SCHEMA_VERSION:
        found.append(Newer(database, version, SCHEMA_VERSION))
    return next(
        (
            f"{each.file} has format {each.found}; this agent knows {each.understood} and older"
            for each in found
        ),
        None,
    )


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
