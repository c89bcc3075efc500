import socket
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import pytest

from agent.adapters.host.capabilities import NEEDED, docker_options, effective, lacking
from agent.adapters.host.mounts import covering, parse_mountinfo
from agent.adapters.host.needs import Door, Facts, look, missing

ALL = 0x1FFFFFFFFFF

MOUNTS = r"""
21 1 0:19 / / rw,relatime - overlay overlay rw,lowerdir=/l
22 21 0:20 / /proc rw,nosuid - proc proc rw
30 21 254:1 /var/lib/ecs /var/lib/ecs rw,relatime - ext4 /dev/vda rw,discard
31 21 254:1 /var/log/ecs /var/log/ecs rw,relatime - ext4 /dev/vda rw,discard
32 21 0:22 /netns /run/netns rw,nosuid shared:5 - tmpfs tmpfs rw,mode=755
33 21 0:26 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup rw,nsdelegate
34 21 254:1 /srv/a\040b /srv/a\040b rw,relatime - ext4 /dev/vda rw
"""

V1 = r"""
40 21 0:30 / /sys/fs/cgroup rw - tmpfs cgroup rw,mode=755
41 40 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
42 40 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
"""

GOOD = Facts(
    in_container=True,
    backend="local",
    data_directory=Path("/var/lib/ecs/data"),
    log_directory=Path("/var/log/ecs"),
    cgroup_path=Path("/sys/fs/cgroup"),
    docker_host="unix:///var/run/docker.sock",
    endpoint_port=80,
    capabilities=ALL,
    kernel="6.1.0-13-amd64",
    has_whole_user_namespace=True,
    door=Door.SOCKET,
    docker_pid=700,
    shares_processes=True,
    shares_network=True,
    can_write_sysctls=True,
    can_write_logs=True,
    mounts=parse_mountinfo(MOUNTS),
    own_groups=(("", "/system.slice/docker-0123.scope"),),
)


def mounts(text: str, *without: str):
    lines = [line for line in text.splitlines() if not any(f" {point} " in line for point in without)]
    return parse_mountinfo("\n".join(lines))


def test_nothing_is_missing_where_everything_is_there() -> None:
    assert missing(GOOD) == ()
    assert missing(replace(GOOD, backend="ecs")) == ()


@pytest.mark.parametrize("capability", NEEDED, ids=lambda each: each.name)
def test_each_capability_that_is_not_there_is_named_with_its_purpose_and_option(capability) -> None:
    old = replace(GOOD, capabilities=ALL & ~(1 << capability.number), kernel="4.14.0")
    (found,) = missing(old)
    assert str(found) == (
        f"CAP_{capability.name} (for {capability.purpose}): add --privileged or --cap-add={capability.name}"
    )
    assert found.is_needed
    outside = [each.remedy for each in missing(replace(old, in_container=False))]
    remedy = f"run as root, in a unit whose CapabilityBoundingSet (if it sets one) has CAP_{capability.name}"
    assert outside == ([] if capability.only_inside else [remedy])


@pytest.mark.parametrize(
    ("release", "needs_raw"),
    [("4.14.1-amzn", True), ("5.6.19", True), ("5.7.0", False), ("6.18.44", False), ("strange", True)],
)
def test_only_an_old_kernel_needs_raw_sockets_to_bind_to_an_interface(release: str, needs_raw: bool) -> None:
    only_raw = {each.number for each in NEEDED if each.name == "NET_RAW"}
    held = sum(1 << each.number for each in NEEDED if each.number not in only_raw)
    found = lacking(held, release, inside=True, port=80)
    assert [each.name for each in found] == (["NET_RAW"] if needs_raw else [])


def test_only_a_port_that_is_not_free_for_all_needs_a_right() -> None:
    without = replace(GOOD, capabilities=ALL & ~(1 << 10))
    assert [each.name for each in missing(without)] == ["cap_net_bind_service"]
    assert missing(replace(without, endpoint_port=51679)) == ()


def test_the_options_of_the_strict_alternative_give_every_capability() -> None:
    options = docker_options()
    assert options[0] == "--cap-drop=ALL"
    assert {f"--cap-add={each.name}" for each in NEEDED} < set(options)
    # each of these would keep it from Docker's socket, its files or /proc, whatever its capabilities are
    confined = {"apparmor=unconfined", "label=disable", "systempaths=unconfined"}
    assert {f"--security-opt={each}" for each in confined} < set(options)


