import json
from pathlib import Path

import pytest

from agent.adapters.host.inside import LinkSeen
from agent.cli.doctor.facts import Done
from agent.cli.leaks import network
from agent.cli.leaks.things import Known, NotRemoved, Unseen
from agent.model.ids import ContainerId
from agent.settings import Settings, environment

GONE, ALIVE, HERE = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def settings(data_directory, monkeypatch, tmp_path) -> Settings:
    monkeypatch.setenv("BERTH_RUN_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(network, "sandbox_processes", lambda _, wanted: {ALIVE: 5} if ALIVE in wanted else {})
    return Settings.load(environment())


def known(*sandboxes: str, interfaces=frozenset()):
    found = Known(frozenset(), frozenset(map(ContainerId, sandboxes)), interfaces, has_agent=True)
    return lambda: found


def names(things):
    return [thing.name for thing in things]


def test_ports_whose_sandbox_is_neither_known_nor_alive_are_left(settings, monkeypatch) -> None:
    monkeypatch.setattr(network, "marked_ports", lambda _: (("v1", GONE), ("v2", ALIVE), ("v3", HERE)))
    assert names(network.links(settings, known(HERE))) == ["v1"]


def test_leases_of_this_boot_whose_sandbox_is_gone_are_left(settings) -> None:
    path = settings.run_directory / "ipam" / "leases.json"
    assert network.addresses(settings, known()) == ()
    path.parent.mkdir(parents=True)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    owners = {"169.254.172.2": GONE, "169.254.172.3": ALIVE, "169.254.172.4": HERE, "169.254.172.5": ""}
    held = {
        address: {"id": "m", "container": owner, "ifname": "ecs-eth0"} for address, owner in owners.items()
    }
    path.write_text(json.dumps({"format": 1, "boot": boot, "held": held}))
    assert names(network.addresses(settings, known(HERE))) == ["169.254.172.2"]
    path.write_text(json.dumps({"format": 1, "boot": "another", "held": held}))
    assert network.addresses(settings, known()) == ()
    path.write_text("{")
    with pytest.raises(Unseen, match="no JSON"):
        network.addresses(settings, known())


def test_a_lease_is_freed_by_its_plugin_and_for_this_sandbox_only(settings, monkeypatch) -> None:
    asked = []

    def run(words, text="", **variables):
        asked.append((words, json.loads(text), variables))
        return Done(0, "")

    monkeypatch.setattr(network, "run_program", run)
    network._release(settings, GONE)
    ((words, config, variables),) = asked
    assert words == [str(settings.plugins_path / "ecs-bridge")]
    assert (variables["CNI_COMMAND"], variables["CNI_CONTAINERID"], variables["CNI_NETNS"]) == (
        "DEL",
        GONE,
        "",
    )
    assert "id" not in config["ipam"]
    assert not any(key.startswith("cni.dev/") for key in config)
    monkeypatch.setattr(network, "run_program", lambda *_, **__: None)
    with pytest.raises(NotRemoved, match="there is no"):
        network._release(settings, GONE)


def test_interfaces_that_no_task_has_are_left_and_the_machines_own_is_not(
    settings, monkeypatch, tmp_path
) -> None:
    assert network.interfaces(settings, known()) == ()
    monkeypatch.setattr(network, "NAMESPACES", tmp_path)
    (tmp_path / settings.vpc_namespace).write_text("")
    seen = tuple(
        LinkSeen(
            number,
            f"r{number}",
            f"berth {role} eni-{number} subnet-1 0e:00:00:00:00:0{number} 10.1.0.{number} -",
            "veth",
            "",
        )
        for number, role in ((1, "eni"), (2, "eni"), (3, "instance"), (4, "host:client"))
    )
    monkeypatch.setattr(network, "links_in", lambda _: (*seen, LinkSeen(9, "lo", "", "", "")))
    assert names(network.interfaces(settings, known(interfaces=frozenset({"eni-2"})))) == ["eni-1"]
    with pytest.raises(Unseen, match="no record"):
        network.interfaces(settings, known(interfaces=None))


def test_tables_with_our_name_that_are_not_the_agents_are_left(settings, monkeypatch) -> None:
    tables = [("inet", "berth"), ("ip", "berth"), ("inet", "berth-old"), ("inet", "berthold"), ("ip", "nat")]
    listed = {"nftables": [{"metainfo": {}}, *({"table": {"family": f, "name": n}} for f, n in tables)]}
    monkeypatch.setattr(network, "run_program", lambda _: Done(0, json.dumps(listed)))
    assert names(network.rules(settings, known())) == ["table ip berth", "table inet berth-old"]
    monkeypatch.setattr(network, "run_program", lambda _: None)
    with pytest.raises(Unseen, match="no nft"):
        network.rules(settings, known())
