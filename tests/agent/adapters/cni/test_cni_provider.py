"""The provider keeps the network contract on scripts, cleans up behind failures, and says whose they were."""

import asyncio
import json
import shutil
import time
from datetime import timedelta
from ipaddress import IPv4Network
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.adapters.cni import provider as provider_module
from agent.adapters.cni.provider import CniProvider, CniSettings, PluginVersion
from agent.model.errors import CannotAttachNetwork, CannotStart
from agent.model.ids import ContainerId
from agent.model.spec import NetworkInterface
from agent.ports.network import SandboxRef
from tests.agent.adapters.cni.plugins import ADD_BRIDGE, PluginDirectory
from tests.contracts.network import NetworkContract, an_eni

SANDBOX = SandboxRef(ContainerId("ab" * 32), pid=4711)
FAILING = """echo '{"cniVersion":"1.0.0","code":100,"msg":"no such device","details":"eni-0001"}'; exit 1"""


class ScriptStage:
    def __init__(self, root: Path) -> None:
        self.plugins = PluginDirectory(root)
        self.settings = CniSettings(
            plugin_dir=self.plugins.path,
            proc_root=Path("/host/proc"),
            sys_root=self.plugins.sys_root,
            ipam_dir=root / "ipam",
            log_file=root / "cni.log",
            attach_limit=timedelta(seconds=20),
            detach_limit=timedelta(seconds=20),
        )
        self.provider = CniProvider(self.settings)
        self.subnet = IPv4Network("169.254.172.0/22")
        self._numbers = count(1)

    async def sandbox(self) -> SandboxRef:
        number = next(self._numbers)
        return SandboxRef(ContainerId(f"{number:08x}" * 8), pid=1000 + number)

    async def eni(self) -> NetworkInterface:
        return an_eni(next(self._numbers))

    async def kill(self, sandbox: SandboxRef) -> None:
        for path in self.plugins.world.glob(f"{sandbox.container_id}.*"):
            path.unlink()
        for path in self.plugins.sys_root.glob(f"class/net/**/veth{sandbox.container_id[:8]}"):
            shutil.rmtree(path)

    async def is_attached(self, sandbox: SandboxRef) -> bool:
        return bool(self.plugins.attached(sandbox.container_id))

    async def ports(self) -> list[str]:
        return self.plugins.ports()

    async def break_attach(self) -> None:
        self.plugins.become("ecs-bridge", add=f"echo 0 > $mine; {FAILING}")

    async def heal(self) -> None:
        self.plugins.heal()


@pytest.fixture
async def stage(tmp_path):
    stage = ScriptStage(tmp_path)
    yield stage
    await stage.provider.aclose()


class TestCniProviderOnScripts(NetworkContract):
    @pytest.fixture
    def stage(self, stage) -> ScriptStage:
        return stage


@pytest.fixture(name="plugins")
def _plugins(stage) -> PluginDirectory:
    return stage.plugins


def provider_of(stage: ScriptStage, **changes: object) -> CniProvider:
    values = {name: getattr(stage.settings, name) for name in CniSettings.__slots__}
    return CniProvider(CniSettings(**{**values, **changes}))


async def test_the_eni_comes_first_and_goes_last(stage, plugins):
    await stage.provider.attach(SANDBOX, an_eni())
    await stage.provider.detach(SANDBOX, an_eni())
    assert plugins.calls() == [
        "ADD ecs-eni eth0",
        "ADD ecs-bridge ecs-eth0",
        "DEL ecs-bridge ecs-eth0",
        "DEL ecs-eni eth0",
    ]


async def test_a_plugin_is_told_what_the_specification_asks_for(stage, plugins):
    await stage.provider.attach(SANDBOX, an_eni())
    told = plugins.environment("ecs-bridge", "ADD")
    for name in ("_", "SHLVL", "OLDPWD", "PWD", "PATH"):
        told.pop(name, None)
    assert told == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": SANDBOX.container_id,
        "CNI_NETNS": "/host/proc/4711/ns/net",
        "CNI_IFNAME": "ecs-eth0",
        "CNI_PATH": str(plugins.path),
        "CNI_ARGS": "",
        "ECS_CNI_LOG_FILE": str(stage.settings.log_file),
        "ECS_CNI_LOGLEVEL": "info",
        "IPAM_DB_PATH": str(stage.settings.ipam_dir),
    }
    assert plugins.stdin("ecs-bridge", "ADD")["ipam"]["id"] == an_eni().mac_address


