"""The interface between agent and plugins: the agent's tests prove that it writes these files, ours that we read them."""

import json
from pathlib import Path

import pytest

from cni_plugins.bridge import config as bridge
from cni_plugins.eni import config as eni
from cni_plugins.ipam import config as ipam
from cni_plugins.skeleton.config import read_config
from tests.cni_plugins.cnilab import Lab

GOLDEN = Path(__file__).parent.parent / "golden" / "cni"
CASES = [("eni-ipv4", "eth0"), ("eni-dualstack", "eth0"), ("bridge-ipam", "ecs-eth0")]


def golden(name: str) -> dict:
    return json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.mark.parametrize(("name", "_ifname"), CASES)
def test_the_golden_configs_are_understood(name: str, _ifname: str) -> None:
    keys = golden(name)
    assert read_config((GOLDEN / f"{name}.json").read_bytes(), "ADD").version == "1.0.0"
    if name.startswith("eni"):
        assert [str(prefix) for prefix in eni.parse_config(keys).addresses] == keys["ip-addresses"]
    else:
        assert bridge.parse_config(keys).bridge == "ecs-bridge"
        assert str(ipam.parse_config(keys).pools[0].gateway) == "169.254.172.1"


@pytest.mark.parametrize("name", ["eni-gc", "bridge-gc"])
def test_the_golden_collections_are_understood(name: str) -> None:
    config = read_config((GOLDEN / f"{name}.json").read_bytes(), "GC")
    assert config.valid_attachments() == {("c1", "eth0"), ("c1", "ecs-eth0")}
    if name == "bridge-gc":
        assert bridge.parse_config(config.keys).ipam_type == "ecs-ipam"


@pytest.mark.integration
@pytest.mark.parametrize("name", ["eni-gc", "bridge-gc"])
def test_the_golden_collections_are_carried_out(lab: Lab, name: str) -> None:
    lab.run(golden(name)["type"], "GC", golden(name)).ok()


@pytest.mark.integration
@pytest.mark.parametrize(("name", "ifname"), CASES)
def test_the_golden_results_are_what_the_plugins_answer(lab: Lab, name: str, ifname: str) -> None:
    config, expected, sandbox = golden(name), golden(f"{name}.result"), lab.sandbox()
    if "mac" in config:
        lab.eni(config["mac"], "eth1")
    result = lab.run(config["type"], "ADD", config, sandbox, ifname).ok()
    for link, stated in zip(result["interfaces"], expected["interfaces"], strict=True):
        if "sandbox" in stated:
            assert link["sandbox"] == sandbox.path
            link["sandbox"] = stated["sandbox"]
        if stated["name"].startswith("veth"):  # name and MAC of the host's end are random
            assert link["name"].startswith("veth")
            link.update(stated)
    assert result == expected


@pytest.mark.integration
def test_the_golden_error_is_what_the_plugin_answers(lab: Lab) -> None:
    outcome = lab.run("ecs-eni", "ADD", golden("eni-ipv4"), lab.sandbox(), "eth0")
    assert outcome.document == golden("error.result")
