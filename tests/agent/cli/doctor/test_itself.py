import json

import pytest

from agent.adapters.host import needs
from agent.cli.doctor import itself
from agent.cli.doctor.facts import AgentFacts, Done, Facts
from agent.cli.doctor.findings import Finding, NotApplicable


def test_wrong_settings_are_the_problem_that_is_told(world) -> None:
    assert itself.settings(world.facts()).finding is Finding.OK
    verdict = itself.settings(Facts(None, ("ECS_LOGLEVEL='loud': expected one of debug, info",)))
    assert (verdict.finding, "ECS_LOGLEVEL" in verdict.cause) == (Finding.PROBLEM, True)
    world.choose(warnings=("ECS_FOO is not known",))
    assert itself.settings(world.facts()).finding is Finding.WARNING


def test_missing_privileges_are_named_with_what_gives_them(world, monkeypatch) -> None:
    monkeypatch.setattr(itself, "look", lambda *_, **__: None)
    for is_needed, finding in ((True, Finding.PROBLEM), (False, Finding.WARNING)):
        lack = needs.Missing("x", "CAP_NET_ADMIN", "links", "add --cap-add=NET_ADMIN", is_needed=is_needed)
        monkeypatch.setattr(itself, "missing", lambda _, lack=lack: (lack,))
        verdict = itself.privileges(world.facts())
        assert verdict.finding is finding
        assert "add --cap-add=NET_ADMIN" in verdict.cause
    monkeypatch.setattr(itself, "missing", lambda _: ())
    assert itself.privileges(world.facts()).finding is Finding.OK


def with_plugins(world, dialects=("0.4.0", "1.0.0")):
    def plugin(words, text, variables):
        if "--version" in words:
            return Done(0, '{"version": "0.1.0", "gitShortHash": "abc", "dirty": true}\n')
        assert variables["CNI_COMMAND"] == "VERSION"
        return Done(0, json.dumps({"cniVersion": "1.0.0", "supportedVersions": list(dialects)}))

    for name in ("ecs-eni", "ecs-bridge", "ecs-ipam"):
        world.file(f"cni/{name}", "#!").chmod(0o755)
        world.programs[name] = plugin
    world.choose(plugins_path=world.root / "cni")


def test_plugins_that_answer_are_well_and_a_foreign_dialect_is_a_problem(world) -> None:
    with_plugins(world)
    verdict = itself.plugins(world.facts())
    assert verdict.finding is Finding.OK
    assert "ecs-ipam 0.1.0 (abc, changed)" in verdict.cause
    with_plugins(world, ("0.2.0",))
    assert "speaks CNI 0.2.0" in itself.plugins(world.facts()).cause


def test_a_plugin_that_is_absent_or_cannot_be_run_is_named(world) -> None:
    with_plugins(world)
    world.programs["ecs-eni"] = None
    assert "cannot be run" in itself.plugins(world.facts()).cause
    (world.root / "cni/ecs-ipam").unlink()
    assert "there is no" in itself.plugins(world.facts()).cause


def test_a_plugin_that_hangs_ends_the_check(world) -> None:
    with_plugins(world)
    world.programs["ecs-eni"] = TimeoutError("ecs-eni has not ended within 4 s")
    with pytest.raises(TimeoutError):
        itself.plugins(world.facts())


def test_a_plugin_without_its_executable_bit_gets_it_on_request(world) -> None:
    with_plugins(world)
    path = world.root / "cni/ecs-bridge"
    path.chmod(0o644)
    verdict = itself.plugins(world.facts())
    assert verdict.finding is Finding.PROBLEM
    assert verdict.fix is not None
    assert verdict.fix.undo == f"chmod 644 {path}"
    verdict.fix.apply()
    assert itself.plugins(world.facts()).finding is Finding.OK


def test_the_running_agents_own_word_is_told(world, monkeypatch) -> None:
    facts = world.facts()
    with pytest.raises(NotApplicable):
        itself.health(facts)
    health = {
        "status": "IMPAIRED",
        "components": [{"component": "runtime", "status": "IMPAIRED", "reason": "away"}],
    }
    monkeypatch.setattr(facts, "agent", lambda: AgentFacts({"Version": "berth - v1"}, health))
    assert (itself.health(facts).finding, itself.health(facts).cause) == (Finding.PROBLEM, "runtime: away")
    monkeypatch.setattr(facts, "agent", lambda: AgentFacts({"Version": "berth - v1"}, {"status": "OK"}))
    assert itself.health(facts).finding is Finding.OK


def test_an_agent_that_is_there_and_silent_is_a_problem(world, monkeypatch) -> None:
    facts = world.facts()
    monkeypatch.setattr(facts, "agent_pid", lambda: 9)
    assert "process 9" in itself.health(facts).cause
