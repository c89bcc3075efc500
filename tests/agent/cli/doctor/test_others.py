import pytest

from agent.cli.doctor import facts as facts_module
from agent.cli.doctor import others
from agent.cli.doctor.facts import Done
from agent.cli.doctor.findings import Finding

RULE = "-A PREROUTING -d 169.254.170.2/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 127.0.0.1:51679"


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(facts_module, "DOCKER_CALL", 0.3)


def test_a_machine_without_another_agent_is_well(world) -> None:
    world.programs["iptables-save"] = Done(0, "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n")
    world.docker.answers["/containers/json"] = (
        200,
        [{"Image": "berth/agent", "Names": ["/ecs-agent"], "State": "running"}],
    )
    verdict = others.other_agents(world.facts())
    assert (verdict.finding, verdict.cause) == (Finding.OK, "nothing of another agent is here")


def test_its_process_its_unit_and_its_containers_are_found(world) -> None:
    world.process(40, "amazon-ecs-agen")
    world.file("etc/systemd/system/multi-user.target.wants/ecs.service")
    image = {"Image": "amazon/amazon-ecs-agent:latest", "Names": ["/ecs-agent"], "State": "exited"}
    world.docker.answers["/containers/json"] = (200, [image])
    verdict = others.other_agents(world.facts())
    assert verdict.finding is Finding.PROBLEM
    for words in ("process 40", "ecs.service is enabled", "ecs-agent (exited)"):
        assert words in verdict.cause
    assert verdict.fix is None


def test_its_address_translation_is_found_and_the_command_that_removes_it_is_named(world) -> None:
    world.programs["iptables-save"] = Done(0, f"*nat\n{RULE}\nCOMMIT\n")
    verdict = others.other_agents(world.facts())
    assert verdict.finding is Finding.PROBLEM
    assert f"iptables -t nat {RULE.replace('-A', '-D', 1)}" in verdict.advice
    assert ("iptables-legacy-save", "-t", "nat") not in world.ran


def test_while_docker_hangs_the_rest_is_looked_at(world) -> None:
    world.docker.is_silent = True
    world.process(40, "amazon-ecs-init")
    verdict = others.other_agents(world.facts())
    assert verdict.finding is Finding.PROBLEM
    assert "process 40" in verdict.cause


def test_somebody_on_its_port_is_a_warning(world) -> None:
    line = "   0: 0100007F:C9DF 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1"
    world.file("proc/net/tcp", f"  sl  local_address\n{line}\n")
    link = world.root / "proc/77/fd/3"
    link.parent.mkdir(parents=True)
    link.symlink_to("socket:[4242]")
    verdict = others.other_agents(world.facts())
    assert (verdict.finding, "process 77 listens on port 51679" in verdict.cause) == (Finding.WARNING, True)


def test_without_iptables_its_rules_are_found_by_nft_and_our_own_are_not_taken_for_its(world) -> None:
    listed = """table ip nat {
	chain PREROUTING {
		ip daddr 169.254.170.2 tcp dport 80 counter packets 0 bytes 0 dnat to 127.0.0.1:51679
	}
}
table inet berth {
	chain lead_from_links {
		ip daddr 169.254.170.2 tcp dport 80 dnat ip to 169.254.170.2:8080
	}
}
"""
    world.programs["nft"] = Done(0, listed)
    verdict = others.other_agents(world.facts())
    assert verdict.finding is Finding.PROBLEM
    assert "table ip nat: ip daddr 169.254.170.2" in verdict.cause
    assert "8080" not in verdict.cause
    world.programs["nft"] = Done(0, listed.partition("table inet")[0].replace("dnat to", "accept #"))
    assert others.other_agents(world.facts()).finding is Finding.OK
