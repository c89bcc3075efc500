"""What the provider collects, whom it waits for and keeps waiting, and which plugins it leaves alone."""

import asyncio
import shutil
from collections.abc import Callable

import pytest

from agent.adapters.cni import leftovers as leftovers_module
from agent.adapters.cni.conflist import NEEDED_PLUGINS
from agent.model.errors import CannotAttachNetwork
from agent.model.ids import ContainerId
from agent.ports.network import SandboxRef
from tests.agent.adapters.cni.plugins import ADD_BRIDGE, COLLECT_BRIDGE, PluginDirectory
from tests.agent.adapters.cni.test_cni_provider import ScriptStage, provider_of
from tests.contracts.network import an_eni

FIRST, SECOND = (SandboxRef(ContainerId(digits * 32), pid=4711) for digits in ("ab", "cd"))
OLD = """echo '{"cniVersion":"0.3.1","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1"]}'"""
OLDEST = """echo '{"code":4,"msg":"unknown CNI_COMMAND: VERSION"}'; exit 1"""


@pytest.fixture
async def stage(tmp_path):
    stage = ScriptStage(tmp_path)
    yield stage
    await stage.provider.aclose()


@pytest.fixture(name="plugins")
def _plugins(stage) -> PluginDirectory:
    return stage.plugins


def only(*sandboxes: SandboxRef) -> Callable[[], frozenset[ContainerId]]:
    return lambda: frozenset(each.container_id for each in sandboxes)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def refusing(code: int) -> str:
    return f"""echo '{{"cniVersion":"1.1.0","code":{code},"msg":"not this one"}}'; exit 1"""


async def test_every_plugin_is_told_what_to_keep_the_bridge_first(stage, plugins):
    await stage.provider.remove_leftovers(only(SECOND, FIRST))
    assert plugins.calls() == ["VERSION ecs-bridge ", "VERSION ecs-eni ", "GC ecs-bridge ", "GC ecs-eni "]
    kept = [
        {"containerID": sandbox.container_id, "ifname": ifname}
        for sandbox in (FIRST, SECOND)
        for ifname in ("eth0", "ecs-eth0")
    ]
    for name in ("ecs-bridge", "ecs-eni"):
        assert plugins.stdin(name, "GC")["cni.dev/valid-attachments"] == kept
        told = plugins.environment(name, "GC")
        assert {key for key in told if key.startswith("CNI_")} == {"CNI_COMMAND", "CNI_PATH"}
        assert told["IPAM_DB_PATH"] == str(stage.settings.ipam_dir)


async def test_leases_are_freed_also_where_no_port_is_left(stage, plugins):
    await stage.provider.attach(FIRST, an_eni())
    shutil.rmtree(plugins.sys_root)  # the port has gone with its namespace
    assert await stage.provider.leftovers(only()) == ()
    assert await stage.provider.remove_leftovers(only()) == ()
    assert list(plugins.world.glob("lease.*")) == []


@pytest.mark.parametrize("version", [OLD, OLDEST, "echo hello", "exit 1", "true"])
async def test_a_plugin_that_is_too_old_for_gc_is_left_alone_in_silence(stage, plugins, version):
    for name in NEEDED_PLUGINS:
        plugins.become(name, version=version)
    await stage.provider.attach(FIRST, an_eni())
    assert await stage.provider.remove_leftovers(only()) == ()
    assert [call for call in plugins.calls() if call.startswith("GC")] == []


async def test_one_old_plugin_keeps_no_other_from_collecting(stage, plugins):
    plugins.become("ecs-eni", version=OLD)
    await stage.provider.attach(FIRST, an_eni())
    assert len(await stage.provider.remove_leftovers(only())) == 1
    assert [call for call in plugins.calls() if call.startswith("GC")] == ["GC ecs-bridge "]


@pytest.mark.parametrize("code", [1, 4])
async def test_a_plugin_that_speaks_the_dialect_but_knows_no_gc_is_left_alone_in_silence(
    stage, plugins, code
):
    plugins.become("ecs-bridge", collect=refusing(code))
    await stage.provider.attach(FIRST, an_eni())
    assert await stage.provider.remove_leftovers(only()) == ()
    assert len(plugins.ports()) == 1


async def test_a_gc_that_fails_is_told_and_the_other_plugin_is_called_all_the_same(stage, plugins):
    plugins.become("ecs-bridge", collect=refusing(100))
    with pytest.raises(CannotAttachNetwork, match=r"^ecs-bridge: not this one \(code 100\)$"):
        await stage.provider.remove_leftovers(only())
    assert plugins.calls()[-1] == "GC ecs-eni "


async def test_a_gc_that_hangs_is_ended_and_keeps_nobody_waiting_any_more(stage, plugins, monkeypatch):
    monkeypatch.setattr(leftovers_module, "_LIMIT_S", 0.5)
    plugins.become("ecs-bridge", collect="sleep 300")
    with pytest.raises(CannotAttachNetwork, match="ecs-bridge: did not end within"):
        await stage.provider.remove_leftovers(only())
    async with asyncio.timeout(10):
        await stage.provider.attach(FIRST, an_eni())


