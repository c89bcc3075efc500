"""Checks of Docker: that it answers, and is set up so that tasks survive what happens to it."""

import json
import os
import platform
from pathlib import Path

from agent.adapters.docker.cgroups import Driver, layout_of
from agent.cli.dockerd import DockerSilent
from agent.cli.doctor.facts import Facts
from agent.cli.doctor.findings import CannotFix, Fix, Verdict, bad, warn, well, worst

DOCKERS_SETTINGS = "etc/docker/daemon.json"

OLDEST_API = (1, 24)
"""What the agent's Docker SDK can still speak."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

SLOW = 1.0
"""Seconds. A healthy daemon answers a ping within milliseconds."""


def docker(facts: Facts) -> Verdict:
    """Whether Docker answers, how fast, and in which version."""
    host = facts.settings.docker_host
    try:
        found = facts.docker()
    except DockerSilent as error:
        return bad(
            str(error),
            "no task can be started, stopped or looked at; those that run go on",
            f"look at Docker's own log (journalctl -u docker), and whether DOCKER_HOST ({host}) is right",
        )
    said = str(found.version.get("ApiVersion") or "")
    shown = f"Docker {found.version.get('Version')}, API {said}, ping {found.latency * 1000:.0f} ms"
    try:
        api = tuple(int(part) for part in said.split("."))
    except ValueError:
        return warn(
            f"{host} answers, but says that its API is {said!r}",
            "perhaps something else than Docker is there",
        )
    if api < OLDEST_API:
        return bad(
            shown, "the agent speaks API 1.24 or newer", "install a newer Docker Engine (20.10 or later)"
        )
    if found.latency > SLOW:
        return warn(
            shown,
            "every step of a task waits so long, several times",
            "see what keeps Docker or the disk busy",
        )
    return well(shown)


def live_restore(facts: Facts) -> Verdict:
    """Whether containers outlive a restart of Docker."""
    if facts.answering_docker().info.get("LiveRestoreEnabled"):
        return well("live-restore is on")
    return warn(
        "live-restore is off",
        "a restart or an upgrade of Docker ends all tasks of this machine",
        'put {"live-restore": true} into /etc/docker/daemon.json, then: kill -HUP $(pidof dockerd)',
        _turn_on_live_restore(facts),
    )


def control_groups(facts: Facts) -> Verdict:
    """Whether the agent can limit tasks through the control groups that Docker makes."""
    settings = facts.settings
    if not settings.task_limits:
        return well("ECS_ENABLE_TASK_CPU_MEM_LIMIT is false: tasks have no control group of their own")
    place = facts.root / settings.cgroup_path.relative_to("/")
    try:
        layout = layout_of(facts.docker().info, place)
    except DockerSilent:
        layout = layout_of({}, place)
    found = [_controllers_v1(place) if layout.version == 1 else _controllers_v2(place)]
    has_systemd = (facts.root / "run/systemd/system").is_dir() or (
        facts.host_root / "run/systemd/system"
    ).is_dir()
    if layout.driver is Driver.SYSTEMD and facts.run(["systemctl", "--version"], "") is None:
        found.append(
            bad(
                "Docker makes control groups through systemd, but there is no systemctl here",
                "no task can be started",
                "install systemctl where the agent runs, or set ECS_ENABLE_TASK_CPU_MEM_LIMIT=false",
            )
        )
    elif layout.driver is Driver.CGROUPFS and layout.version != 1 and has_systemd:
        found.append(
            warn(
                "Docker makes control groups itself (cgroupfs) beside systemd, which manages the same tree",
                "systemd may undo limits of tasks when its units change",
                'put {"exec-opts": ["native.cgroupdriver=systemd"]} into /etc/docker/daemon.json',
            )
        )
    else:
        found.append(well(f"Docker's driver is {layout.driver}"))
    return worst(found, "")


def pause_image(facts: Facts) -> Verdict:
    """Whether the image of the container that holds a task's network can be had."""
    directory = facts.settings.pause_path
    description = directory / f"pause-{_ARCHITECTURES.get(platform.machine(), platform.machine())}.json"
    try:
        content = json.loads(description.read_text(encoding="utf-8"))
        image, name, archive = content["image_id"], content["name"], directory / content["archive"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return bad(
            f"{description} cannot be read: {error}",
            "the agent does not start",
            "build it with 'make build', or point BERTH_PAUSE_PATH at its directory",
        )
    if not Path(archive).is_file():
        return bad(f"there is no {archive}", "the agent cannot load the image", "build it with 'make build'")
    if not _has_image(facts, str(image)):
        return well(f"{name} is not in Docker yet; the agent loads it from {archive} when it starts")
    return well(f"{name} is in Docker")


def _turn_on_live_restore(facts: Facts) -> Fix | None:
    """None where it is not plain which file and which process it would be."""
    daemons = [each for each in facts.processes() if each.name == "dockerd"]
    swarm = facts.answering_docker().info.get("Swarm") or {}
    if len(daemons) != 1 or facts.is_inside or swarm.get("LocalNodeState") == "active":
        return None
    if any("config-file" in word or "live-restore" in word for word in daemons[0].words):
        return None
    path = facts.root / DOCKERS_SETTINGS
    pid = daemons[0].pid

    def apply() -> None:
        try:
            before = path.read_text(encoding="utf-8") if path.exists() else "{}"
            content = json.loads(before or "{}")
            if not isinstance(content, dict):
                raise CannotFix(f"/{DOCKERS_SETTINGS} is no JSON object; nothing was changed")
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f"{path.name}.new")
            aside.write_text(json.dumps({**content, "live-restore": True}, indent=2) + "\n", encoding="utf-8")
            aside.replace(path)
            facts.hang_up(pid)
        except (OSError, ValueError) as error:
            raise CannotFix(f"/{DOCKERS_SETTINGS}: {error}") from error

    return Fix(
        f'write "live-restore": true into Docker\'s own /{DOCKERS_SETTINGS} (the rest of it stays), and tell '
        f"Docker (process {pid}) to read it again (SIGHUP); nothing is restarted",
        f'take "live-restore" out of /{DOCKERS_SETTINGS}; kill -HUP {pid}',
        apply,
    )