async def test_del_gets_the_same_configuration_as_add_and_an_empty_namespace_without_process(stage, plugins):
    await stage.provider.attach(SANDBOX, an_eni())
    await stage.provider.detach(SandboxRef(SANDBOX.container_id, None), an_eni())
    for name in ("ecs-eni", "ecs-bridge"):
        assert plugins.stdin(name, "DEL") == plugins.stdin(name, "ADD")
        assert plugins.environment(name, "DEL")["CNI_NETNS"] == ""


async def test_a_failed_add_is_undone_in_reverse_and_told_with_plugin_and_message(stage, plugins):
    plugins.become("ecs-bridge", add=FAILING)
    with pytest.raises(CannotAttachNetwork, match=r"^ecs-bridge: no such device \(code 100\): eni-0001$"):
        await stage.provider.attach(SANDBOX, an_eni())
    assert plugins.calls()[-2:] == ["DEL ecs-bridge ecs-eth0", "DEL ecs-eni eth0"]
    assert plugins.attached(SANDBOX.container_id) == []


async def test_a_failed_chain_is_tried_once_more_after_it_was_undone(stage, plugins):
    plugins.become("ecs-bridge", add=FAILING)
    with capture_logs() as logs, pytest.raises(CannotAttachNetwork):
        await stage.provider.attach(SANDBOX, an_eni())
    once = ["ADD ecs-eni eth0", "ADD ecs-bridge ecs-eth0", "DEL ecs-bridge ecs-eth0", "DEL ecs-eni eth0"]
    assert plugins.calls() == once * 2
    assert [line["event"] for line in logs].count("network_attach.repeated") == 1


async def test_what_a_dead_agent_left_attached_is_attached_anew(stage, plugins):
    await stage.provider.attach(SANDBOX, an_eni())
    restarted = provider_of(stage)
    assert (await restarted.attach(SANDBOX, an_eni())).local_ipv4 == "169.254.172.2"
    assert plugins.attached(SANDBOX.container_id) == ["ecs-bridge", "ecs-eni"]


async def test_when_the_first_plugin_fails_the_second_is_not_called(stage, plugins):
    plugins.become("ecs-eni", add=FAILING)
    with pytest.raises(CannotAttachNetwork, match=r"^ecs-eni: no such device"):
        await stage.provider.attach(SANDBOX, an_eni())
    assert "ADD ecs-bridge ecs-eth0" not in plugins.calls()


async def test_an_undo_that_fails_is_logged_and_does_not_hide_the_cause(stage, plugins):
    plugins.become("ecs-bridge", add=FAILING, delete='echo \'{"code":5,"msg":"stuck"}\'; exit 1')
    with capture_logs() as logs, pytest.raises(CannotAttachNetwork, match="no such device"):
        await stage.provider.attach(SANDBOX, an_eni())
    causes = [line["cause"] for line in logs if line["event"] == "plugin_undo.failed"]
    assert causes == ["ecs-bridge: stuck (code 5)"] * 2
    assert plugins.calls()[-1] == "DEL ecs-eni eth0"


@pytest.mark.parametrize("add", ["echo this is not json", "echo '[]'", "true"])
async def test_rubbish_on_stdout_is_a_failure_that_is_undone(stage, plugins, add):
    plugins.become("ecs-eni", add=add)
    with pytest.raises(CannotAttachNetwork, match="ecs-eni: expected a CNI result"):
        await stage.provider.attach(SANDBOX, an_eni())
    assert plugins.calls()[-2:] == ["DEL ecs-bridge ecs-eth0", "DEL ecs-eni eth0"]


