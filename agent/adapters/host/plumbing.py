"""Everything the agent needs on the host to serve 169.254.170.2 itself: made, watched, removed."""

import asyncio
from collections.abc import AsyncIterator

import structlog

from agent.adapters.host.bridge import TaskBridge
from agent.adapters.host.firewall import Firewall
from agent.adapters.host.keeping import NoKeeper, SocketKeeper
from agent.adapters.host.rules import FirewallPlan
from agent.adapters.host.sockets import EndpointSockets, Listener
from agent.adapters.host.sysctls import route_localnet_problem
from agent.model.errors import CannotStart
from agent.model.progress import Progress
from agent.ports.health import HealthReports

log = structlog.get_logger()

_LONGEST_LOOK = 300.0
"""Seconds. nft and ip are given up long before."""


class HostPlumbing:
    """Bridge, address, firewall and sockets together. ``recheck``: seconds between two looks at all of it.

    ``keeper``: holds the sockets while the agent is away; None: nobody does.
    """

    def __init__(
        self,
        plan: FirewallPlan,
        health: HealthReports,
        *,
        nft: str = "nft",
        recheck: float = 30.0,
        keeper: SocketKeeper | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._plan = plan
        self._health = health
        self._recheck = recheck
        self._progress = progress or Progress()
        self._keeper = keeper or NoKeeper()
        self._bridge = TaskBridge(plan.links)
        self._firewall = Firewall(plan, nft=nft)
        self._sockets = EndpointSockets(
            health,
            required=(plan.links.loopback, plan.links.bridge),
            optional=plan.docker_bridges,
            address=str(plan.links.endpoint),
            port=plan.port,
            keeper=self._keeper,
            progress=self._progress,
        )

    async def ensure(self) -> None:
        """Make what is missing, the firewall first. Raise ``CannotStart`` saying what to do."""
        await self._firewall.ensure()
        for made in await self._bridge.ensure():
            log.info("host.prepared", made=made)
        self._look_at_localnet()

    def listeners(self) -> AsyncIterator[Listener]:
        """Sockets to serve the endpoint on (``EndpointSockets.listeners``). Call after ``ensure``."""
        return self._sockets.listeners()

    async def keep(self) -> None:
        """Never ends: look at everything again and again, put back what is gone, and say so."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keeper.run())
            group.create_task(self._keep_looking())

    async def look_again(self) -> None:
        """One look. What had vanished is put back and stays a health problem until the next look."""
        await self._restore_firewall()
        await self._restore_bridge()
        self._look_at_localnet()

    async def remove(self) -> tuple[str, ...]:
        """Take everything away that no task uses any more; what was removed, in words. Safe to repeat."""
        removed = await self._bridge.remove()
        if await self._firewall.remove():
            removed = (*removed, f"nftables table {self._plan.table}")
        return removed

    async def _keep_looking(self) -> None:
        with self._progress.watched("firewall and bridge") as loop:
            while True:
                loop.beat(self._recheck + _LONGEST_LOOK)
                await asyncio.sleep(self._recheck)
                await self.look_again()

    async def _restore_firewall(self) -> None:
        try:
            was_gone = await self._firewall.ensure()
        except CannotStart as error:
            self._health.report("firewall", str(error))
            return
        problem = (
            f"nftables table {self._plan.table} had been changed or removed by somebody; it was put back"
        )
        self._health.report("firewall", problem if was_gone else None)

    async def _restore_bridge(self) -> None:
        try:
            made = await self._bridge.ensure()
        except CannotStart as error:
            self._health.report("task bridge", str(error))
            return
        problem = f"somebody had removed {', '.join(made)}; it was made again" if made else None
        if any(word.startswith("bridge ") for word in made):
            problem = f"{problem}, but running tasks are no longer joined to it: restart them"
        self._health.report("task bridge", problem)

    def _look_at_localnet(self) -> None:
        interfaces = (self._plan.links.bridge, *self._plan.docker_bridges)
        self._health.report("localhost", route_localnet_problem(interfaces))
