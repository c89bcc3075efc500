"""The ``NetworkProvider`` that calls CNI plugins, and cleans up behind them when one fails."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import structlog

from agent.adapters.cni.chain import Outcome, PluginChain, reply_of
from agent.adapters.cni.conflist import ENI_IFNAME, NEEDED_PLUGINS, PluginCall, TaskBridge, plugin_calls
from agent.adapters.cni.invoke import run_plugin
from agent.adapters.cni.leftovers import Leftovers
from agent.adapters.cni.plugin_host import Invocation
from agent.adapters.cni.replies import (
    PluginBusy,
    PluginTimedOut,
    local_ipv4,
    read_result,
    require_success,
)
from agent.model.errors import CannotAttachNetwork, CannotStart
from agent.model.ids import ContainerId
from agent.model.spec import NetworkInterface
from agent.model.state import Attachment
from agent.ports.network import KnownSandboxes, SandboxRef

log = structlog.get_logger()

_CAPABILITY = "awsvpc-network-mode"
_PROBE_LIMIT_S = 10.0
_BUSY_PAUSES_S = (0.1, 0.3, 1.0, 2.0)
"""How long a plugin that says "try again later" is left alone, each time; after that it has failed."""


@dataclass(frozen=True, slots=True)
class CniSettings:
    """Where the plugins are and what they are told.

    ``proc_root``, ``sys_root``: where the host's /proc and /sys are seen.
    ``ipam_dir``: the address leases, best on a tmpfs. ``log_file``, ``log_level``: of the plugins.
    ``uses_plugin_host``: keep a warm process for chains.
    ``attach_limit``, ``detach_limit``: for a whole chain.
    """

    plugin_dir: Path
    bridge: TaskBridge = field(default_factory=TaskBridge)
    block_imds: bool = True
    proc_root: Path = Path("/proc")
    sys_root: Path = Path("/sys")
    ipam_dir: Path = Path("/run/ecs-ipam")
    log_file: Path = Path("/var/log/ecs/cni-plugins.log")
    log_level: str = "info"
    uses_plugin_host: bool = True
    attach_limit: timedelta = timedelta(seconds=60)
    detach_limit: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class PluginVersion:
    """What a plugin says of its build; empty texts if it was not stamped."""

    plugin: str
    version: str
    git_hash: str
    is_dirty: bool


class CniProvider:
    """``NetworkProvider`` over a directory of plugins. Two calls for one sandbox never run at once."""

    def __init__(self, settings: CniSettings) -> None:
        self._settings = settings
        self._chain = PluginChain(settings.plugin_dir, is_warm=settings.uses_plugin_host)
        self._turns: WeakValueDictionary[ContainerId, asyncio.Lock] = WeakValueDictionary()
        self._environment = {
            "CNI_PATH": str(settings.plugin_dir),
            "ECS_CNI_LOG_FILE": str(settings.log_file),
            "ECS_CNI_LOGLEVEL": settings.log_level,
            "IPAM_DB_PATH": str(settings.ipam_dir),
        }
        self._leftovers = Leftovers(
            self._chain,
            settings.bridge,
            settings.sys_root,
            self._environment,
            at_work=lambda: frozenset(self._turns),
        )
        self._versions: tuple[PluginVersion, ...] = ()

    async def start(self) -> None:
        """Verify every plugin that is needed, then warm up. Raise ``CannotStart`` naming all problems."""
        found = await asyncio.gather(*(self._verify(plugin) for plugin in NEEDED_PLUGINS))
        problems = [one for one in found if isinstance(one, str)]
        if problems:
            raise CannotStart(
                f"CNI plugins in {self._settings.plugin_dir} cannot be used: {'; '.join(problems)}",
                is_final=True,
            )
        self._versions = tuple(one for one in found if isinstance(one, PluginVersion))
        for one in self._versions:
            log.info(
                "plugin.verified",
                plugin=one.plugin,
                version=one.version,
                git=one.git_hash,
                dirty=one.is_dirty,
            )
        await self._chain.start()

    async def aclose(self) -> None:
        """End what runs in the background. Nothing that is attached is touched."""
        await self._chain.aclose()

    def versions(self) -> tuple[PluginVersion, ...]:
        """The plugins that ``start`` verified."""
        return self._versions

    async def attach(self, sandbox: SandboxRef, wanted: NetworkInterface) -> Attachment:
        """Call each plugin's ADD; if one fails, call each one's DEL. Raise ``CannotAttachNetwork``.

        By the specification ADD fails on a sandbox that has the interface already, as after an agent's death
        between ADD and the saving of its result. So a failed chain is undone and tried once more.
        """
        if sandbox.pid is None:
            raise CannotAttachNetwork(
                "the pause container does not run, so there is no network namespace to join"
            )
        async with self._turn(sandbox):
            await self._leftovers.let_pass(sandbox.container_id)
            until = asyncio.get_running_loop().time() + self._settings.attach_limit.total_seconds()
            calls = self._calls(wanted)
            try:
                return await self._attached(sandbox, calls, until)
            except (PluginBusy, PluginTimedOut):
                raise  # it was asked again already, or no time is left
            except CannotAttachNetwork as failure:
                log.info("network_attach.repeated", container_id=sandbox.container_id, cause=str(failure))
            return await self._attached(sandbox, calls, until)

    async def detach(self, sandbox: SandboxRef, wanted: NetworkInterface) -> None:
        """Call each plugin's DEL in reverse order, also if one fails; then raise ``CannotAttachNetwork``."""
        async with self._turn(sandbox):
            failures = await self._delete_all(sandbox, self._calls(wanted))
        if failures:
            raise CannotAttachNetwork("; ".join(map(str, failures))) from failures[0]

    async def leftovers(self, known: KnownSandboxes) -> tuple[str, ...]:
        """The bridge's ports of no sandbox that is known or worked on. Raise ``CannotAttachNetwork``."""
        return await self._leftovers.find(known)

    async def remove_leftovers(self, known: KnownSandboxes) -> tuple[str, ...]:
        """Call each plugin's GC, if it has one; the names of the ports that went.

        Leases go too, but only their plugin knows which. Raise ``CannotAttachNetwork``.
        """
        return await self._leftovers.remove(known)

    # -- chains --------------------------------------------------------------------------------

    async def _attached(self, sandbox: SandboxRef, calls: tuple[PluginCall, ...], until: float) -> Attachment:
        """All plugins added, or none."""
        try:
            results = await self._add_all(sandbox, calls, until)
            return Attachment(local_ipv4(calls[-1].plugin, results[-1]), interface_name=ENI_IFNAME)
        except CannotAttachNetwork:
            for failure in await self._delete_all(sandbox, calls):
                log.warning("plugin_undo.failed", container_id=sandbox.container_id, cause=str(failure))
            raise

    async def _add_all(
        self, sandbox: SandboxRef, calls: tuple[PluginCall, ...], until: float
    ) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        pauses = iter(_BUSY_PAUSES_S)
        while len(results) < len(calls):
            missing = calls[len(results) :]
            try:
                outcomes = await self._run("ADD", sandbox, missing, until, stops_on_error=True)
                for call, outcome in zip(missing, outcomes, strict=False):
                    results.append(read_result(call.plugin, reply_of(outcome)))
            except PluginBusy:
                pause = next(pauses, None)
                if pause is None or asyncio.get_running_loop().time() + pause >= until:
                    raise
                await asyncio.sleep(pause)
        return results

    async def _delete_all(
        self, sandbox: SandboxRef, calls: tuple[PluginCall, ...]
    ) -> list[CannotAttachNetwork]:
        until = asyncio.get_running_loop().time() + self._settings.detach_limit.total_seconds()
        pauses = iter(_BUSY_PAUSES_S)
        left = tuple(reversed(calls))
        lasting: list[CannotAttachNetwork] = []
        while True:
            busy: list[tuple[PluginCall, PluginBusy]] = []
            outcomes = await self._run("DEL", sandbox, left, until, stops_on_error=False)
            for call, outcome in zip(left, outcomes, strict=True):
                try:
                    require_success(call.plugin, reply_of(outcome))
                except PluginBusy as refusal:
                    busy.append((call, refusal))
                except CannotAttachNetwork as failure:
                    lasting.append(failure)
            pause = next(pauses, None)
            if not busy or pause is None or asyncio.get_running_loop().time() + pause >= until:
                return [*lasting, *(refusal for _, refusal in busy)]
            left = tuple(call for call, _ in busy)
            await asyncio.sleep(pause)

    async def _run(
        self,
        command: str,
        sandbox: SandboxRef,
        calls: tuple[PluginCall, ...],
        until: float,
        *,
        stops_on_error: bool,
    ) -> tuple[Outcome, ...]:
        return await self._chain.run(
            [
                Invocation(call.plugin, self._call_environment(command, sandbox, call.ifname), call.config)
                for call in calls
            ],
            stops_on_error=stops_on_error,
            subject=sandbox.container_id,
            limit_s=max(until - asyncio.get_running_loop().time(), 0.0),
        )

    def _calls(self, wanted: NetworkInterface) -> tuple[PluginCall, ...]:
        return plugin_calls(wanted, self._settings.bridge, block_imds=self._settings.block_imds)

    def _call_environment(self, command: str, sandbox: SandboxRef, ifname: str) -> dict[str, str]:
        namespace = self._settings.proc_root / str(sandbox.pid) / "ns" / "net"
        return {
            **self._environment,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": sandbox.container_id,
            "CNI_NETNS": "" if sandbox.pid is None else str(namespace),
            "CNI_IFNAME": ifname,
            "CNI_ARGS": "",
        }

    def _turn(self, sandbox: SandboxRef) -> asyncio.Lock:
        lock = self._turns.get(sandbox.container_id)
        if lock is None:
            lock = self._turns[sandbox.container_id] = asyncio.Lock()
        return lock

    # -- probes --------------------------------------------------------------------------------

    async def _verify(self, plugin: str) -> PluginVersion | str:
        """The plugin's version, or what is wrong with it."""
        try:
            offered = await self._probe(plugin, "--capabilities")
            listed = offered.get("capabilities")
            if not isinstance(listed, list) or _CAPABILITY not in listed:
                return f"{plugin}: offers {listed}, expected {_CAPABILITY} among its capabilities"
            told = await self._probe(plugin, "--version")
        except CannotAttachNetwork as failure:
            return str(failure)
        return PluginVersion(
            plugin=plugin,
            version=str(told.get("version", "")),
            git_hash=str(told.get("gitShortHash", "")),
            is_dirty=told.get("dirty") is not False,
        )

    async def _probe(self, plugin: str, option: str) -> dict[str, Any]:
        path = self._settings.plugin_dir / plugin
        reply = await run_plugin(path, {}, b"", _PROBE_LIMIT_S, (option,))
        return read_result(f"{plugin} {option}", reply)
