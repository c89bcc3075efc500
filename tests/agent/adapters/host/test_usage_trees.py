"""The kernel's counters, on trees that look like the kernel's: version 1, version 2, hybrids, both drivers."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.adapters.host.counters import UnreadableCounter, content, link_usage
from agent.adapters.host.usage import KernelUsage
from agent.model.errors import PortUnavailable
from agent.model.ids import ContainerId
from agent.model.usage import LinkUsage
from agent.ports.usage import UsageSubject

ID = ContainerId("c0ffee" * 10 + "0001")
OTHER = ContainerId("c0ffee" * 10 + "0002")
PID = 4242

NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    9000       9    0    0    0     0          0         0     9000       9    0    0    0     0       0          0
  eth0:    1500      11    1    2    0     0          0         0     2500      21    3    4    0     0       0          0
ecs-eth0:   700       7    0    0    0     0          0         0      700       7    0    0    0     0       0          0
"""
ETH0 = LinkUsage(
    rx_bytes=1500,
    rx_packets=11,
    rx_errors=1,
    rx_dropped=2,
    tx_bytes=2500,
    tx_packets=21,
    tx_errors=3,
    tx_dropped=4,
)

V1_MEMORY = "cache 1\nrss 53248\ntotal_cache 1000000\ntotal_rss 5\ntotal_inactive_file 900000\n"
V1_STORAGE = "254:0 Read 4096\n254:0 write 100\n254:16 READ 4\n254:0 Sync 7\n254:0 Total 4196\nTotal 4200\n"
V2_MEMORY = "anon 400\nfile 1100000\ninactive_anon 3\ninactive_file 1000000\nactive_file 7\n"
V2_CPU = "usage_usec 1234\nuser_usec 1000\nsystem_usec 234\n"
V2_STORAGE = "8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:0 rbytes=5 wbytes=6 rios=1\n259:0 \n"


@dataclass
class Machine:
    """A made-up machine below a folder."""

    root: Path

    @property
    def groups(self) -> Path:
        return self.root / "cgroup"

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def process(self, *lines: str, pid: int = PID) -> None:
        self.write(f"proc/{pid}/cgroup", "".join(f"{each}\n" for each in lines))
        self.write(f"proc/{pid}/net/dev", NET_DEV)

    def v1(self, path: str, *, cpu: str = "cpuacct", storage: str = V1_STORAGE) -> None:
        self.write(f"cgroup/{cpu}/{path}/cpuacct.usage", "1234000\n")
        self.write(f"cgroup/memory/{path}/memory.usage_in_bytes", "1500000\n")
        self.write(f"cgroup/memory/{path}/memory.stat", V1_MEMORY)
        for name in ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"):
            self.write(f"cgroup/blkio/{path}/{name}", storage)
        self.write(f"cgroup/blkio/{path}/blkio.bfq.io_service_bytes_recursive", "Total 0\n")
        for name in ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"):
            self.write(f"cgroup/blkio/{name}", V1_STORAGE)

    def v2(self, path: str) -> None:
        self.write(f"cgroup/{path}/cpu.stat", V2_CPU)
        self.write(f"cgroup/{path}/memory.current", "1500000\n")
        self.write(f"cgroup/{path}/memory.stat", V2_MEMORY)
        self.write(f"cgroup/{path}/io.stat", V2_STORAGE)

    def probe(self) -> KernelUsage:
        return KernelUsage(cgroup_root=self.groups, proc_root=self.root / "proc")

    def look(self, container: ContainerId = ID, pid: int = PID, link: str | None = None):
        [found] = self.probe().look([UsageSubject(container, pid, link)])
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def numbers(usage):
    assert usage is not None
    return usage.cpu, usage.memory, usage.storage_read, usage.storage_written


EXPECTED_V1 = (1_234_000, 500_000, 4100, 100)
EXPECTED_V2 = (1_234_000, 500_000, 15, 26)


# -- where the groups are ------------------------------------------------------------------------