FAULTS = {
    "user_namespace": ({"has_whole_user_namespace": False}, "--userns=host"),
    "sysctls": ({"can_write_sysctls": False}, "--security-opt=systempaths=unconfined"),
    "pid_namespace": ({"docker_pid": 0, "shares_processes": False}, "--pid=host"),
    "network_namespace": ({"shares_network": False}, "--net=host"),
    "docker_socket": ({"door": Door.ABSENT}, "-v /var/run/docker.sock:/var/run/docker.sock"),
    "data_directory": (
        {"mounts": mounts(MOUNTS, "/var/lib/ecs"), "backend": "ecs"},
        "-v /var/lib/ecs:/var/lib/ecs",
    ),
    "namespaces": ({"mounts": mounts(MOUNTS, "/run/netns")}, "-v /run/netns:/run/netns:shared"),
    "control_groups": (
        {"mounts": mounts(MOUNTS, "/sys/fs/cgroup")},
        "-v /sys/fs/cgroup:/sys/fs/cgroup",
    ),
    "log_directory": ({"can_write_logs": False}, "-v /var/log/ecs:/var/log/ecs"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_missing_option_is_named(name: str) -> None:
    changes, option = FAULTS[name]
    (found,) = missing(replace(GOOD, **changes))
    assert found.name == name
    assert option in found.remedy
    assert found.is_needed


def test_everything_that_is_missing_is_told_at_once() -> None:
    changes = {key: value for each, _ in FAULTS.values() for key, value in each.items()}
    changes["mounts"] = mounts(MOUNTS, "/var/lib/ecs", "/run/netns", "/sys/fs/cgroup")
    facts = replace(GOOD, **changes, capabilities=0)
    names = [each.name for each in missing(replace(facts, backend="local"))]
    assert set(FAULTS) < set(names)
    assert sum(name.startswith("cap_") for name in names) >= len(NEEDED) - 1


def test_on_a_laptop_state_may_end_with_the_container_and_in_a_cluster_it_may_not() -> None:
    lost = replace(GOOD, mounts=mounts(MOUNTS, "/var/lib/ecs"))
    assert [(each.name, each.is_needed) for each in missing(lost)] == [("data_directory", False)]
    assert [each.is_needed for each in missing(replace(lost, backend="ecs"))] == [True]


def test_a_data_directory_that_is_mounted_read_only_is_a_fault_for_everybody() -> None:
    read_only = MOUNTS.replace("/var/lib/ecs rw", "/var/lib/ecs ro")
    (found,) = missing(replace(GOOD, mounts=parse_mountinfo(read_only)))
    assert (found.name, found.is_needed) == ("data_directory", True)
    assert "can be written" in found.what


@pytest.mark.parametrize("tag", ["", "master:5", "unbindable"])
def test_names_of_namespaces_must_reach_the_machine(tag: str) -> None:
    private = parse_mountinfo(MOUNTS.replace("shared:5", tag))
    assert [each.name for each in missing(replace(GOOD, mounts=private))] == ["namespaces"]
    # the network of a cluster has no namespaces with names
    assert missing(replace(GOOD, mounts=private, backend="ecs")) == ()


@pytest.mark.parametrize("door", [Door.DIRECTORY, Door.OTHER])
def test_something_else_in_the_place_of_dockers_socket_is_named(door: Door) -> None:
    (found,) = missing(replace(GOOD, door=door, docker_pid=None, shares_network=None))
    assert found.name == "docker_socket"
    assert ("as Docker makes one" in found.what) == (door is Door.DIRECTORY)


def test_what_cannot_be_told_is_no_fault() -> None:
    unknown = replace(
        GOOD,
        capabilities=None,
        docker_pid=None,
        shares_processes=None,
        shares_network=None,
        has_whole_user_namespace=None,
        door=Door.REMOTE,
    )
    assert missing(unknown) == ()


def test_outside_of_a_container_only_rights_are_looked_at() -> None:
    bare = replace(GOOD, in_container=False, mounts=(), door=Door.ABSENT, docker_pid=0, shares_network=False)
    assert missing(bare) == ()


GROUPS = {
    "version 2, of the machine": (MOUNTS, "0::/system.slice/docker-1.scope", True),
    "version 2, own namespace, of the machine": (
        MOUNTS.replace("0:26 / /sys", "0:26 /../../.. /sys"),
        "0::/",
        True,
    ),
    "version 2, own namespace": (MOUNTS, "0::/", False),
    "version 2, read-only": (MOUNTS.replace("/sys/fs/cgroup rw", "/sys/fs/cgroup ro"), "0::/a", False),
    "version 1, of the machine": (V1, "4:memory:/docker/1\n3:cpu,cpuacct:/docker/1", True),
    "version 1, own part": (
        V1.replace(" / ", " /docker/1 "),
        "4:memory:/docker/1\n3:cpu,cpuacct:/docker/1",
        False,
    ),
    "version 1, own namespace": (V1, "4:memory:/\n3:cpu,cpuacct:/", False),
    "version 1, of the machine, with one that the runtime does not know": (
        V1 + "43 40 0:33 / /sys/fs/cgroup/misc rw,relatime - cgroup cgroup rw,misc\n",
        "5:misc:/\n4:memory:/docker/1\n3:cpu,cpuacct:/docker/1",
        True,
    ),
    "version 1, one of two": (
        V1.replace("0:32 / ", "0:32 /docker/1 "),
        "4:memory:/docker/1\n3:cpu,cpuacct:/docker/1",
        False,
    ),
    "none": ("", "0::/a", False),
}


@pytest.mark.parametrize("case", GROUPS)
def test_control_groups_of_the_machine_are_told_from_the_containers_own(case: str) -> None:
    text, own, is_whole = GROUPS[case]
    others = "\n".join(line for line in MOUNTS.splitlines() if "cgroup" not in line)
    groups = tuple(tuple(line.split(":", 2)[1:]) for line in own.splitlines())
    facts = replace(GOOD, mounts=parse_mountinfo(others + text), own_groups=groups)
    names = [each.name for each in missing(facts) if each.name == "control_groups"]
    assert names == ([] if is_whole else ["control_groups"])


# --- reading what the kernel says


def test_a_mounts_line_is_read_with_its_escapes_and_the_longest_cover_counts() -> None:
    found = parse_mountinfo(MOUNTS + "no mount\n1 2 3\n")
    assert len(found) == 7
    below = covering(found, PurePath("/srv/a b/c"))
    assert below is not None
    assert (below.point, below.is_writable, below.is_shared) == (PurePath("/srv/a b"), True, False)
    assert covering(found, PurePath("/var/lib/ecsx")).point == PurePath("/")
    assert covering((), PurePath("/")) is None


def test_the_later_of_two_mounts_at_one_place_counts() -> None:
    twice = parse_mountinfo(MOUNTS + "50 21 0:9 / /run/netns rw - tmpfs tmpfs rw\n")
    assert not covering(twice, PurePath("/run/netns")).is_shared


@pytest.mark.parametrize(("text", "held"), [("CapEff:\t00000000a80425fb\n", 0xA80425FB), ("", None)])
def test_effective_capabilities_are_read_from_the_status(text: str, held: int | None) -> None:
    assert effective(f"Name:\tx\nCapPrm:\tffff\n{text}CapBnd:\t1\n") == held


@dataclass
class Settings:
    data_directory: Path
    docker_host: str
    in_container: bool = True
    backend: str = "local"
    log_file: Path | None = None
    cgroup_path: Path = Path("/sys/fs/cgroup")
    endpoint_port: int = 80


def test_whoever_listens_at_dockers_socket_is_found_without_a_word_to_him(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()  # and nobody ever accepts: so hangs a daemon
        facts = look(Settings(tmp_path, f"unix://{path}"))
    assert facts.door is Door.SOCKET
    assert (facts.shares_processes, facts.shares_network) == (True, True)
    assert facts.docker_pid == int(Path("/proc/self").readlink().name)
    assert facts.capabilities is not None
    assert covering(facts.mounts, PurePath("/proc/self")).kind == "proc"


def test_a_socket_where_nobody_listens_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
    facts = look(Settings(tmp_path, f"unix://{path}"))
    assert (facts.door, facts.docker_pid, facts.shares_network) == (Door.SOCKET, None, None)


def test_what_stands_in_place_of_the_socket_is_seen(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    seen = {name: look(Settings(tmp_path, f"unix://{tmp_path}/{name}")).door for name in ("", "file", "no")}
    assert seen == {"": Door.DIRECTORY, "file": Door.OTHER, "no": Door.ABSENT}
    assert look(Settings(tmp_path, "tcp://127.0.0.1:1")).door is Door.REMOTE


def test_a_log_file_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings(tmp_path, "tcp://127.0.0.1:1")
    assert not look(replace(settings, log_file=tmp_path / "file/agent.log")).can_write_logs
    assert look(replace(settings, log_file=tmp_path / "new/agent.log")).can_write_logs


def test_a_log_directory_that_cannot_even_be_looked_at_is_one_that_cannot_be_written(tmp_path: Path) -> None:
    settings = Settings(tmp_path, "tcp://127.0.0.1:1", log_file=tmp_path / ("x" * 300) / "agent.log")
    (found,) = (each for each in missing(look(settings)) if each.name == "log_directory")
    assert "x" * 300 in found.what


def test_a_data_directory_of_links_in_a_circle_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    assert look(Settings(tmp_path / "one" / "data", "tcp://127.0.0.1:1")).data_directory.name == "data"


def test_a_proc_that_says_nothing_gives_no_faults_of_rights(tmp_path: Path) -> None:
    facts = look(Settings(tmp_path, "tcp://127.0.0.1:1", in_container=False), proc=tmp_path / "proc")
    assert facts.capabilities is None
    assert missing(facts) == ()


def test_without_docker_the_first_process_and_the_list_of_sockets_tell_of_namespaces(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    for each in ("1", "self"):
        (proc / each / "ns").mkdir(parents=True)
        (proc / each / "ns/mnt").touch()
    (proc / "net").mkdir()
    lines = (
        "Num RefCount Protocol Flags Type St Inode Path\n0: 2 0 00010000 0001 01 99 /run/{}\n1: 2 0 0 1 1 7\n"
    )
    settings = Settings(tmp_path, f"unix://{tmp_path}/docker.sock")

    def seen(name: str) -> tuple[bool | None, bool | None]:
        (proc / "net/unix").write_text(lines.format(name))
        facts = look(settings, proc=proc)
        return facts.shares_processes, facts.shares_network

    assert seen("other.sock") == (None, False)
    assert seen("docker.sock") == (None, True)
    (proc / "1/ns/mnt").unlink()
    (proc / "1/ns/mnt").hardlink_to(proc / "self/ns/mnt")
    assert seen("docker.sock") == (False, True)
