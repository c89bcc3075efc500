"""Plugins that fail, addresses that run out, an interface that never comes: each is named, quickly, and cleaned up."""

import json
import shutil
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.e2e.agent_process import TREE, Agent, Task, eventually
from tests.e2e.task_definitions import a_definition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

BUILT = TREE / "build/cni"
# each plugin is called as a process of its own, from a directory that tests may spoil
SETTINGS = {
    "ECS_CNI_PLUGINS_PATH": "{place}/cni",
    "BERTH_PLUGIN_HOST": "false",
    "BERTH_ATTACH_LIMIT": "3s",
    "BERTH_DETACH_LIMIT": "3s",
}
WEB = a_definition("web", {"name": "web"})


def prepare(place: Path) -> None:
    # copies, because an agent in a container sees this place, and not the tree
    shutil.copytree(BUILT, place / "cni")
    shutil.copytree(BUILT, place / "real")


@pytest.fixture
def plugins(agent: Agent) -> Iterator[Path]:
    """The directory of the plugins; a test may replace one of them."""
    directory = agent.place / "cni"
    yield directory
    for plugin in BUILT.iterdir():
        _restore(directory / plugin.name)


def _restore(plugin: Path) -> None:
    plugin.unlink(missing_ok=True)
    shutil.copy(BUILT / plugin.name, plugin)


def _on_add(plugin: Path, does: str) -> None:
    """Let the plugin do something else on ADD; all else is done by the real one."""
    real = plugin.parent.parent / "real" / plugin.name
    plugin.unlink()
    plugin.write_text(f'#!/bin/sh\nif [ "$CNI_COMMAND" = ADD ]; then\n{does}\nfi\nexec {real} "$@"\n')
    plugin.chmod(0o755)


def _refused_because(agent: Agent, *words: str, seconds: float = 15.0) -> Task:
    """Run a task that cannot be joined to the network; its reason has the words."""
    began = time.monotonic()
    (arn,) = agent.run(WEB)
    task = agent.stopped(arn, seconds=seconds)
    assert time.monotonic() - began < seconds
    assert task.document["stopCode"] == "TaskFailedToStart", task.document
    for word in words:
        assert word in task.reason, task.reason
    return task


def test_a_plugin_that_fails_is_quoted_in_the_reason_and_what_was_done_is_undone(
    agent: Agent, plugins: Path
) -> None:
    said = '{"cniVersion":"1.0.0","code":101,"msg":"the switch is on fire","details":"all of it"}'
    _on_add(plugins / "ecs-eni", f"cat >/dev/null; echo '{said}'; exit 1")

    task = _refused_because(agent, "ContainerNetworkingError", "ecs-eni", "the switch is on fire")
    assert task.document["attachments"][0]["status"] == "DELETED"


def test_a_plugin_that_prints_rubbish_is_named(agent: Agent, plugins: Path) -> None:
    _on_add(plugins / "ecs-eni", "cat >/dev/null; echo 'Segmentation fault (core dumped'; exit 0")

    _refused_because(agent, "ContainerNetworkingError", "ecs-eni")


def test_a_plugin_that_hangs_is_ended_in_time(agent: Agent, plugins: Path) -> None:
    note = agent.place / "sleeper.pid"
    _on_add(plugins / "ecs-eni", f"sleep 600 & echo $! > {note}; wait")

    _refused_because(agent, "ecs-eni")
    sleeper = int(note.read_text())
    eventually("its children are ended, too", lambda: not Path(f"/proc/{sleeper}").exists(), seconds=5)


def test_a_plugin_that_is_missing_is_named_and_so_is_what_to_do(agent: Agent, plugins: Path) -> None:
    (plugins / "ecs-bridge").unlink()
    (arn,) = agent.run(WEB)

    def reason() -> str:
        inner = agent.inner(arn)
        return str(inner["reason"]) if inner and inner["reason"] else ""

    said = eventually("the failure is told", reason, seconds=10)
    assert "ecs-bridge" in said
    assert str(plugins) in said
    _restore(plugins / "ecs-bridge")
    assert agent.stopped(arn, seconds=30).reason == said


def test_a_task_runs_when_the_plugin_is_well_again(agent: Agent, plugins: Path) -> None:
    _on_add(plugins / "ecs-eni", "cat >/dev/null; exit 1")
    _refused_because(agent, "ecs-eni")
    _restore(plugins / "ecs-eni")

    agent.started(WEB)


def test_when_all_addresses_on_the_bridge_are_taken_the_reason_says_so(agent: Agent) -> None:
    leases = agent.run_directory / "ipam/leases.json"
    kept = leases.read_bytes() if leases.exists() else None
    held = {
        str(address): {"id": f"stranger-{number}", "container": f"stranger-{number}", "ifname": "eth0"}
        for number, address in enumerate(list(ip_network("169.254.172.0/22").hosts())[1:])
    }
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    leases.parent.mkdir(parents=True, exist_ok=True)
    leases.write_text(json.dumps({"format": 1, "boot": boot, "held": held, "resting": {}, "newest": {}}))
    try:
        _refused_because(agent, "ContainerNetworkingError", "169.254.172.0/22")
    finally:
        leases.unlink()
        if kept is not None:
            leases.write_bytes(kept)
    agent.started(WEB)