def test_version_1_with_every_controller_on_its_own(machine):
    machine.process(
        "9:name=systemd:/x", f"4:memory:/ecs/t/{ID}", f"3:blkio:/ecs/t/{ID}", f"2:cpuacct:/ecs/t/{ID}"
    )
    machine.v1(f"ecs/t/{ID}")
    assert numbers(machine.look()) == EXPECTED_V1


def test_version_1_with_controllers_mounted_together(machine):
    machine.process(f"4:memory:/ecs/t/{ID}", f"3:blkio:/ecs/t/{ID}", f"2:cpu,cpuacct:/ecs/t/{ID}")
    machine.v1(f"ecs/t/{ID}", cpu="cpu,cpuacct")
    assert numbers(machine.look()) == EXPECTED_V1


def test_controllers_that_are_together_and_mounted_under_one_name_only(machine):
    machine.process(f"4:memory:/ecs/t/{ID}", f"3:blkio:/ecs/t/{ID}", f"2:cpu,cpuacct:/ecs/t/{ID}")
    machine.v1(f"ecs/t/{ID}")
    assert numbers(machine.look()) == EXPECTED_V1


def test_version_2(machine):
    machine.process(f"0::/ecs/t/{ID}")
    machine.v2(f"ecs/t/{ID}")
    assert numbers(machine.look()) == EXPECTED_V2


def test_version_2_made_by_systemd(machine):
    path = f"ecstasks.slice/ecstasks-t.slice/docker-{ID}.scope"
    machine.process(f"0::/{path}")
    machine.v2(path)
    assert numbers(machine.look()) == EXPECTED_V2


def test_a_first_process_in_a_group_of_its_own_below_the_containers(machine):
    machine.process(f"0::/ecs/t/{ID}/init.scope")
    machine.v2(f"ecs/t/{ID}")
    machine.write(f"cgroup/ecs/t/{ID}/init.scope/cpu.stat", "usage_usec 1\n")
    assert numbers(machine.look()) == EXPECTED_V2


def test_a_hybrid_takes_each_controller_from_where_it_is(machine):
    machine.process(f"2:cpuacct:/docker/{ID}", f"0::/docker/{ID}")
    machine.v1(f"docker/{ID}")
    machine.write(f"cgroup/unified/docker/{ID}/memory.current", "1500001\n")
    machine.write(f"cgroup/unified/docker/{ID}/memory.stat", V2_MEMORY)
    machine.write(f"cgroup/unified/docker/{ID}/io.stat", V2_STORAGE)
    assert numbers(machine.look()) == (1_234_000, 500_001, 15, 26)


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(f"/../../ecs/t/{ID}", id="two levels above the agent, the whole path is left"),
        pytest.param(f"/../{ID}", id="a sibling of the agent's own group"),
        pytest.param(f"/{ID}", id="below the agent's own group"),
    ],
)
def test_paths_that_begin_at_the_agents_own_group(machine, seen):
    machine.process(f"0::{seen}")
    machine.v2(f"ecs/t/{ID}")
    assert numbers(machine.look()) == EXPECTED_V2


# -- who is believed -----------------------------------------------------------------------------


def test_a_process_that_has_ended_is_a_container_that_is_gone(machine):
    assert machine.look() is None


@pytest.mark.parametrize(
    "path", ["/", "/user.slice/session-1.scope", f"/ecs/t/{OTHER}", f"/ecs/t/{ID} (deleted)"]
)
def test_a_process_id_that_is_no_longer_the_containers_is_not_believed(machine, path):
    machine.process(f"0::{path}")
    machine.v2(path.strip("/"))
    assert machine.look() is None


def test_a_reused_process_id_does_not_lend_its_network_to_a_known_container(machine):
    machine.process(f"0::/ecs/t/{ID}")
    machine.v2(f"ecs/t/{ID}")
    probe = machine.probe()
    subject = UsageSubject(ID, PID, "eth0")
    assert probe.look([subject])[0].link == ETH0
    machine.process("0::/user.slice")
    assert probe.look([subject]) == (None,)


