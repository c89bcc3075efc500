import pytest

from agent.cli.doctor import firewall
from agent.cli.doctor.facts import Done
from agent.cli.doctor.findings import CannotFix, Finding


def test_a_kernel_that_takes_the_rules_is_well(world) -> None:
    seen = []
    world.programs["nft"] = lambda words, text, _: seen.append((words, text)) or Done(0, "")
    world.programs["iptables"] = Done(0, "iptables v1.8.9 (nf_tables)\n")
    assert firewall.netfilter(world.facts()).finding is Finding.OK
    ((words, text),) = seen
    assert "--check" in words
    assert "table inet berth" in text


def test_without_nft_or_with_a_kernel_that_refuses_there_is_a_problem(world) -> None:
    assert "no program nft" in firewall.netfilter(world.facts()).cause
    world.programs["nft"] = Done(
        1, "", "netlink: Error: cache initialization failed: Protocol not supported\n"
    )
    verdict = firewall.netfilter(world.facts())
    assert verdict.finding is Finding.PROBLEM
    assert "Protocol not supported" in verdict.cause


def test_old_rules_beside_new_ones_are_a_warning(world) -> None:
    world.programs |= {"nft": Done(0, ""), "iptables": Done(0, "iptables v1.8.9 (nf_tables)")}
    world.file("proc/net/ip_tables_names", "nat\nfilter\n")
    assert firewall.netfilter(world.facts()).finding is Finding.WARNING
    world.programs["iptables"] = Done(0, "iptables v1.8.9 (legacy)")
    assert firewall.netfilter(world.facts()).finding is Finding.OK


def test_a_program_that_hangs_is_told_as_such(world) -> None:
    world.programs["nft"] = TimeoutError("nft has not ended within 4 s")
    with pytest.raises(TimeoutError):
        firewall.netfilter(world.facts())


def test_route_localnet_is_found_and_set_back(world) -> None:
    switch = world.file("proc/sys/net/ipv4/conf/docker0/route_localnet", "1\n")
    world.file("proc/sys/net/ipv4/conf/all/route_localnet", "0\n")
    verdict = firewall.sysctls(world.facts())
    assert verdict.finding is Finding.WARNING
    assert verdict.fix is not None
    assert "net.ipv4.conf.docker0.route_localnet" in verdict.fix.says
    verdict.fix.apply()
    verdict.fix.apply()
    assert switch.read_text() == "0\n"
    assert firewall.sysctls(world.facts()).finding is Finding.OK


def test_forwarding_is_needed_by_local_routes_only(world) -> None:
    switch = world.file("proc/sys/net/ipv4/ip_forward", "0\n")
    assert firewall.sysctls(world.facts()).finding is Finding.OK
    world.choose(local_routes=("10.9.0.0/16",))
    verdict = firewall.sysctls(world.facts())
    assert verdict.finding is Finding.PROBLEM
    assert verdict.fix is not None
    verdict.fix.apply()
    assert switch.read_text() == "1\n"


def test_a_machine_without_ipv6_is_fine_and_one_that_has_turned_it_off_is_told(world) -> None:
    assert "no IPv6" in firewall.sysctls(world.facts()).cause
    world.file("proc/sys/net/ipv6/conf/default/disable_ipv6", "1\n")
    assert firewall.sysctls(world.facts()).finding is Finding.WARNING


def test_a_switch_that_cannot_be_written_is_named(tmp_path) -> None:
    with pytest.raises(CannotFix, match="cannot write 0"):
        firewall.write_switch(tmp_path / "no" / "switch", "0")
