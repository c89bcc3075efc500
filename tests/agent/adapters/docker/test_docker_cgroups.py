"""Control groups of tasks on trees that look like the kernel's, for both versions and both drivers."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.docker.cgroups import (
    OWNER_ATTRIBUTE,
    Driver,
    Layout,
    TaskGroups,
    TaskLimits,
    limits_of,
    weight,
)
from agent.model.errors import CannotLimitResources, CannotRemoveContainer
from agent.model.ids import ContainerId, TaskId
from agent.model.spec import ContainerSpec
from tests.contracts.runtime import a_task

TASK = TaskId("0123456789abcdef0123456789abcdef")
CONTAINER = ContainerId("c0ffee")
V1 = Layout(1, Driver.CGROUPFS)
V2 = Layout(2, Driver.CGROUPFS)
SYSTEMD = Layout(2, Driver.SYSTEMD)
HIERARCHIES = ("cpu", "cpuset", "memory", "pids", "unified")


def a_limited_task(**changes):
    arn = f"arn:aws:ecs:us-east-1:000000000000:task/default/{TASK}"
    task = a_task(ContainerSpec("a", "i", cpu=0), ContainerSpec("b", "i", cpu=512))
    return replace(task, arn=arn, **changes)


def groups_on(root: Path, layout: Layout, parent: str = "/ecs", *, is_enabled: bool = True) -> TaskGroups:
    return TaskGroups(root, parent, layout, owner="cluster=test", period=100_000, is_enabled=is_enabled)


@pytest.fixture
def v1(tmp_path):
    """A tree of version 1 with the files that the kernel would put into each group."""
    for hierarchy in HIERARCHIES:
        (tmp_path / hierarchy / "ecs" / TASK).mkdir(parents=True)
    for level, cpus in (("", "0-3"), ("ecs", ""), (f"ecs/{TASK}", "")):
        (tmp_path / "cpuset" / level / "cpuset.cpus").write_text(f"{cpus}\n")
        (tmp_path / "cpuset" / level / "cpuset.mems").write_text("0\n" if cpus else "\n")
    (tmp_path / "cpuacct").symlink_to("cpu")
    return tmp_path


@pytest.fixture
def v2(tmp_path):
    for level in ("", "ecs", f"ecs/{TASK}"):
        (tmp_path / level).mkdir(exist_ok=True)
        (tmp_path / level / "cgroup.controllers").write_text("cpuset cpu memory pids misc\n")
        (tmp_path / level / "cgroup.subtree_control").write_text("memory\n" if not level else "\n")
    return tmp_path


def content(path: Path) -> str:
    return path.read_text().strip()


@pytest.mark.parametrize(
    ("cpu", "memory", "expected"),
    [
        (1024, 512, TaskLimits(100_000, 100_000, 514, 512 << 20)),
        (256, None, TaskLimits(100_000, 25_000, 514, None)),
        (4, None, TaskLimits(100_000, 1_000, 514, None)),
        (None, None, TaskLimits(100_000, None, 514, None)),
    ],
)
def test_limits_are_those_of_the_task_and_shares_those_of_its_containers(cpu, memory, expected):
    assert limits_of(a_limited_task(cpu=cpu, memory=memory), 100_000) == expected


@pytest.mark.parametrize(("shares", "expected"), [(2, 1), (1024, 39), (262_144, 10_000)])
def test_shares_are_scaled_to_weights(shares, expected):
    assert weight(shares) == expected


@pytest.mark.parametrize(
    ("layout", "parent"),
    [
        (V1, f"/ecs/{TASK}"),
        (V2, f"/ecs/{TASK}"),
        (SYSTEMD, f"ecstasks-{TASK}.slice"),
        (Layout(1, Driver.SYSTEMD), f"ecstasks-{TASK}.slice"),
    ],
)
def test_docker_is_told_the_parent_in_its_drivers_words(tmp_path, layout, parent):
    assert groups_on(tmp_path, layout).parent_for(TASK) == parent
    assert groups_on(tmp_path, layout, is_enabled=False).parent_for(TASK) is None


@pytest.mark.parametrize("bad", ["", "..", "a/b", "../x", "a b", "-x"])
def test_a_task_id_that_would_lead_elsewhere_is_refused(tmp_path, bad):
    with pytest.raises(CannotLimitResources, match="cannot name a control group"):
        groups_on(tmp_path, V1).parent_for(TaskId(bad))


def test_version_1_gets_quota_memory_and_a_filled_cpuset(v1):
    groups_on(v1, V1).ensure(a_limited_task(cpu=512, memory=64))
    assert content(v1 / "cpu/ecs" / TASK / "cpu.cfs_period_us") == "100000"
    assert content(v1 / "cpu/ecs" / TASK / "cpu.cfs_quota_us") == "50000"
    assert content(v1 / "memory/ecs" / TASK / "memory.use_hierarchy") == "1"
    assert content(v1 / "memory/ecs" / TASK / "memory.limit_in_bytes") == str(64 << 20)
    for level in ("ecs", f"ecs/{TASK}"):
        assert content(v1 / "cpuset" / level / "cpuset.cpus") == "0-3"
        assert content(v1 / "cpuset" / level / "cpuset.mems") == "0"
    assert content(v1 / "cpuset/cpuset.cpus") == "0-3"


def test_version_1_without_a_cpu_limit_gets_shares(v1):
    groups_on(v1, V1).ensure(a_limited_task(cpu=None, memory=None))
    assert content(v1 / "cpu/ecs" / TASK / "cpu.shares") == "514"
    assert not (v1 / "cpu/ecs" / TASK / "cpu.cfs_quota_us").exists()
    assert not (v1 / "memory/ecs" / TASK / "memory.limit_in_bytes").exists()


def test_a_cpuset_that_somebody_narrowed_stays_narrow(v1):
    (v1 / "cpuset/ecs/cpuset.cpus").write_text("1\n")
    groups_on(v1, V1).ensure(a_limited_task())
    assert content(v1 / "cpuset/ecs/cpuset.cpus") == "1"
    assert content(v1 / "cpuset/ecs" / TASK / "cpuset.cpus") == "1"


def test_asking_twice_is_asking_once(v1):
    groups = groups_on(v1, V1)
    groups.ensure(a_limited_task(cpu=512))
    groups.ensure(a_limited_task(cpu=512))
    assert content(v1 / "cpu/ecs" / TASK / "cpu.cfs_quota_us") == "50000"


def test_version_2_enables_what_is_missing_from_the_root_down(v2):
    groups_on(v2, V2).ensure(a_limited_task(cpu=512, memory=64))
    assert content(v2 / "cgroup.subtree_control") == "+cpuset +cpu +pids"
    assert content(v2 / "ecs/cgroup.subtree_control") == "+cpuset +cpu +memory +pids"
    assert content(v2 / "ecs" / TASK / "cpu.max") == "50000 100000"
    assert content(v2 / "ecs" / TASK / "memory.max") == str(64 << 20)


def test_version_2_without_a_cpu_limit_gets_a_weight(v2):
    groups_on(v2, V2).ensure(a_limited_task(cpu=None, memory=None))
    assert content(v2 / "ecs" / TASK / "cpu.weight") == str(weight(514))
    assert not (v2 / "ecs" / TASK / "cpu.max").exists()


def test_what_cannot_be_written_is_named_with_its_value(v1):
    (v1 / "memory/ecs" / TASK / "memory.limit_in_bytes").mkdir()
    with pytest.raises(CannotLimitResources, match=r"memory\.limit_in_bytes: .* \(writing 67108864\)"):
        groups_on(v1, V1).ensure(a_limited_task(memory=64))


def test_without_task_limits_nothing_is_touched(tmp_path):
    groups = groups_on(tmp_path, V1, is_enabled=False)
    groups.ensure(a_limited_task(cpu=512))
    groups.remove(TASK)
    assert list(tmp_path.iterdir()) == []


def test_a_group_is_removed_from_every_hierarchy_with_what_is_below_it(tmp_path):
    for hierarchy in HIERARCHIES:
        (tmp_path / hierarchy / "ecs" / TASK / CONTAINER / "init").mkdir(parents=True)
    groups = groups_on(tmp_path, V1)
    groups.remove(TASK)
    groups.remove(TASK)
    assert [each for each in tmp_path.rglob("*") if TASK in str(each)] == []
    assert (tmp_path / "unified/ecs").is_dir()


def test_a_group_in_use_is_not_removed_and_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.adapters.docker.cgroups._REMOVAL_SECONDS", 0.05)
    (tmp_path / "memory/ecs" / TASK).mkdir(parents=True)
    (tmp_path / "memory/ecs" / TASK / "in-use").touch()
    with pytest.raises(CannotRemoveContainer, match=re.escape(f"memory/ecs/{TASK}")):
        groups_on(tmp_path, V1).remove(TASK)


@pytest.mark.parametrize(
    ("layout", "is_enabled", "where"),
    [
        (V1, True, f"memory/ecs/{TASK}/{CONTAINER}"),
        (V2, True, f"ecs/{TASK}/{CONTAINER}"),
        (SYSTEMD, True, f"ecstasks.slice/ecstasks-{TASK}.slice/docker-{CONTAINER}.scope"),
        (V1, False, f"memory/docker/{CONTAINER}"),
        (SYSTEMD, False, f"system.slice/docker-{CONTAINER}.scope"),
    ],
)
def test_a_containers_own_group_is_found_where_the_driver_puts_it(tmp_path, layout, is_enabled, where):
    groups = groups_on(tmp_path, layout, is_enabled=is_enabled)
    assert groups.paths_of(TASK, CONTAINER) == ()
    (tmp_path / where).mkdir(parents=True)
    assert groups.paths_of(TASK, CONTAINER) == (tmp_path / where,)


def test_each_dash_in_a_slice_is_a_level(tmp_path):
    groups = groups_on(tmp_path, SYSTEMD)
    where = tmp_path / "ecstasks.slice/ecstasks-a.slice/ecstasks-a-b.slice" / f"docker-{CONTAINER}.scope"
    where.mkdir(parents=True)
    assert groups.paths_of(TaskId("a-b"), CONTAINER) == (where,)


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """A systemctl that writes down how it was called and fails when told to."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "systemctl"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/calls\n[ ! -e {folder}/fails ] || {{ echo no bus >&2; exit 1; }}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def test_systemd_is_asked_for_limits_and_for_the_end_of_the_slice(tmp_path, systemctl):
    groups = groups_on(tmp_path / "cgroup", SYSTEMD)
    groups.ensure(a_limited_task(cpu=512, memory=64))
    groups.ensure(a_limited_task(cpu=None, memory=None))
    groups.remove(TASK)
    assert (systemctl / "calls").read_text().splitlines() == [
        f"set-property --runtime ecstasks-{TASK}.slice CPUQuota=50.00% MemoryMax={64 << 20}",
        f"set-property --runtime ecstasks-{TASK}.slice CPUWeight={weight(514)}",
        f"stop ecstasks-{TASK}.slice",
        f"revert ecstasks-{TASK}.slice",
    ]


