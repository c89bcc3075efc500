"""The chain of plugins, ADD and DEL: as the agent runs it, and as executables one after the other.

Everything happens in a network namespace of its own; an ENI is one end of a veth. The floor is what the kernel
takes for the one slow thing in each chain, asked by one warm process: moving a link into another namespace for
ADD, deleting a veth for DEL.
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Interface
from pathlib import Path

from agent import logs
from agent.adapters.cni.conflist import PluginCall, TaskBridge, plugin_calls
from agent.adapters.cni.provider import CniProvider, CniSettings
from agent.model.ids import ContainerId, MacAddress
from agent.model.spec import NetworkInterface
from agent.ports.network import SandboxRef
from cni_plugins.kernel import links
from cni_plugins.kernel.namespaces import find_namespace
from cni_plugins.kernel.rtnetlink import Netlink
from tests.benchmarks.figures import Figure, median
from tests.benchmarks.stage import TREE, Unmeasurable

PLUGINS = TREE / "build/cni"
ROUNDS = 15
AT_ONCE, AT_ONCE_ROUNDS = 24, 3
QUIET = 0.2
"""Seconds before ADD and before DEL where they are settled: the kernel needs them after each change."""


def measure() -> list[Figure]:
    """Measure in a namespace that ends with the process that does it."""
    command = ["unshare", "--net", sys.executable, "-m", "tests.benchmarks.plugins"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, cwd=TREE)
    if done.returncode != 0:
        raise Unmeasurable("the plugins could not be measured; see above")
    return [Figure(**each) for each in json.loads(done.stdout)]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A namespace kept by a process, and an ENI for it in the namespace of this process."""

    keeper: subprocess.Popen[bytes]
    reference: SandboxRef
    wanted: NetworkInterface
    peer: str

    @classmethod
    def make(cls, number: int) -> "Sandbox":
        """Both are ready, and as young as can be."""
        mac = MacAddress(f"0e:00:00:00:{number // 256:02x}:{number % 256:02x}")
        _ip("link", "add", f"vpc{number}", "type", "veth", "peer", "name", f"nic{number}", "address", mac)
        _ip("link", "set", f"vpc{number}", "up")
        keeper = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "echo; exec sleep 300"], stdout=subprocess.PIPE
        )
        assert keeper.stdout is not None
        keeper.stdout.read(1)  # written inside
        wanted = NetworkInterface(
            attachment_arn=f"bench/{number}",
            eni_id=f"eni-{number:017x}",
            mac_address=mac,
            subnet_id="subnet-bench",
            ipv4_addresses=(IPv4Interface(f"10.0.{number // 200}.{number % 200 + 10}/16"),),
            gateways=("10.0.0.1",),
            expires_at=datetime.max.replace(tzinfo=UTC),
        )
        return cls(keeper, SandboxRef(ContainerId(uuid.uuid4().hex), keeper.pid), wanted, f"vpc{number}")

    @property
    def path(self) -> str:
        """Its namespace."""
        return f"/proc/{self.keeper.pid}/ns/net"

    def end(self) -> None:
        """Nothing of it is left."""
        self.keeper.kill()
        self.keeper.wait()
        assert self.keeper.stdout is not None
        self.keeper.stdout.close()
        subprocess.run(["ip", "link", "del", self.peer], stderr=subprocess.DEVNULL, check=False)


class Warm:
    """The chain as the agent runs it."""

    name = "warm"

    def __init__(self, provider: CniProvider) -> None:
        self._provider = provider

    async def add(self, sandbox: Sandbox) -> None:
        await self._provider.attach(sandbox.reference, sandbox.wanted)

    async def delete(self, sandbox: Sandbox) -> None:
        await self._provider.detach(sandbox.reference, sandbox.wanted)

    def cpu(self) -> float:
        """Seconds that the plugin host, its ended children and this process have used."""
        own = resource.getrusage(resource.RUSAGE_SELF)
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        ticks = 0
        for child in children:
            if b"ecs-plugin-host" in Path(f"/proc/{child}/cmdline").read_bytes():
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))
        return own.ru_utime + own.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


