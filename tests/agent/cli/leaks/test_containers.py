import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.cli.leaks import containers
from agent.cli.leaks.things import Known, NotRemoved, Unseen
from agent.model.ids import TaskId
from agent.settings import Settings, environment

ARN = "arn:aws:ecs:us-east-1:111122223333:task/blue/{}"


@pytest.fixture
def settings(data_directory, docker, tmp_path) -> Settings:
    return replace(
        Settings.load(environment()),
        docker_host=docker.host,
        cgroup_path=tmp_path / "groups",
        task_limits=True,
    )


def known(*tasks: str, has_agent: bool = True, cluster: str = "blue"):
    found = Known(frozenset(map(TaskId, tasks)), frozenset(), None, has_agent=has_agent, cluster=cluster)
    return lambda: found


def a_container(
    task: str, name: str = "web", *, state: str = "exited", cluster: str = "blue", is_own: bool = True
):
    arn = ARN.format(task)
    unique = hashlib.sha256(f"{arn}\n{name}".encode()).hexdigest()[:20]
    return {
        "Id": f"{task}-{name}",
        "Names": [f"/ecs-web-1-{name}-{unique}" if is_own else "/somebody"],
        "State": state,
        "Labels": {
            "com.amazonaws.ecs.task-arn": arn,
            "com.amazonaws.ecs.container-name": name,
            "com.amazonaws.ecs.cluster": cluster,
        },
    }


def ids(things):
    return [str(thing.task) for thing in things]


def test_only_containers_of_unknown_tasks_of_this_cluster_with_their_own_name_are_left(
    settings, docker
) -> None:
    docker.answers["/containers/json"] = (
        200,
        [
            a_container("gone"),
            a_container("here"),
            a_container("other", cluster="green"),
            a_container("copy", is_own=False),
        ],
    )
    assert ids(containers.containers(settings, known("here"))) == ["gone"]


def test_the_pause_container_goes_last(settings, docker) -> None:
    docker.answers["/containers/json"] = (200, [a_container("a", "~internal~ecs~pause"), a_container("b")])
    assert ids(containers.containers(settings, known())) == ["b", "a"]


def test_without_an_agent_what_runs_belongs_to_somebody(settings, docker) -> None:
    docker.answers["/containers/json"] = (200, [a_container("gone", state="running"), a_container("ended")])
    assert ids(containers.containers(settings, known(has_agent=False))) == ["ended"]
    assert sorted(ids(containers.containers(settings, known()))) == ["ended", "gone"]


def test_a_container_is_stopped_only_where_an_agent_has_spoken(settings, docker) -> None:
    docker.answers["/containers/json"] = (200, [a_container("gone")])
    docker.answers["/containers/gone-web/json"] = (200, {})
    docker.answers["/containers/gone-web/stop"] = (204, None)
    docker.answers["/containers/gone-web"] = (204, None)
    containers.containers(settings, known(has_agent=False))[0].remove()
    assert docker.asked[-1] == "DELETE /containers/gone-web?force=0"
    containers.containers(settings, known())[0].remove()
    assert docker.asked[-2:] == ["POST /containers/gone-web/stop?t=10", "DELETE /containers/gone-web?force=1"]


def test_volumes_of_unknown_tasks_are_left_unless_something_runs(settings, docker) -> None:
    labels = a_container("gone")["Labels"]
    docker.answers["/volumes"] = (200, {"Volumes": [{"Name": "v", "Labels": labels}]})
    assert ids(containers.volumes(settings, known())) == ["gone"]
    docker.answers["/containers/json"] = (200, [a_container("gone", state="running")])
    assert ids(containers.volumes(settings, known(has_agent=False))) == []
    docker.answers["/volumes/v"] = (409, {"message": "volume is in use"})
    (thing,) = containers.volumes(settings, known())
    with pytest.raises(NotRemoved, match="in use"):
        thing.remove()


def test_where_docker_is_silent_or_the_cluster_unknown_the_kind_is_not_seen(settings, docker) -> None:
    docker.answers["/containers/json"] = (200, [a_container("gone")])
    with pytest.raises(Unseen, match="known to the running agent only"):
        containers.containers(settings, known(cluster=""))
    docker.answers["/containers/json"] = (500, {"message": "database is locked"})
    with pytest.raises(Unseen, match="database is locked"):
        containers.containers(settings, known())


def test_slices_of_unknown_tasks_are_left_without_an_agent_only_if_they_are_empty(settings, docker) -> None:
    docker.answers["/info"] = (200, {"CgroupVersion": "2", "CgroupDriver": "systemd"})
    tree = settings.cgroup_path / "ecstasks.slice"
    for task in ("gone", "busy", "here"):
        (tree / f"ecstasks-{task}.slice" / "docker-1.scope").mkdir(parents=True)
        (tree / f"ecstasks-{task}.slice" / "cgroup.procs").write_text("")
        inside = tree / f"ecstasks-{task}.slice" / "docker-1.scope" / "cgroup.procs"
        inside.write_text("42\n" if task == "busy" else "")
    assert ids(containers.control_groups(settings, known("here", has_agent=False))) == ["gone"]
    assert ids(containers.control_groups(settings, known("here"))) == ["busy", "gone"]
    docker.answers["/info"] = (500, {})
    assert ids(containers.control_groups(settings, known("here"))) == ["busy", "gone"]


def test_groups_of_another_owner_are_not_ours(settings, docker, monkeypatch) -> None:
    docker.answers["/info"] = (200, {"CgroupVersion": "2", "CgroupDriver": "cgroupfs"})
    owners = {"gone": b"com.amazonaws.ecs.task-arn,com.amazonaws.ecs.cluster=blue", "other": b"somebody"}
    for task in owners:
        (settings.cgroup_path / "ecs" / task).mkdir(parents=True)
    monkeypatch.setattr(os, "getxattr", lambda path, _: owners[Path(path).name])
    assert [thing.name for thing in containers.control_groups(settings, known())] == ["/ecs/gone"]
    containers.control_groups(settings, known())[0].remove()
    assert not (settings.cgroup_path / "ecs" / "gone").exists()
