"""The network contract on the real plugins, warm and cold, with a private namespace in the host's place."""

import asyncio
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agent.adapters.cni.conflist import NEEDED_PLUGINS
from agent.adapters.cni.plugin_host import HOST
from agent.adapters.cni.provider import CniProvider, CniSettings
from agent.model.errors import CannotAttachNetwork
from agent.model.ids import ContainerId, MacAddress
from agent.model.spec import NetworkInterface
from agent.ports.network import SandboxRef
from tests.contracts.network import NetworkContract, an_eni

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("cni")
    subprocess.run(
        [sys.executable, "-m", "cni_plugins.build", "--output", str(output)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return output


class Namespace:
    """A network namespace that lives as long as a process that sleeps in it."""

    def __init__(self) -> None:
        # A /sys shows the namespace in which it was mounted.
        script = "mount -t sysfs none /sys && echo && exec sleep 300"
        self._process = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", script], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # written inside
        self.pid = self._process.pid

    def ip(self, *arguments: str) -> str:
        command = ["nsenter", f"--net=/proc/{self.pid}/ns/net", "ip", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def links(self) -> list[str]:
        return [link["ifname"] for link in json.loads(self.ip("-j", "link"))]

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class RealStage:
    """The real executables, each started inside a namespace that stands for the host."""

    def __init__(self, built: Path, root: Path, *, is_warm: bool) -> None:
        self.host = Namespace()
        self.subnet = IPv4Network("169.254.172.0/22")
        self.root = root
        self._sandboxes: dict[str, Namespace] = {}
        self._numbers = count(1)
        plugins = root / "plugins"
        plugins.mkdir()
        for name in (*NEEDED_PLUGINS, HOST):
            path = plugins / name
            path.write_text(
                f'#!/bin/sh\nexec nsenter --net=/proc/{self.host.pid}/ns/net {built / name} "$@"\n'
            )
            path.chmod(0o755)
        self.provider = CniProvider(
            CniSettings(
                plugin_dir=plugins,
                uses_plugin_host=is_warm,
                ipam_dir=root / "ipam",
                log_file=root / "cni.log",
                sys_root=Path(f"/proc/{self.host.pid}/root/sys"),
            )
        )

    async def sandbox(self) -> SandboxRef:
        container_id = ContainerId(secrets.token_hex(32))
        self._sandboxes[container_id] = Namespace()
        return SandboxRef(container_id, self._sandboxes[container_id].pid)

    async def eni(self) -> NetworkInterface:
        eni = an_eni(next(self._numbers))
        self.host.ip("link", "add", f"ifb{eni.eni_id[-4:]}", "address", eni.mac_address, "type", "ifb")
        return eni

    async def kill(self, sandbox: SandboxRef) -> None:
        self._sandboxes[sandbox.container_id].end()

    async def is_attached(self, sandbox: SandboxRef) -> bool:
        namespace = self._sandboxes[sandbox.container_id]
        return namespace.is_alive and bool({"eth0", "ecs-eth0"} & set(namespace.links()))

    async def ports(self) -> list[str]:
        links = json.loads(self.host.ip("-j", "link"))
        return sorted(link["ifname"] for link in links if link.get("master") == "ecs-bridge")

    async def break_attach(self) -> None:
        self.host.ip("link", "add", "ecs-bridge", "type", "ifb")  # in the bridge's place, and no bridge

    async def heal(self) -> None:
        self.host.ip("link", "del", "ecs-bridge")

    def leases(self) -> str:
        return (self.root / "ipam" / "leases.json").read_text()

    def namespace(self, sandbox: SandboxRef) -> Namespace:
        return self._sandboxes[sandbox.container_id]

    async def aclose(self) -> None:
        await self.provider.aclose()
        for namespace in (*self._sandboxes.values(), self.host):
            if namespace.is_alive:
                namespace.end()


@pytest.fixture(params=["warm", "cold"])
async def stage(built, tmp_path, request):
    stage = RealStage(built, tmp_path, is_warm=request.param == "warm")
    yield stage
    await stage.aclose()


class TestCniProviderOnRealPlugins(NetworkContract):
    @pytest.fixture
    def stage(self, stage) -> RealStage:
        return stage


async def test_the_real_plugins_are_verified_and_no_fallback_is_needed(stage):
    sandbox, eni = await stage.sandbox(), await stage.eni()
    with capture_logs() as logs:
        await stage.provider.start()
        await stage.provider.attach(sandbox, eni)
        await stage.provider.detach(sandbox, eni)
    assert [one.plugin for one in stage.provider.versions()] == list(NEEDED_PLUGINS)
    assert all(one.version for one in stage.provider.versions())
    assert {line["event"] for line in logs} == {"plugin.verified"}


async def test_the_sandbox_has_what_was_asked_for_and_the_host_gets_the_eni_back(stage):
    sandbox = await stage.sandbox()
    eni = await stage.eni()
    attachment = await stage.provider.attach(sandbox, eni)
    inside = stage.namespace(sandbox)
    shown = json.loads(inside.ip("-j", "addr"))
    addresses = {
        link["ifname"]: {
            f"{info['local']}/{info['prefixlen']}" for info in link["addr_info"] if info["family"] == "inet"
        }
        for link in shown
    }
    assert addresses["eth0"] == {"10.0.1.5/24"}
    assert addresses["ecs-eth0"] == {f"{attachment.local_ipv4}/22"}
    assert next(link["address"] for link in shown if link["ifname"] == "eth0") == eni.mac_address
    routes = inside.ip("route")
    assert "default via 10.0.1.1 dev eth0" in routes
    assert "169.254.170.2 via 169.254.172.1 dev ecs-eth0" in routes
    assert "blackhole 169.254.169.254" in routes
    await stage.provider.detach(sandbox, eni)
    assert eni.mac_address in stage.host.ip("link")
    assert eni.mac_address not in inside.ip("link")


async def test_a_dual_stack_eni_has_both_addresses(stage):
    sandbox = await stage.sandbox()
    await stage.eni()
    eni = NetworkInterface(
        **{
            **{name: getattr(an_eni(1), name) for name in NetworkInterface.__slots__},
            "ipv4_addresses": (IPv4Interface("10.0.1.5/24"),),
            "ipv6_addresses": (IPv6Interface("fd00:10::5/64"),),
            "gateways": ("10.0.1.1", "fd00:10::1"),
        }
    )
    await stage.provider.attach(sandbox, eni)
    shown = stage.namespace(sandbox).ip("addr", "show", "eth0")
    assert "10.0.1.5/24" in shown
    assert "fd00:10::5/64" in shown


async def test_a_failed_chain_brings_the_eni_home_and_keeps_no_lease(stage):
    sandbox, eni = await stage.sandbox(), await stage.eni()
    await stage.break_attach()
    with pytest.raises(CannotAttachNetwork, match=r"^ecs-bridge: .*ecs-bridge.*not a bridge"):
        await stage.provider.attach(sandbox, eni)
    assert eni.mac_address in stage.host.ip("link")
    assert stage.namespace(sandbox).links() == ["lo"]


async def test_the_lease_of_a_dead_sandbox_is_freed_and_that_of_a_live_one_is_not(stage):
    dead, alive = await stage.sandbox(), await stage.sandbox()
    kept = await stage.provider.attach(alive, await stage.eni())
    await stage.provider.attach(dead, await stage.eni())
    await stage.kill(dead)
    await stage.provider.remove_leftovers(lambda: frozenset({alive.container_id}))
    assert set(json.loads(stage.leases())["held"]) == {kept.local_ipv4}
    assert await stage.is_attached(alive)


async def test_an_eni_that_is_not_there_is_named(stage):
    sandbox = await stage.sandbox()
    missing = an_eni(9)
    with pytest.raises(CannotAttachNetwork, match=r"^ecs-eni: ") as caught:
        await stage.provider.attach(sandbox, missing)
    assert MacAddress(missing.mac_address) in str(caught.value)


async def test_the_cost_of_a_chain_is_shown(stage, request):
    await stage.provider.start()
    attach, detach = [], []
    for _ in range(5):
        sandbox, eni = await stage.sandbox(), await stage.eni()
        await asyncio.sleep(0.2)
        started = time.perf_counter()
        await stage.provider.attach(sandbox, eni)
        attached = time.perf_counter()
        await asyncio.sleep(0.2)
        resumed = time.perf_counter()
        await stage.provider.detach(sandbox, eni)
        detach.append((time.perf_counter() - resumed) * 1000)
        attach.append((attached - started) * 1000)
    print(
        f"{request.node.name}: attach {statistics.median(attach):.0f} ms, detach {statistics.median(detach):.0f} ms, "
        f"nsenter (about 2 ms per cold process) included, {os.cpu_count()} cores"
    )
    assert len(attach) == len(detach) == 5