async def test_a_result_without_address_is_a_failure_that_is_undone(stage, plugins):
    plugins.become("ecs-bridge", add="touch $mine; echo 0 > $mine; echo '{\"ips\":[]}'")
    with pytest.raises(CannotAttachNetwork, match="ecs-bridge: its result has no IPv4 address"):
        await stage.provider.attach(SANDBOX, an_eni())
    assert plugins.attached(SANDBOX.container_id) == []


async def test_a_detach_tries_every_plugin_and_tells_all_failures(stage, plugins):
    plugins.become("ecs-bridge", delete='echo \'{"code":5,"msg":"stuck"}\'; exit 1')
    plugins.become("ecs-eni", delete="echo oops >&2; exit 2")
    with pytest.raises(CannotAttachNetwork) as caught:
        await stage.provider.detach(SANDBOX, an_eni())
    assert str(caught.value) == (
        "ecs-bridge: stuck (code 5); ecs-eni: ended with status 2 and no CNI error, complained 'oops'"
    )


async def test_a_plugin_that_hangs_at_del_leaves_time_for_the_others(stage, plugins):
    plugins.become("ecs-bridge", delete="sleep 300")
    hasty = provider_of(stage, detach_limit=timedelta(seconds=1))
    started = time.monotonic()
    with pytest.raises(
        CannotAttachNetwork, match=r"^ecs-bridge: did not end within 0\.\d+ s and was killed$"
    ):
        await hasty.detach(SANDBOX, an_eni())
    assert time.monotonic() - started < 5
    assert plugins.calls() == ["DEL ecs-bridge ecs-eth0", "DEL ecs-eni eth0"]


async def test_a_plugin_that_hangs_at_add_is_killed_and_undone(stage, plugins):
    plugins.become("ecs-bridge", add="sleep 300")
    hasty = provider_of(stage, attach_limit=timedelta(seconds=0.5))
    with pytest.raises(CannotAttachNetwork, match="ecs-bridge: did not end within"):
        await hasty.attach(SANDBOX, an_eni())
    assert plugins.attached(SANDBOX.container_id) == []


async def test_a_busy_plugin_is_asked_again_and_the_one_before_it_is_not(stage, plugins, monkeypatch):
    monkeypatch.setattr(provider_module, "_BUSY_PAUSES_S", (0.01, 0.01, 0.01))
    tries = plugins.world / "tries"
    busy = f'echo x >> {tries}; [ $(wc -l < {tries}) -ge 3 ] || {{ echo \'{{"code":11,"msg":"locked"}}\'; exit 1; }}'
    plugins.become("ecs-bridge", add=f"{busy}\n{ADD_BRIDGE}")
    await stage.provider.attach(SANDBOX, an_eni())
    assert plugins.calls() == ["ADD ecs-eni eth0", *["ADD ecs-bridge ecs-eth0"] * 3]


async def test_a_plugin_that_stays_busy_fails_in_the_end(stage, plugins, monkeypatch):
    monkeypatch.setattr(provider_module, "_BUSY_PAUSES_S", (0.01, 0.01))
    plugins.become("ecs-bridge", add='echo \'{"code":11,"msg":"locked"}\'; exit 1')
    with pytest.raises(CannotAttachNetwork, match=r"ecs-bridge: locked \(code 11\)"):
        await stage.provider.attach(SANDBOX, an_eni())
    assert plugins.calls().count("ADD ecs-bridge ecs-eth0") == 3


async def test_only_what_was_busy_is_deleted_again(stage, plugins, monkeypatch):
    monkeypatch.setattr(provider_module, "_BUSY_PAUSES_S", (0.01, 0.01))
    flag = plugins.world / "flag"
    plugins.become(
        "ecs-bridge",
        delete=f'[ -e {flag} ] || {{ touch {flag}; echo \'{{"code":11,"msg":"locked"}}\'; exit 1; }}',
    )
    await stage.provider.detach(SANDBOX, an_eni())
    assert plugins.calls() == ["DEL ecs-bridge ecs-eth0", "DEL ecs-eni eth0", "DEL ecs-bridge ecs-eth0"]


