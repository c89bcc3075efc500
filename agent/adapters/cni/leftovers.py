"""What the network keeps for sandboxes that are gone: found by its marks, removed by the plugins' own GC.

``ecs-bridge`` marks each port of the bridge with an ifalias, ``ecs:<container id>:<plugin>:<interface>``.
Which leases are left over only their plugin knows; GC (cni 1.4) tells it what must be kept, and it frees the
rest.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from agent.adapters.cni.chain import Outcome, PluginChain, reply_of
from agent.adapters.cni.conflist import BRIDGE_PLUGIN, GC_VERSION, PluginCall, TaskBridge, collection_calls
from agent.adapters.cni.plugin_host import Invocation
from agent.adapters.cni.replies import PluginUnable, require_success, supported_versions
from agent.model.errors import CannotAttachNetwork
from agent.model.ids import ContainerId
from agent.ports.network import KnownSandboxes

_LIMIT_S = 5.0
"""For all plugins together. An attach may have to wait so long."""

_SUBJECT = "leftovers"
_MARK = "ecs:"


class Leftovers:
    """``at_work`` gives the sandboxes that are attached or detached at this moment.

    ``sys_root``: where the host's /sys is seen. ``environment``: what every call of a plugin gets.
    """

    def __init__(
        self,
        chain: PluginChain,
        bridge: TaskBridge,
        sys_root: Path,
        environment: Mapping[str, str],
        at_work: Callable[[], frozenset[ContainerId]],
    ) -> None:
        self._chain = chain
        self._bridge = bridge
        self._links = sys_root / "class" / "net"
        self._environment = environment
        self._at_work = at_work
        self._one_at_a_time = asyncio.Lock()
        self._kept: frozenset[ContainerId] | None = None
        self._is_over = asyncio.Event()

    async def let_pass(self, sandbox: ContainerId) -> None:
        """Wait while plugins collect that were not told to keep this sandbox: they would take it apart."""
        while self._kept is not None and sandbox not in self._kept:
            await self._is_over.wait()

    async def find(self, known: KnownSandboxes) -> tuple[str, ...]:
        """The names of ports of no sandbox, sorted. Raise ``CannotAttachNetwork``."""
        seen = await self._ports()
        kept = self._kept_now(known)  # asked after the look: what was attached meanwhile is known
        stray = {port for port, sandbox in seen.items() if sandbox not in kept}
        # Looked at again: a task that left meanwhile has taken its port along.
        return tuple(sorted(stray & (await self._ports()).keys())) if stray else ()

    async def remove(self, known: KnownSandboxes) -> tuple[str, ...]:
        """Let the plugins collect; the names of the ports that went, sorted. Raise ``CannotAttachNetwork``.

        Plugins that know no GC are left alone.
        """
        async with self._one_at_a_time:
            able = await self._able_plugins()
            if not able:
                return ()
            before = await self._ports()
            self._is_over.clear()
            # From here to the end whoever is not kept must not begin to attach.
            self._kept = kept = self._kept_now(known)
            try:
                failures = await self._collect(
                    call for call in collection_calls(self._bridge, kept) if call.plugin in able
                )
            finally:
                self._kept = None
                self._is_over.set()
            stray = {port for port, sandbox in before.items() if sandbox not in kept}
            gone = stray - (await self._ports()).keys()
        if failures:
            raise CannotAttachNetwork("; ".join(map(str, failures))) from failures[0]
        return tuple(sorted(gone))

    def _kept_now(self, known: KnownSandboxes) -> frozenset[ContainerId]:
        return known() | self._at_work()

    async def _able_plugins(self) -> frozenset[str]:
        """Those whose VERSION names a dialect that has GC."""
        asked = {"cniVersion": GC_VERSION}
        calls = [PluginCall(call.plugin, "", asked) for call in collection_calls(self._bridge, frozenset())]
        return frozenset(
            call.plugin
            for call, outcome in zip(calls, await self._run("VERSION", calls), strict=True)
            if GC_VERSION in supported_versions(reply_of(outcome))
        )

    async def _collect(self, calls: Iterable[PluginCall]) -> list[CannotAttachNetwork]:
        tried = tuple(calls)
        failures = []
        for call, outcome in zip(tried, await self._run("GC", tried), strict=True):
            try:
                require_success(call.plugin, reply_of(outcome))
            except PluginUnable:
                continue  # it speaks the dialect, but without this verb
            except CannotAttachNetwork as failure:
                failures.append(failure)
        return failures

    async def _run(self, command: str, calls: Sequence[PluginCall]) -> tuple[Outcome, ...]:
        environment = {**self._environment, "CNI_COMMAND": command}
        return await self._chain.run(
            [Invocation(call.plugin, environment, call.config) for call in calls],
            stops_on_error=False,
            subject=_SUBJECT,
            limit_s=_LIMIT_S,
        )

    async def _ports(self) -> dict[str, ContainerId]:
        try:
            return await asyncio.to_thread(_marked_ports, self._links, self._bridge.name)
        except OSError as error:
            raise CannotAttachNetwork(
                f"cannot list the ports of {self._bridge.name}: {error.filename}: {error.strerror}"
            ) from error


def _marked_ports(links: Path, bridge: str) -> dict[str, ContainerId]:
    """Name and sandbox of every port that carries a mark of the bridge plugin's; none without a bridge."""
    try:
        names = sorted(port.name for port in (links / bridge / "brif").iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found = {}
    for name in names:
        try:
            alias = (links / name / "ifalias").read_text(errors="replace").strip()
        except FileNotFoundError:
            continue  # it has just gone
        owner, _, rest = alias.removeprefix(_MARK).partition(":")
        if alias.startswith(_MARK) and rest.startswith(f"{BRIDGE_PLUGIN}:"):
            found[name] = ContainerId(owner)
    return found
