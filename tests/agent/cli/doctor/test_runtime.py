import json
import platform
import time
from pathlib import Path

import pytest

from agent.cli.doctor import facts as facts_module
from agent.cli.doctor import runtime
from agent.cli.doctor.findings import CannotFix, Finding, NotApplicable


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(facts_module, "DOCKER_CALL", 0.3)


def test_a_docker_that_answers_is_well_and_named(world) -> None:
    verdict = runtime.docker(world.facts())
    assert verdict.finding is Finding.OK
    assert "Docker 27.0.1, API 1.46" in verdict.cause


def test_a_docker_that_hangs_is_a_problem_within_its_limit(world) -> None:
    world.docker.is_silent = True
    began = time.monotonic()
    verdict = runtime.docker(world.facts())
    assert time.monotonic() - began < 3
    assert verdict.finding is Finding.PROBLEM
    assert "has not answered within 0.3 s" in verdict.cause
    assert "those that run go on" in verdict.meaning


def test_where_there_is_no_docker_the_path_is_named(world) -> None:
    world.choose(docker_host="unix:///nowhere/docker.sock")
    assert runtime.docker(world.facts()).cause == "there is no /nowhere/docker.sock"


def test_a_docker_that_is_too_old_is_a_problem_and_a_slow_one_a_warning(world, monkeypatch) -> None:
    monkeypatch.setattr(runtime, "SLOW", -1.0)
    assert runtime.docker(world.facts()).finding is Finding.WARNING
    world.docker.answers["/version"] = (200, {"Version": "1.10", "ApiVersion": "1.22"})
    assert runtime.docker(world.facts()).finding is Finding.PROBLEM


def test_live_restore_off_is_a_warning_that_says_what_to_do(world) -> None:
    assert runtime.live_restore(world.facts()).finding is Finding.OK
    world.docker.answers["/info"] = (200, {"LiveRestoreEnabled": False})
    verdict = runtime.live_restore(world.facts())
    assert verdict.finding is Finding.WARNING
    assert "kill -HUP" in verdict.advice


def test_live_restore_is_turned_on_in_dockers_own_file_and_the_rest_of_it_stays(world) -> None:
    world.docker.answers["/info"] = (200, {"LiveRestoreEnabled": False})
    world.process(60, "dockerd")
    path = world.file("etc/docker/daemon.json", '{"debug": true}')
    fix = runtime.live_restore(world.facts()).fix
    assert fix is not None
    assert "Docker's own /etc/docker/daemon.json" in fix.says
    fix.apply()
    assert json.loads(path.read_text()) == {"debug": True, "live-restore": True}
    assert world.hung_up == [60]
    path.write_text("[]")
    with pytest.raises(CannotFix, match="nothing was changed"):
        fix.apply()
    assert path.read_text() == "[]"


@pytest.mark.parametrize("why", ["no process", "two processes", "swarm", "container"])
def test_where_it_is_not_plain_whose_file_it_is_live_restore_is_only_advised(world, why) -> None:
    info = {
        "LiveRestoreEnabled": False,
        "Swarm": {"LocalNodeState": "active" if why == "swarm" else "inactive"},
    }
    world.docker.answers["/info"] = (200, info)
    for pid in {"no process": [], "two processes": [60, 61]}.get(why, [60]):
        world.process(pid, "dockerd")
    world.environ = {"BERTH_IN_CONTAINER": "true"} if why == "container" else {}
    verdict = runtime.live_restore(world.facts())
    assert (verdict.finding, verdict.fix) == (Finding.WARNING, None)


def test_what_needs_docker_does_not_apply_while_it_hangs(world) -> None:
    world.docker.is_silent = True
    facts = world.facts()
    with pytest.raises(NotApplicable, match="see the check docker"):
        runtime.live_restore(facts)
    with pytest.raises(NotApplicable):
        runtime.pause_image(_with_pause(world).facts())


def test_control_groups_of_version_2_with_their_controllers_are_well(world) -> None:
    world.file("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids")
    world.docker.answers["/info"] = (200, {"CgroupVersion": "2", "CgroupDriver": "cgroupfs"})
    verdict = runtime.control_groups(world.facts())
    assert verdict.finding is Finding.OK
    assert "v2 with cpuset cpu io memory pids" in verdict.cause


def test_controllers_that_are_not_delegated_are_a_problem(world) -> None:
    world.file("sys/fs/cgroup/cgroup.controllers", "pids")
    world.docker.answers["/info"] = (200, {"CgroupVersion": "2", "CgroupDriver": "cgroupfs"})
    verdict = runtime.control_groups(world.facts())
    assert verdict.finding is Finding.PROBLEM
    assert "without cpu, memory" in verdict.cause
    assert "Delegate=yes" in verdict.advice


def test_no_control_groups_at_all_are_a_problem(world) -> None:
    verdict = runtime.control_groups(world.facts())
    assert verdict.finding is Finding.PROBLEM
    assert "no control groups are mounted" in verdict.cause


def test_version_1_without_memory_is_a_warning(world) -> None:
    for name in ("cpu", "cpuset"):
        (world.root / "sys/fs/cgroup" / name).mkdir(parents=True)
    world.docker.answers["/info"] = (200, {"CgroupVersion": "1", "CgroupDriver": "cgroupfs"})
    verdict = runtime.control_groups(world.facts())
    assert (verdict.finding, "without memory" in verdict.cause) == (Finding.WARNING, True)


def test_dockers_systemd_driver_needs_systemctl(world) -> None:
    world.file("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids")
    verdict = runtime.control_groups(world.facts())
    assert verdict.finding is Finding.PROBLEM
    assert "no systemctl" in verdict.cause


def test_cgroupfs_beside_systemd_on_version_2_is_a_warning(world) -> None:
    world.file("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids")
    (world.root / "run/systemd/system").mkdir(parents=True)
    world.docker.answers["/info"] = (200, {"CgroupVersion": "2", "CgroupDriver": "cgroupfs"})
    assert runtime.control_groups(world.facts()).finding is Finding.WARNING


def test_control_groups_are_looked_at_while_docker_hangs(world) -> None:
    world.docker.is_silent = True
    world.file("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids")
    assert runtime.control_groups(world.facts()).finding is Finding.OK


def test_a_pause_image_that_can_be_loaded_is_well_and_one_that_cannot_is_a_problem(world) -> None:
    facts = _with_pause(world).facts()
    assert "loads it" in runtime.pause_image(facts).cause
    world.docker.answers["/images/sha256:1/json"] = (200, {})
    assert runtime.pause_image(facts).cause == "pause:1 is in Docker"
    (world.settings.pause_path / "pause.tar").unlink()
    assert runtime.pause_image(facts).finding is Finding.PROBLEM
    world.choose(pause_path=Path("/nowhere"))
    assert runtime.pause_image(world.facts()).finding is Finding.PROBLEM


def _with_pause(world):
    kind = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    content = {"image_id": "sha256:1", "name": "pause:1", "archive": "pause.tar"}
    directory = world.file(f"pause/pause-{kind}.json", json.dumps(content)).parent
    world.file("pause/pause.tar")
    world.choose(pause_path=directory)
    return world