def test_a_systemd_that_refuses_is_quoted(tmp_path, systemctl):
    (systemctl / "fails").touch()
    with pytest.raises(CannotLimitResources, match="no bus"):
        groups_on(tmp_path, SYSTEMD).ensure(a_limited_task())
    with pytest.raises(CannotRemoveContainer, match="no bus"):
        groups_on(tmp_path, SYSTEMD).remove(TASK)


def test_from_a_container_the_systemctl_of_the_machine_is_run_with_its_root(tmp_path, systemctl, monkeypatch):
    machine = tmp_path / "machine"
    (machine / "usr/bin").mkdir(parents=True)
    (systemctl / "systemctl").rename(machine / "usr/bin/systemctl")
    # what chroot(1) does, but for the root
    (systemctl / "chroot").write_text(
        f'#!/bin/sh\necho "$1 $SYSTEMD_IGNORE_CHROOT" >> {systemctl}/roots\nshift\nexec {machine}/usr/bin/"$@"\n'
    )
    (systemctl / "chroot").chmod(0o755)
    monkeypatch.setenv("PATH", str(systemctl))
    monkeypatch.setattr("agent.adapters.docker.cgroups.MACHINE", machine)
    groups_on(tmp_path / "cgroup", SYSTEMD).ensure(a_limited_task(cpu=512, memory=64))
    assert (systemctl / "roots").read_text() == f"{machine} 1\n"
    assert (systemctl / "calls").read_text().startswith(f"set-property --runtime ecstasks-{TASK}.slice ")