def _has_image(facts: Facts, image: str) -> bool:
    facts.answering_docker()
    try:
        return facts.socket().exists(f"/images/{image}/json")
    except DockerSilent as error:
        raise TimeoutError(str(error)) from error


def _controllers_v1(root: Path) -> Verdict:
    absent = [each for each in ("cpu", "cpuset", "memory") if not (root / each).is_dir()]
    unwritable = [
        str(root / each)
        for each in ("cpu", "cpuset", "memory")
        if each not in absent and not _is_writable(root / each)
    ]
    if unwritable:
        return _read_only(unwritable)
    if absent:
        return warn(
            f"control groups v1 without {', '.join(absent)} below {root}",
            "tasks are not limited in that respect",
            "mount the controllers, or boot a kernel that has them",
        )
    return well("control groups v1 with cpu, cpuset and memory")


def _controllers_v2(root: Path) -> Verdict:
    try:
        have = (root / "cgroup.controllers").read_text().split()
    except FileNotFoundError:
        return bad(
            f"no control groups are mounted at {root}",
            "no task can be started",
            "mount them, in a container with -v /sys/fs/cgroup:/sys/fs/cgroup, or set ECS_CGROUP_PATH",
        )
    if not _is_writable(root):
        return _read_only([str(root)])
    absent = [each for each in ("cpu", "memory") if each not in have]
    if absent:
        return bad(
            f"control groups v2 without {', '.join(absent)} at {root} (it has: {' '.join(have) or 'none'})",
            "tasks with limits cannot be started: whoever is above has not delegated these controllers",
            "in systemd's unit: Delegate=yes; or set ECS_ENABLE_TASK_CPU_MEM_LIMIT=false",
        )
    return well(f"control groups v2 with {' '.join(have)}")


def _read_only(places: list[str]) -> Verdict:
    return bad(
        f"control groups cannot be written: {', '.join(places)}",
        "no task with limits can be started",
        "in a container: -v /sys/fs/cgroup:/sys/fs/cgroup and --privileged",
    )


def _is_writable(place: Path) -> bool:
    return os.access(place, os.W_OK)
