import pytest

from agent.cli.doctor import kernel
from agent.cli.doctor.facts import Done
from agent.cli.doctor.findings import CannotFix, Finding, NotApplicable


def test_a_kernel_is_judged_by_its_age_and_by_what_it_can_make(world) -> None:
    with pytest.raises(NotApplicable):
        kernel.kernel(world.facts())
    world.file("proc/sys/kernel/osrelease", "3.10.0-1160.el7\n")
    assert kernel.kernel(world.facts()).finding is Finding.PROBLEM
    world.file("proc/sys/kernel/osrelease", "6.1.0-18-cloud-amd64\n")
    assert kernel.kernel(world.facts()).finding is Finding.OK


def test_missing_modules_are_loaded_on_request(world) -> None:
    world.file("proc/sys/kernel/osrelease", "6.1.0\n")
    world.refused = {"veth": "Operation not supported"}
    world.programs["modprobe"] = Done(0, "")
    verdict = kernel.kernel(world.facts())
    assert verdict.finding is Finding.PROBLEM
    assert verdict.fix is not None
    verdict.fix.apply()
    assert world.ran[-1] == ("modprobe", "veth")
    world.programs["modprobe"] = Done(1, "", "modprobe: FATAL: Module veth not found")
    with pytest.raises(CannotFix, match="not found"):
        verdict.fix.apply()
    del world.programs["modprobe"]
    with pytest.raises(CannotFix, match="no modprobe"):
        verdict.fix.apply()


def test_a_full_table_of_connections_is_a_warning_and_can_be_enlarged(world) -> None:
    with pytest.raises(NotApplicable):
        kernel.conntrack(world.facts())
    world.file("proc/sys/net/netfilter/nf_conntrack_count", "10\n")
    most = world.file("proc/sys/net/netfilter/nf_conntrack_max", "1000\n")
    assert kernel.conntrack(world.facts()).finding is Finding.OK
    world.file("proc/sys/net/netfilter/nf_conntrack_count", "900\n")
    verdict = kernel.conntrack(world.facts())
    assert verdict.finding is Finding.WARNING
    assert verdict.fix is not None
    verdict.fix.apply()
    assert most.read_text() == "2000\n"


def test_the_limit_of_the_running_agent_counts(world, monkeypatch) -> None:
    assert "this command may open" in kernel.open_files(world.facts()).cause
    facts = world.facts()
    monkeypatch.setattr(facts, "agent_pid", lambda: 77)
    world.file(
        "proc/77/limits", "Limit  Soft\nMax open files            1024                 4096    files\n"
    )
    verdict = kernel.open_files(facts)
    assert (verdict.finding, verdict.cause) == (Finding.WARNING, "the agent may open 1024 files")


def test_a_slow_clock_source_is_a_warning_if_there_is_a_better_one(world) -> None:
    place = "sys/devices/system/clocksource/clocksource0"
    with pytest.raises(NotApplicable):
        kernel.clock_source(world.facts())
    world.file(f"{place}/current_clocksource", "hpet\n")
    world.file(f"{place}/available_clocksource", "tsc hpet acpi_pm\n")
    assert kernel.clock_source(world.facts()).finding is Finding.WARNING
    world.file(f"{place}/available_clocksource", "hpet acpi_pm\n")
    assert kernel.clock_source(world.facts()).finding is Finding.OK