def test_an_id_that_could_be_part_of_any_path_is_not_searched_for(machine):
    machine.process("0::/ecs/tasks")
    machine.v2("ecs/tasks")
    assert machine.look(ContainerId("t")) is None
    assert machine.look(ContainerId("")) is None


def test_a_group_that_goes_away_between_two_looks(machine):
    machine.process(f"0::/ecs/t/{ID}")
    machine.v2(f"ecs/t/{ID}")
    probe = machine.probe()
    assert probe.look([UsageSubject(ID, PID)])[0] is not None
    for file in (machine.groups / "ecs/t" / ID).iterdir():
        file.unlink()
    with capture_logs() as logs:
        assert probe.look([UsageSubject(ID, PID)]) == (None,)
    assert logs == []


def test_answers_come_in_the_order_of_the_questions_and_the_forgotten_are_let_go(machine):
    machine.process(f"0::/ecs/t/{ID}")
    machine.process(f"0::/ecs/t/{OTHER}", pid=7)
    machine.v2(f"ecs/t/{ID}")
    machine.v2(f"ecs/t/{OTHER}")
    machine.write(f"cgroup/ecs/t/{OTHER}/memory.current", "1000008")
    probe = machine.probe()
    gone = UsageSubject(ContainerId("f" * 64), 8)
    found = probe.look([UsageSubject(OTHER, 7), gone, UsageSubject(ID, PID)])
    assert [each and each.memory for each in found] == [8, None, 500_000]
    probe.look([UsageSubject(ID, PID)])
    assert set(probe._sources) == {ID}


# -- what is read --------------------------------------------------------------------------------


def test_the_asked_for_link_is_read_and_no_other(machine):
    machine.process(f"0::/ecs/t/{ID}")
    machine.v2(f"ecs/t/{ID}")
    assert machine.look(link="eth0").link == ETH0
    assert machine.look(link="eth9").link is None
    assert machine.look().link is None


def test_times_go_on_and_are_those_of_the_look(machine):
    machine.process(f"0::/ecs/t/{ID}")
    machine.v2(f"ecs/t/{ID}")
    assert machine.look().at < machine.look().at


def test_memory_that_is_mostly_cache_is_never_negative(machine):
    machine.process(f"0::/ecs/t/{ID}")
    machine.v2(f"ecs/t/{ID}")
    machine.write(f"cgroup/ecs/t/{ID}/memory.current", "999999\n")
    assert machine.look().memory == 0


def test_a_scheduler_that_counts_is_preferred(machine):
    machine.process(f"4:memory:/d/{ID}", f"3:blkio:/d/{ID}", f"2:cpuacct:/d/{ID}")
    machine.v1(f"d/{ID}")
    for path in (f"d/{ID}/", ""):
        name = "blkio.bfq.io_service_bytes_recursive"
        machine.write(f"cgroup/blkio/{path}{name}", "8:0 Read 1\n8:0 Write 2\n")
    assert numbers(machine.look())[2:] == (1, 2)


def test_version_1_without_any_count_is_unknown_unless_the_machine_counts(machine):
    machine.process(f"4:memory:/d/{ID}", f"3:blkio:/d/{ID}", f"2:cpuacct:/d/{ID}")
    machine.v1(f"d/{ID}", storage="Total 0\n")
    tops = [f"cgroup/blkio/blkio.throttle.io_service_bytes{each}" for each in ("", "_recursive")]
    for top in tops:
        machine.write(top, "Total 0\n")
    probe = machine.probe()
    assert numbers(probe.look([UsageSubject(ID, PID)])[0])[2:] == (None, None)
    machine.write(tops[1], V1_STORAGE)
    assert numbers(probe.look([UsageSubject(ID, PID)])[0])[2:] == (0, 0)


def test_version_2_without_any_count_is_none_read_and_none_written(machine):
    machine.process(f"0::/ecs/t/{ID}")
    machine.v2(f"ecs/t/{ID}")
    machine.write(f"cgroup/ecs/t/{ID}/io.stat", "")
    assert numbers(machine.look())[2:] == (0, 0)