class Cold:
    """The executables one after the other, as everyone else runs them."""

    name = "cold"

    def __init__(self, leases: Path) -> None:
        self._leases = leases
        self._threads = ThreadPoolExecutor(AT_ONCE)

    async def add(self, sandbox: Sandbox) -> None:
        await self._run("ADD", sandbox, plugin_calls(sandbox.wanted, TaskBridge(), block_imds=True))

    async def delete(self, sandbox: Sandbox) -> None:
        await self._run("DEL", sandbox, plugin_calls(sandbox.wanted, TaskBridge(), block_imds=True)[::-1])

    def cpu(self) -> float:
        """Seconds that all ended children of this process have used."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def close(self) -> None:
        self._threads.shutdown()

    async def _run(self, command: str, sandbox: Sandbox, calls: tuple[PluginCall, ...]) -> None:
        await asyncio.get_running_loop().run_in_executor(
            self._threads, self._execute, command, sandbox, calls
        )

    def _execute(self, command: str, sandbox: Sandbox, calls: tuple[PluginCall, ...]) -> None:
        for call in calls:
            done = subprocess.run(
                [PLUGINS / call.plugin],
                input=json.dumps(call.config).encode(),
                env={
                    "CNI_COMMAND": command,
                    "CNI_CONTAINERID": sandbox.reference.container_id,
                    "CNI_NETNS": sandbox.path,
                    "CNI_IFNAME": call.ifname,
                    "CNI_PATH": str(PLUGINS),
                    "IPAM_DB_PATH": str(self._leases),
                },
                stdout=subprocess.PIPE,
                check=False,
            )
            if done.returncode != 0:
                raise Unmeasurable(f"{call.plugin} {command}: {done.stdout.decode()}")


class Kernel:
    """Only what the kernel has to do, for comparison."""

    name = "kernel"

    async def add(self, sandbox: Sandbox) -> None:
        with closing(Netlink()) as here:
            link = links.find_link(here, f"nic{sandbox.peer.removeprefix('vpc')}")
            assert link is not None
            there = find_namespace(sandbox.path)
            here.send([links.move_link(link.index, there.descriptor, "eth0", "")])

    async def delete(self, sandbox: Sandbox) -> None:
        with closing(Netlink()) as here:
            link = links.find_link(here, sandbox.peer)
            assert link is not None
            here.send([links.delete_link(link.index)])

    def cpu(self) -> float:
        return time.process_time()


Contender = Warm | Cold | Kernel


async def _measured() -> list[Figure]:
    _ip("link", "set", "lo", "up")
    with ExitStack() as stack:
        scratch = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="berth-bench-", dir="/dev/shm"))
        )
        provider = CniProvider(
            CniSettings(plugin_dir=PLUGINS, ipam_dir=scratch / "warm", log_file=scratch / "plugins.log")
        )
        cold = stack.enter_context(closing(Cold(scratch / "cold")))
        contenders: tuple[Contender, ...] = (Kernel(), Warm(provider), cold)
        try:
            await provider.start()
            for contender in contenders[1:]:  # the bridge is made once, by the first
                await _one(contender, 0.0)
            return [
                *await _settled(contenders),
                *await _back_to_back(contenders),
                *await _at_once(contenders[1:]),
            ]
        finally:
            await provider.aclose()


async def _settled(contenders: tuple[Contender, ...]) -> list[Figure]:
    found = await _rounds(contenders, QUIET)
    return [
        figure
        for name in ("warm", "cold")
        for figure in (
            Figure(f"plugins.{name}.add", *_against(found, name, 0), peer=51.9),
            Figure(f"plugins.{name}.del", *_against(found, name, 1), peer=31.2),
            Figure(f"plugins.{name}.cpu", median(found[name][2]), "ms", peer=29),
        )
    ]


async def _back_to_back(contenders: tuple[Contender, ...]) -> list[Figure]:
    found = await _rounds(contenders, 0.0)
    return [
        figure
        for name in ("warm", "cold")
        for figure in (
            Figure(f"plugins.{name}.add.hurried", *_against(found, name, 0), peer=75.6),
            Figure(f"plugins.{name}.del.hurried", *_against(found, name, 1), peer=26.2),
        )
    ]


def _against(found: dict[str, tuple[list[float], ...]], name: str, which: int) -> tuple[float, str, float]:
    return median(found[name][which]), "ms", median(found["kernel"][which])


async def _rounds(contenders: tuple[Contender, ...], quiet: float) -> dict[str, tuple[list[float], ...]]:
    """For each contender: ADD, DEL in ms; and CPU of both together, a mean over all rounds."""
    found: dict[str, tuple[list[float], ...]] = {each.name: ([], [], []) for each in contenders}
    spent = dict.fromkeys(found, 0.0)
    for _ in range(ROUNDS):
        for each in contenders:
            add, delete, cpu = await _one(each, quiet)
            found[each.name][0].append(add)
            found[each.name][1].append(delete)
            spent[each.name] += cpu
    for name, seconds in spent.items():
        found[name][2].append(1000 * seconds / ROUNDS)
    return found


async def _one(contender: Contender, quiet: float) -> tuple[float, float, float]:
    sandbox = Sandbox.make(next(_numbers))
    try:
        await asyncio.sleep(quiet)
        before = contender.cpu()
        add = await _timed(lambda: contender.add(sandbox))
        await asyncio.sleep(quiet)
        delete = await _timed(lambda: contender.delete(sandbox))
        if isinstance(contender, Warm):
            await asyncio.sleep(0.05)  # the CPU of the host's child counts when it has ended
        return add, delete, contender.cpu() - before
    finally:
        sandbox.end()


async def _at_once(contenders: tuple[Contender, ...]) -> list[Figure]:
    figures: list[Figure] = []
    found: dict[str, tuple[list[float], list[float]]] = {each.name: ([], []) for each in contenders}
    for _ in range(AT_ONCE_ROUNDS):
        for each in contenders:
            sandboxes = [Sandbox.make(next(_numbers)) for _ in range(AT_ONCE)]
            try:
                await asyncio.sleep(3 * QUIET)
                found[each.name][0].append(await _timed(lambda: _all(each.add, sandboxes)))  # noqa: B023
                await asyncio.sleep(3 * QUIET)
                found[each.name][1].append(await _timed(lambda: _all(each.delete, sandboxes)))  # noqa: B023
            finally:
                for sandbox in sandboxes:
                    sandbox.end()
    for name, (adds, deletes) in found.items():
        figures.append(Figure(f"plugins.{name}.add.{AT_ONCE}", median(adds), "ms", peer=1166))
        figures.append(Figure(f"plugins.{name}.del.{AT_ONCE}", median(deletes), "ms"))
    return figures


async def _all(work: Callable[[Sandbox], Awaitable[None]], sandboxes: list[Sandbox]) -> None:
    await asyncio.gather(*(work(sandbox) for sandbox in sandboxes))


async def _timed(work: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await work()
    return 1000 * (time.perf_counter() - began)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


_numbers = iter(range(1, 10_000))

if __name__ == "__main__":
    logs.configure(level="error")
    print(json.dumps([asdict(figure) for figure in asyncio.run(_measured())]))