async def test_a_missing_plugin_is_named(stage, plugins):
    (plugins.path / "ecs-eni").unlink()
    with pytest.raises(CannotAttachNetwork, match="ecs-eni: no such plugin"):
        await stage.provider.remove_leftovers(only())


async def test_a_sandbox_that_is_being_attached_is_kept_though_nobody_knows_it(stage, plugins):
    go = plugins.world / "go"
    plugins.become(
        "ecs-bridge", add=f"{ADD_BRIDGE}\ntouch $world/half\nuntil [ -e {go} ]; do sleep 0.01; done"
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(stage.provider.attach(FIRST, an_eni()))
        await until((plugins.world / "half").exists)
        assert len(plugins.ports()) == 1
        assert await stage.provider.leftovers(only()) == ()
        assert await stage.provider.remove_leftovers(only()) == ()
        go.touch()
    assert len(plugins.ports()) == 1


async def test_an_attach_waits_while_plugins_collect_that_know_nothing_of_its_sandbox(stage, plugins):
    go = plugins.world / "go"
    plugins.become(
        "ecs-bridge", collect=f"touch $world/begun\nuntil [ -e {go} ]; do sleep 0.01; done\n{COLLECT_BRIDGE}"
    )
    async with asyncio.TaskGroup() as group:
        collecting = group.create_task(stage.provider.remove_leftovers(only(FIRST)))
        await until((plugins.world / "begun").exists)
        await stage.provider.attach(FIRST, an_eni(1))  # which they were told to keep
        waiting = group.create_task(stage.provider.attach(SECOND, an_eni(2)))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        assert not plugins.attached(SECOND.container_id)
        go.touch()
    assert collecting.result() == ()
    assert len(plugins.ports()) == 2


async def test_a_collection_that_is_cancelled_keeps_nobody_waiting(stage, plugins):
    plugins.become("ecs-bridge", collect="touch $world/begun; sleep 300")
    async with asyncio.TaskGroup() as group:
        collecting = group.create_task(stage.provider.remove_leftovers(only()))
        await until((plugins.world / "begun").exists)
        collecting.cancel()
    async with asyncio.timeout(10):
        await stage.provider.attach(FIRST, an_eni())


async def test_two_collections_never_run_at_once(stage, plugins):
    plugins.become("ecs-eni", collect="mkdir $world/inside || exit 9; sleep 0.05; rmdir $world/inside")
    await asyncio.gather(*(stage.provider.remove_leftovers(only()) for _ in range(3)))


async def test_only_ports_with_a_mark_of_ours_are_leftovers(stage, plugins):
    net = plugins.sys_root / "class" / "net"
    aliases = {
        "veth1": f"ecs:{FIRST.container_id}:ecs-bridge:ecs-eth0\n",
        "veth2": "\n",
        "veth3": "somebody's port\n",
        "veth4": f"ecs:{SECOND.container_id}:ecs-eni:eth1\n",
        "veth5": f"ecs:{SECOND.container_id}\n",
        "veth6": "specs:aa:ecs-bridge:x\n",
    }
    for name, alias in aliases.items():
        (net / "ecs-bridge" / "brif" / name).mkdir(parents=True)
        (net / name).mkdir()
        (net / name / "ifalias").write_text(alias)
    (net / "ecs-bridge" / "brif" / "veth7").mkdir()  # gone between two looks
    assert await stage.provider.leftovers(only()) == ("veth1",)
    assert await stage.provider.leftovers(only(FIRST)) == ()


async def test_a_link_in_the_bridges_place_has_no_ports(stage, plugins):
    (plugins.sys_root / "class" / "net" / "ecs-bridge").mkdir(parents=True)
    assert await stage.provider.leftovers(only()) == ()


async def test_ports_that_cannot_be_read_are_an_error_that_names_the_file(stage, plugins):
    net = plugins.sys_root / "class" / "net"
    (net / "ecs-bridge" / "brif" / "veth1").mkdir(parents=True)
    (net / "veth1" / "ifalias").mkdir(parents=True)
    with pytest.raises(CannotAttachNetwork, match=r"ports of ecs-bridge: .*/veth1/ifalias: Is a directory"):
        await stage.provider.leftovers(only())


async def test_it_works_without_a_warm_host_too(stage, plugins):
    cold = provider_of(stage, uses_plugin_host=False)
    await cold.attach(FIRST, an_eni())
    assert len(await cold.remove_leftovers(only())) == 1
    assert plugins.ports() == []


async def test_a_port_that_comes_or_goes_while_one_looks_is_no_leftover(stage, plugins):
    await stage.provider.attach(FIRST, an_eni(1))
    net = plugins.sys_root / "class" / "net"

    def asked() -> frozenset[ContainerId]:
        shutil.rmtree(net / "ecs-bridge" / "brif" / "vethabababab")
        (net / "ecs-bridge" / "brif" / "veth2").mkdir()
        (net / "veth2").mkdir()
        (net / "veth2" / "ifalias").write_text(f"ecs:{SECOND.container_id}:ecs-bridge:ecs-eth0\n")
        return frozenset()

    assert plugins.ports() == ["vethabababab"]
    assert await stage.provider.leftovers(asked) == ()
    assert plugins.ports() == ["veth2"]