async def test_a_failure_that_will_not_pass_is_not_forgotten_while_a_busy_plugin_is_asked_again(
    stage, plugins, monkeypatch
):
    monkeypatch.setattr(provider_module, "_BUSY_PAUSES_S", (0.01, 0.01))
    flag = plugins.world / "flag"
    plugins.become(
        "ecs-bridge",
        delete=f'[ -e {flag} ] || {{ touch {flag}; echo \'{{"code":11,"msg":"locked"}}\'; exit 1; }}',
    )
    plugins.become("ecs-eni", delete='echo \'{"code":5,"msg":"stuck"}\'; exit 1')
    with pytest.raises(CannotAttachNetwork, match="ecs-eni: stuck"):
        await stage.provider.detach(SANDBOX, an_eni())


async def test_a_cancelled_attach_ends_its_plugin_and_lets_detach_clean_up(stage, plugins):
    plugins.become("ecs-bridge", add="touch $world/begun; sleep 300")
    async with asyncio.TaskGroup() as group:
        attaching = group.create_task(stage.provider.attach(SANDBOX, an_eni()))
        async with asyncio.timeout(5):
            while not (plugins.world / "begun").exists():
                await asyncio.sleep(0.005)
        attaching.cancel()
    assert attaching.cancelled()
    await stage.provider.detach(SANDBOX, an_eni())
    assert plugins.attached(SANDBOX.container_id) == []


async def test_two_calls_for_one_sandbox_never_run_at_once(stage, plugins):
    plugins.become(
        "ecs-eni",
        add="mkdir $world/inside || exit 9; sleep 0.05; rmdir $world/inside; echo '{}'",
        delete="ls $world/inside && exit 9",
    )
    await asyncio.gather(
        stage.provider.attach(SANDBOX, an_eni()),
        stage.provider.attach(SANDBOX, an_eni()),
        return_exceptions=False,
    )


async def test_the_start_verifies_each_plugin_and_tells_its_version(stage):
    with capture_logs() as logs:
        await stage.provider.start()
    assert stage.provider.versions() == tuple(
        PluginVersion(name, "1.2.3", "abcdef0", is_dirty=False)
        for name in ("ecs-eni", "ecs-bridge", "ecs-ipam")
    )
    verified = [line["plugin"] for line in logs if line["event"] == "plugin.verified"]
    assert verified == ["ecs-eni", "ecs-bridge", "ecs-ipam"]


async def test_a_missing_plugin_stops_the_start_for_good_and_is_named_with_its_directory(stage, plugins):
    (plugins.path / "ecs-bridge").unlink()
    (plugins.path / "ecs-ipam").chmod(0o644)
    with pytest.raises(CannotStart) as caught:
        await stage.provider.start()
    assert caught.value.is_final
    text = str(caught.value)
    assert f"CNI plugins in {plugins.path} cannot be used" in text
    assert f"ecs-bridge: no such plugin (or its interpreter) at {plugins.path}/ecs-bridge" in text
    assert "ecs-ipam" in text
    assert "chmod 755" in text
    assert "ecs-eni" not in text


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (
            'echo \'{"capabilities":["other"]}\'',
            r"ecs-ipam: offers \['other'\], expected awsvpc-network-mode",
        ),
        ("echo hello", "ecs-ipam --capabilities: expected a CNI result"),
        ("exit 7", "ecs-ipam --capabilities: ended with status 7"),
    ],
)
async def test_a_plugin_without_the_capability_stops_the_start(stage, plugins, script, text):
    plugins.write("ecs-ipam", f"#!/bin/sh\n{script}\n")
    with pytest.raises(CannotStart, match=text):
        await stage.provider.start()


async def test_a_plugin_that_hangs_at_the_start_is_named(stage, plugins, monkeypatch):
    monkeypatch.setattr(provider_module, "_PROBE_LIMIT_S", 0.2)
    plugins.write("ecs-ipam", "#!/bin/sh\nsleep 300\n")
    with pytest.raises(CannotStart, match=r"ecs-ipam: did not end within 0\.2 s"):
        await stage.provider.start()


async def test_a_configuration_on_stdin_is_one_json_object(stage, plugins):
    await stage.provider.attach(SANDBOX, an_eni())
    assert json.loads((plugins.world / "stdin.ecs-eni.ADD").read_text())["type"] == "ecs-eni"
