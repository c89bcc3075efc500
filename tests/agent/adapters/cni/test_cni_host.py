"""The warm host makes chains faster and nothing else: whatever it does wrong, the plugins are run all the same."""

import asyncio
import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.adapters.cni import plugin_host
from agent.adapters.cni.plugin_host import HOST, HostLost, Invocation, PluginHost
from agent.adapters.cni.provider import CniProvider
from agent.adapters.cni.replies import PluginReply
from agent.model.errors import CannotAttachNetwork
from tests.agent.adapters.cni.plugins import PluginDirectory
from tests.agent.adapters.cni.test_cni_invoke import pid_in, until_gone
from tests.agent.adapters.cni.test_cni_provider import FAILING, SANDBOX, ScriptStage, provider_of
from tests.contracts.network import NetworkContract, an_eni

SOURCE = Path(__file__).with_name("fake_host.py").read_text()
FAULTS = ["die", "rubbish", "endless", "unknown id", "no list", "too many", "text status"]


class HostStage(ScriptStage):
    """The scripts, with a warm host beside them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.plugins.write(HOST, f"#!{sys.executable} -IS\n{SOURCE}")

    def let_host(self, mode: str) -> None:
        (self.plugins.path / "mode").write_text(mode)

    def requests(self) -> list[dict]:
        path = self.plugins.path / "requests"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
async def stage(tmp_path):
    stage = HostStage(tmp_path)
    yield stage
    await stage.provider.aclose()


class TestCniProviderOnAHost(NetworkContract):
    @pytest.fixture
    def stage(self, stage) -> HostStage:
        return stage


@pytest.fixture(name="plugins")
def _plugins(stage) -> PluginDirectory:
    return stage.plugins


@pytest.fixture
async def host(stage):
    host = PluginHost(stage.plugins.path)
    yield host
    await host.aclose()


def an_invocation(plugin: str = "ecs-eni") -> Invocation:
    return Invocation(plugin, {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1"}, {"type": plugin})


async def one_run(host: PluginHost, subject: str = "c1", limit_s: float = 10.0) -> tuple[PluginReply, ...]:
    answer = await host.run([an_invocation()], stops_on_error=True, subject=subject, limit_s=limit_s)
    return answer.replies


async def until_requested(stage: HostStage, count: int) -> None:
    async with asyncio.timeout(5):
        while len(stage.requests()) < count:
            await asyncio.sleep(0.005)


async def test_a_chain_is_one_request_in_the_agreed_form(stage):
    await stage.provider.attach(SANDBOX, an_eni())
    await stage.provider.detach(SANDBOX, an_eni())
    add, delete = stage.requests()
    assert set(add) == {"id", "deadline_ms", "stop_on_error", "calls"}
    assert add["stop_on_error"] is True
    assert 0 < add["deadline_ms"] <= 20_000
    assert [call["type"] for call in add["calls"]] == ["ecs-eni", "ecs-bridge"]
    assert add["calls"][0]["env"]["CNI_COMMAND"] == "ADD"
    assert add["calls"][0]["config"]["type"] == "ecs-eni"
    assert delete["stop_on_error"] is False
    assert [call["type"] for call in delete["calls"]] == ["ecs-bridge", "ecs-eni"]
    assert delete["id"] != add["id"]


async def test_a_failure_in_the_host_is_told_and_undone_as_without_it(stage, plugins):
    plugins.become("ecs-bridge", add=FAILING)
    with pytest.raises(CannotAttachNetwork, match=r"^ecs-bridge: no such device \(code 100\): eni-0001$"):
        await stage.provider.attach(SANDBOX, an_eni())
    assert plugins.attached(SANDBOX.container_id) == []
    assert plugins.calls().count("ADD ecs-bridge ecs-eth0") == 2


@pytest.mark.parametrize("fault", FAULTS)
async def test_when_the_host_fails_the_plugins_are_run_without_it(stage, plugins, fault):
    stage.let_host(fault)
    with capture_logs() as logs:
        attachment = await stage.provider.attach(SANDBOX, an_eni())
    assert attachment.local_ipv4 == "169.254.172.2"
    assert plugins.calls() == ["ADD ecs-eni eth0", "ADD ecs-bridge ecs-eth0"]
    assert [line["event"] for line in logs] == ["plugin_host.lost"]


async def test_the_last_words_of_a_host_are_logged(stage):
    stage.let_host("die")
    with capture_logs() as logs:
        await stage.provider.attach(SANDBOX, an_eni())
    (line,) = [line for line in logs if line["event"] == "plugin_host.lost"]
    assert "the fake host falls over" in line["stderr"]


async def test_a_host_that_refuses_a_request_stays_and_the_plugins_are_run(stage, plugins):
    stage.let_host("refuse")
    with capture_logs() as logs:
        await stage.provider.attach(SANDBOX, an_eni())
    assert plugins.attached(SANDBOX.container_id) == ["ecs-bridge", "ecs-eni"]
    assert [(line["event"], line["cause"]) for line in logs] == [("plugin_host.refused", "cannot fork")]
    stage.let_host("")
    await stage.provider.detach(SANDBOX, an_eni())
    assert len(stage.requests()) == 2


async def test_what_a_dead_host_had_started_is_killed(stage, plugins):
    stage.let_host("die leaving a child")
    await stage.provider.attach(SANDBOX, an_eni())
    await until_gone(await pid_in(plugins.path / "child"))


async def test_a_dead_host_is_started_again_after_a_pause(stage, host, monkeypatch):
    monkeypatch.setattr(plugin_host, "_FIRST_PAUSE_S", 0.1)
    stage.let_host("die")
    with pytest.raises(HostLost):
        await one_run(host)
    stage.let_host("")
    with pytest.raises(HostLost, match="started again later"):
        await one_run(host)
    await asyncio.sleep(0.15)
    assert [reply.exit for reply in await one_run(host)] == [0]


async def test_the_pauses_grow_with_every_death_and_have_an_end(stage, host, monkeypatch):
    monkeypatch.setattr(plugin_host, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(plugin_host, "_LONGEST_PAUSE_S", 0.1)
    stage.let_host("die")
    loop = asyncio.get_running_loop()
    pauses = []
    for _ in range(5):
        await asyncio.sleep(max(host._not_before - loop.time(), 0))
        with pytest.raises(HostLost, match="was lost"):
            await one_run(host)
        with pytest.raises(HostLost, match="later"):
            await one_run(host)
        pauses.append(host._not_before - loop.time())
    assert [pause <= limit for pause, limit in zip(pauses, (0.02, 0.04, 0.08, 0.1, 0.1), strict=True)] == [
        True
    ] * 5
    assert pauses[3] > 0.04


async def test_a_directory_without_host_is_told_once(stage, plugins):
    (plugins.path / HOST).unlink()
    with capture_logs() as logs:
        await stage.provider.start()
        await stage.provider.attach(SANDBOX, an_eni())
        await stage.provider.detach(SANDBOX, an_eni())
    assert [line["event"] for line in logs if line["event"].startswith("plugin_host")] == [
        "plugin_host.missed"
    ]
    assert plugins.attached(SANDBOX.container_id) == []


async def test_a_host_that_cannot_be_started_is_done_without(stage, plugins):
    plugins.write(HOST, "no program")
    with capture_logs() as logs:
        await stage.provider.attach(SANDBOX, an_eni())
    assert [line["event"] for line in logs] == ["plugin_host.refused"]


async def test_a_host_that_is_switched_off_is_never_started(stage, plugins):
    cold = provider_of(stage, uses_plugin_host=False)
    with capture_logs() as logs:
        await cold.start()
        await cold.attach(SANDBOX, an_eni())
        await cold.detach(SANDBOX, an_eni())
    await cold.aclose()
    assert stage.requests() == []
    assert len(plugins.calls()) == 4
    assert {line["event"] for line in logs} == {"plugin.verified"}


async def test_requests_run_side_by_side(stage, host, plugins):
    plugins.become("ecs-eni", add="sleep 1; echo '{}'")
    await one_run(host)
    started = time.monotonic()
    replies = await asyncio.gather(*(one_run(host, subject=f"c{n}") for n in range(4)))
    assert [reply.exit for (reply,) in replies] == [0] * 4
    assert time.monotonic() - started < 3.5  # 4 s one after the other


async def test_an_answer_in_pieces_is_put_together(stage, host):
    stage.let_host("pieces")
    assert await one_run(host) == (PluginReply(0, "{}", ""),)


async def test_a_host_that_never_answers_is_killed_and_done_without(stage, host, monkeypatch):
    monkeypatch.setattr(plugin_host, "_SLACK_S", 0.1)
    stage.let_host("silent")
    with pytest.raises(HostLost, match="hangs"):
        await one_run(host, limit_s=0.1)


async def test_a_plugin_that_hangs_in_the_host_is_named_and_undone(stage, plugins):
    plugins.become("ecs-bridge", add="sleep 2")
    hasty = provider_of(stage, attach_limit=timedelta(seconds=0.5))
    try:
        with pytest.raises(
            CannotAttachNetwork, match=r"^ecs-bridge: did not end within 0\.\d+ s and was killed"
        ):
            await hasty.attach(SANDBOX, an_eni())
    finally:
        await hasty.aclose()
    assert plugins.attached(SANDBOX.container_id) == []


async def test_a_plugin_that_hangs_at_del_in_the_host_leaves_time_for_the_others(stage, plugins):
    plugins.become("ecs-bridge", delete="sleep 2")
    hasty = provider_of(stage, detach_limit=timedelta(seconds=1))
    try:
        with pytest.raises(CannotAttachNetwork, match=r"^ecs-bridge: did not end within"):
            await hasty.detach(SANDBOX, an_eni())
    finally:
        await hasty.aclose()
    assert plugins.calls()[-1] == "DEL ecs-eni eth0"


async def test_a_detach_waits_for_an_attach_that_was_cancelled_and_still_runs_in_the_host(stage, plugins):
    plugins.become("ecs-eni", add="sleep 0.4; touch $mine; echo '{}'")
    async with asyncio.TaskGroup() as group:
        attaching = group.create_task(stage.provider.attach(SANDBOX, an_eni()))
        await until_requested(stage, 1)
        attaching.cancel()
    assert attaching.cancelled()
    await stage.provider.detach(SANDBOX, an_eni())
    assert plugins.calls()[:2] == ["ADD ecs-eni eth0", "ADD ecs-bridge ecs-eth0"]
    assert plugins.attached(SANDBOX.container_id) == []


async def test_a_cancelled_request_that_never_ends_costs_the_host_and_not_the_detach(stage, plugins):
    stage.let_host("silent")
    hasty = provider_of(stage, detach_limit=timedelta(seconds=1))
    try:
        async with asyncio.TaskGroup() as group:
            attaching = group.create_task(hasty.attach(SANDBOX, an_eni()))
            await until_requested(stage, 1)
            attaching.cancel()
        await hasty.detach(SANDBOX, an_eni())
    finally:
        await hasty.aclose()
    assert plugins.calls() == ["DEL ecs-bridge ecs-eth0", "DEL ecs-eni eth0"]


async def test_a_stubborn_host_is_killed_at_the_end(stage, monkeypatch):
    monkeypatch.setattr(plugin_host, "_GOODBYE_S", 0.2)
    stage.let_host("stubborn")
    host = PluginHost(stage.plugins.path)
    await one_run(host)
    assert host._link is not None
    pid = host._link._transport.get_pid()
    with capture_logs() as logs:
        await host.aclose()
    assert [line["event"] for line in logs] == ["plugin_host.killed"]
    await until_gone(pid)


async def test_a_host_that_was_started_beforehand_is_the_one_that_is_used(stage):
    provider: CniProvider = stage.provider
    await provider.start()
    link = provider._chain._host._link
    await provider.attach(SANDBOX, an_eni())
    assert link is not None
    assert provider._chain._host._link is link
