"""Containers, volumes and control groups that carry the marks of this agent and belong to no task."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from agent.adapters.docker.cgroups import Driver, TaskGroups, groups_here, layout_of
from agent.adapters.docker.settings import DockerSettings, PauseImage
from agent.adapters.docker.translate import CLUSTER_LABEL, CONTAINER_LABEL, TASK_LABEL
from agent.cli.dockerd import Dockerd, DockerSilent
from agent.cli.leaks.things import Known, NotRemoved, Thing, Unseen
from agent.lifecycle.names import is_own
from agent.model.errors import CannotLimitResources, CannotRemoveContainer
from agent.model.ids import ContainerId, TaskArn, TaskId, task_id
from agent.model.observation import PAUSE_NAME, ContainerSnapshot
from agent.settings import Settings

LOOK_LIMIT = 4.0
REMOVE_LIMIT = 45.0
_GRACE = "10"
_ENDED = ("exited", "created", "dead")

Asked = Callable[[], Known]


def containers(settings: Settings, known: Asked) -> tuple[Thing, ...]:
    """Containers of unknown tasks, pause containers last. Without an agent, only those that do not run."""
    docker = Dockerd(settings.docker_host, LOOK_LIMIT)
    seen = _asked(docker, "/containers/json", all="1", filters=_marks())
    asked = known()
    found: list[tuple[bool, Thing]] = []
    for each in seen:
        labels: Mapping[str, str] = each.get("Labels") or {}
        snapshot = _snapshot(each, labels)
        task = task_id(snapshot.task_arn)
        is_ours = labels.get(CLUSTER_LABEL) == _cluster(asked) and is_own(snapshot)
        if not is_ours or task in asked.tasks or (snapshot.is_running and not asked.has_agent):
            continue
        remove = partial(_remove_container, settings.docker_host, snapshot.container_id, asked.has_agent)
        # no sandbox: the records may be lost while the container is here
        found.append(
            (labels.get(CONTAINER_LABEL) == PAUSE_NAME, Thing(snapshot.docker_name, remove, task=task))
        )
    return tuple(thing for _, thing in sorted(found, key=lambda pair: (pair[0], pair[1].name)))


def volumes(settings: Settings, known: Asked) -> tuple[Thing, ...]:
    """Volumes of unknown tasks."""
    docker = Dockerd(settings.docker_host, LOOK_LIMIT)
    answer = _asked(docker, "/volumes", filters=_marks())
    used = _tasks_with_containers(docker)
    asked = known()
    return tuple(
        Thing(volume["Name"], partial(_remove_volume, settings.docker_host, volume["Name"]), task=task)
        for volume in answer.get("Volumes") or ()
        if (volume.get("Labels") or {}).get(CLUSTER_LABEL) == _cluster(asked)
        and (task := task_id(TaskArn(volume["Labels"][TASK_LABEL]))) not in asked.tasks
        and (asked.has_agent or task not in used)
    )


def control_groups(settings: Settings, known: Asked) -> tuple[Thing, ...]:
    """Control groups of unknown tasks, made as Docker says; if it is silent, as those that are there."""
    if not settings.task_limits:
        return ()
    try:
        info = Dockerd(settings.docker_host, LOOK_LIMIT).get("/info")
    except DockerSilent:
        info = {"CgroupDriver": "systemd"} if _has_slices(settings.cgroup_path) else {}
    asked = known()
    groups = groups_here(_docker_settings(settings, _cluster(asked)), info)
    is_systemd = layout_of(info, settings.cgroup_path).driver is Driver.SYSTEMD
    found = set(_slices(settings.cgroup_path)) if is_systemd else set(groups.leftovers(asked.tasks))
    return tuple(
        Thing(groups.parent_for(task) or task, partial(_remove_group, groups, task), task=task)
        for task in sorted(found - asked.tasks)
        # without an agent, what runs belongs to somebody
        if asked.has_agent or not _has_processes(settings.cgroup_path, task)
    )


# -- what is asked of Docker -----------------------------------------------------------------------


def _asked(docker: Dockerd, path: str, **query: str) -> Any:
    try:
        return docker.get(path, **query)
    except DockerSilent as error:
        raise Unseen(str(error)) from error


def _tasks_with_containers(docker: Dockerd) -> set[TaskId]:
    running = _asked(docker, "/containers/json", filters=_marks())
    return {task_id(TaskArn(each["Labels"][TASK_LABEL])) for each in running}


def _marks() -> str:
    return json.dumps({"label": [TASK_LABEL]})


def _cluster(known: Known) -> str:
    if not known.cluster:
        raise Unseen("which cluster this machine belongs to is known to the running agent only")
    return known.cluster


def _snapshot(each: Mapping[str, Any], labels: Mapping[str, str]) -> ContainerSnapshot:
    names = each.get("Names") or [""]
    return ContainerSnapshot(
        container_id=ContainerId(each["Id"]),
        docker_name=str(names[0]).removeprefix("/"),
        task_arn=TaskArn(labels[TASK_LABEL]),
        container_name=labels.get(CONTAINER_LABEL, ""),
        observed_at=datetime.fromtimestamp(0, UTC),
        is_running=each.get("State") not in _ENDED,
        was_started=each.get("State") != "created",
    )


def _docker_settings(settings: Settings, cluster: str) -> DockerSettings:
    return DockerSettings(
        cluster=cluster,
        pause=PauseImage("", "", Path()),
        host=settings.docker_host,
        task_limits=settings.task_limits,
        cgroup_root=settings.cgroup_path,
        cpu_period=settings.cgroup_cpu_period,
    )


# -- control groups --------------------------------------------------------------------------------


def _slices(root: Path) -> Iterator[TaskId]:
    for path in (
        *root.glob("ecstasks.slice/ecstasks-*.slice"),
        *root.glob("*/ecstasks.slice/ecstasks-*.slice"),
    ):
        yield TaskId(path.name.removeprefix("ecstasks-").removesuffix(".slice"))


def _has_slices(root: Path) -> bool:
    return next(_slices(root), None) is not None


def _has_processes(root: Path, task: TaskId) -> bool:
    for pattern in (
        f"ecs/{task}",
        f"*/ecs/{task}",
        f"ecstasks.slice/*{task}.slice",
        f"*/ecstasks.slice/*{task}.slice",
    ):
        for group in root.glob(pattern):
            for processes in (group / "cgroup.procs", *group.glob("**/cgroup.procs")):
                if processes.read_text().strip():
                    return True
    return False


# -- removal ---------------------------------------------------------------------------------------


def _remove_container(host: str, container: ContainerId, may_stop: bool) -> None:
    docker = Dockerd(host, REMOVE_LIMIT)
    try:
        if not docker.exists(f"/containers/{container}/json"):
            return
        if may_stop:
            docker.post(f"/containers/{container}/stop", t=_GRACE)
        # not by force: without an agent a container that has been started meanwhile stays
        docker.delete(f"/containers/{container}", force="1" if may_stop else "0")
    except DockerSilent as error:
        raise NotRemoved(str(error)) from error


def _remove_volume(host: str, name: str) -> None:
    try:
        Dockerd(host, REMOVE_LIMIT).delete(f"/volumes/{name}")
    except DockerSilent as error:
        raise NotRemoved(str(error)) from error


def _remove_group(groups: TaskGroups, task: TaskId) -> None:
    try:
        groups.remove(task)
    except (CannotRemoveContainer, CannotLimitResources) as error:
        raise NotRemoved(str(error)) from error