# -- what cannot be read -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text", "field"),
    [
        ("cpu.stat", "nr_periods 0\n", "cpu"),
        ("memory.current", "max\n", "memory"),
        ("memory.stat", "inactive_file x\n", "memory"),
        ("io.stat", "8:0 rbytes=? wbytes=1\n", "storage_read"),
    ],
)
def test_a_file_with_nonsense_is_named_once_and_costs_only_its_own_number(machine, file, text, field):
    machine.process(f"0::/ecs/t/{ID}")
    machine.v2(f"ecs/t/{ID}")
    path = machine.write(f"cgroup/ecs/t/{ID}/{file}", text)
    probe = machine.probe()
    with capture_logs() as logs:
        found = probe.look([UsageSubject(ID, PID)])[0]
        probe.look([UsageSubject(ID, PID)])
    assert getattr(found, field) is None
    assert sum(each is None for each in numbers(found)) == (2 if file == "io.stat" else 1)
    [line] = logs
    assert line["event"] == "usage.withheld"
    assert line["path"] == str(path)
    assert "expected" in line["problem"]


def test_a_file_that_cannot_be_read_is_named_once_for_all_containers(machine):
    for number, container in enumerate((ID, OTHER)):
        machine.process(f"0::/ecs/t/{container}", pid=number)
        machine.v2(f"ecs/t/{container}")
        file = machine.groups / "ecs/t" / container / "cpu.stat"
        file.unlink()
        file.mkdir()  # root may read everything but a directory
    with capture_logs() as logs:
        found = machine.probe().look([UsageSubject(ID, 0), UsageSubject(OTHER, 1)])
    assert [numbers(each)[:2] for each in found] == [(None, 500_000)] * 2
    assert [(line["event"], line["problem"]) for line in logs] == [("usage.withheld", "Is a directory")]


def test_a_controller_that_is_not_enabled_is_unknown_and_named(machine):
    machine.process(f"0::/ecs/t/{ID}")
    machine.v2(f"ecs/t/{ID}")
    (machine.groups / "ecs/t" / ID / "io.stat").unlink()
    with capture_logs() as logs:
        assert numbers(machine.look()) == (1_234_000, 500_000, None, None)
    [line] = logs
    assert line["path"].endswith("/io.stat")
    assert "not enabled" in line["problem"]


def test_groups_that_are_not_mounted_here_are_named_once_and_the_network_is_known(machine):
    machine.process(f"4:memory:/d/{ID}", f"3:blkio:/d/{ID}", f"2:cpuacct:/d/{ID}")
    (machine.groups / "memory").mkdir(parents=True)
    with capture_logs() as logs:
        found = machine.look(link="eth0")
    assert numbers(found) == (None, None, None, None)
    assert found.link == ETH0
    assert {Path(line["path"]).name for line in logs} == {"cpuacct", "memory", "blkio"}


def test_columns_that_are_missing_are_not_made_up(tmp_path):
    file = tmp_path / "dev"
    file.write_text("eth0: 1 2 3\n")
    with pytest.raises(UnreadableCounter, match=r"dev: expected 16 columns"):
        link_usage(str(file), b"eth0")


def test_a_file_that_comes_in_pieces_is_read_to_its_end():
    reading, writing = os.pipe()
    os.write(writing, b"a" * 3000)
    os.write(writing, b"b" * 3000)
    os.close(writing)
    try:
        assert content(f"/proc/self/fd/{reading}") == b"a" * 3000 + b"b" * 3000
    finally:
        os.close(reading)


# -- the look ------------------------------------------------------------------------------------


async def test_reading_goes_through_a_thread(machine):
    machine.process(f"0::/ecs/t/{ID}")
    machine.v2(f"ecs/t/{ID}")
    [found] = await machine.probe().read([UsageSubject(ID, PID)])
    assert numbers(found) == EXPECTED_V2


async def test_a_second_look_is_refused_while_the_first_hangs(machine):
    probe = machine.probe()
    probe._looking.acquire()
    with pytest.raises(PortUnavailable, match="has not ended"):
        await probe.read([])
    probe._looking.release()
    assert await probe.read([]) == ()