def test_a_machine_without_systemctl_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("agent.adapters.docker.cgroups.MACHINE", tmp_path)
    with pytest.raises(CannotLimitResources, match="there is no systemctl"):
        groups_on(tmp_path, SYSTEMD).ensure(a_limited_task())


def test_leftovers_are_groups_with_our_mark_only(tmp_path, monkeypatch):
    marks: dict[str, bytes] = {}

    def set_mark(path, name, value):
        assert name == OWNER_ATTRIBUTE
        marks[str(path)] = value

    def get_mark(path, name):
        if str(path) not in marks:
            raise OSError(61, "No data available")
        return marks[str(path)]

    monkeypatch.setattr(os, "setxattr", set_mark)
    monkeypatch.setattr(os, "getxattr", get_mark)
    for name in ("mine", "known", "foreign", "unmarked"):
        (tmp_path / "memory/ecs" / name).mkdir(parents=True)
    for name in ("mine", "known"):
        set_mark(tmp_path / "memory/ecs" / name, OWNER_ATTRIBUTE, b"cluster=test")
    set_mark(tmp_path / "memory/ecs/foreign", OWNER_ATTRIBUTE, b"cluster=other")
    groups = groups_on(tmp_path, V1)
    assert groups.leftovers(frozenset({TaskId("known")})) == ("mine",)


def test_a_file_system_without_marks_still_takes_limits_and_has_no_leftovers(v1, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    monkeypatch.setattr(os, "getxattr", refuse)
    groups = groups_on(v1, V1)
    groups.ensure(a_limited_task(cpu=512))
    assert groups.leftovers(frozenset()) == ()
