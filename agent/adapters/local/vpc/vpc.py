"""The simulated VPC as the local backend uses it: asynchronous verbs, each safe to repeat."""

import os

import structlog

from agent.adapters.local.vpc import hosts, instance, layout
from agent.adapters.local.vpc.namespaces import NamespaceThread
from agent.adapters.local.vpc.netlink import Rtnetlink
from agent.adapters.local.vpc.plan import InterfacePlan, VpcPlan, checked, checked_interface
from agent.adapters.local.vpc.router import Router

log = structlog.get_logger()

DEFAULT_NAMESPACE = "berth-vpc"
_ENI = "eni"


class SimulatedVpc:
    """A router namespace and the interfaces on it. Several may exist on a machine under different names.

    ``plan`` is checked at once (BadVpcPlan). ``namespace`` names the router under /run/netns.
    ``host_namespace_fd`` is where interfaces appear; it stays the caller's. None: the agent's own namespace.

    All state is in the kernel: after a restart of the agent, ``ensure`` adopts what is there. Call ``aclose``
    at the end; it leaves everything running. ``destroy`` removes everything.
    """

    def __init__(
        self,
        plan: VpcPlan,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        host_namespace_fd: int | None = None,
    ) -> None:
        self.plan = checked(plan)
        self.namespace = namespace
        self._thread = NamespaceThread()
        self._router = Router(plan, namespace, self._thread)
        self._host = os.dup(host_namespace_fd) if host_namespace_fd is not None else None
        self._machine: Rtnetlink | None = None

    async def ensure(self) -> None:
        """The router is there, routes and filters as planned; made now or adopted and repaired.

        Raises NameTaken when the namespace is someone else's, KernelRefused when the kernel or nft refuses.
        """
        created = await self._thread.run(self._router.ensure)
        if created:
            log.info(
                "vpc.created", vpc_id=self.plan.vpc_id, namespace=self.namespace, cidr=self.plan.ipv4_cidr
            )
        else:
            interfaces = len(await self.interfaces())
            log.info("vpc.adopted", vpc_id=self.plan.vpc_id, namespace=self.namespace, interfaces=interfaces)

    async def ensure_interface(self, eni: InterfacePlan) -> None:
        """The interface exists: a link with its MAC, down and without address, that appears on the machine.

        If it is inside a task already it is left there. Raises BadVpcPlan, KernelRefused, and
        InterfaceConflict when its id or address belongs to another.
        """
        if await self._thread.run(self._ensure_interface, checked_interface(self.plan, eni)):
            log.info(
                "interface.created",
                eni_id=eni.eni_id,
                mac_address=eni.mac_address,
                ipv4_address=eni.ipv4_address,
            )

    async def remove_interface(self, eni_id: str) -> None:
        """The interface is gone, wherever it was. Fine when it vanished with its task's namespace."""
        if await self._thread.run(self._remove_interface, eni_id):
            log.info("interface.removed", eni_id=eni_id)

    async def interfaces(self) -> frozenset[str]:
        """The ids of all interfaces that the router has a link to, without those of machine and hosts."""
        return await self._thread.run(self._interfaces)

    async def ensure_instance_interface(self, eni: InterfacePlan) -> None:
        """The machine is a host of the VPC: link ``berth0`` with that address, a route for the VPC's range.

        Raises CidrInUse, naming the route and the setting to change, before anything is touched; NameTaken.
        """
        await self._thread.run(self._ensure_instance_interface, checked_interface(self.plan, eni))

    async def ensure_host(self, name: str, eni: InterfacePlan) -> str:
        """Another host of the VPC; returns the name of its namespace under /run/netns."""
        checked_interface(self.plan, eni)
        subnet = self.plan.subnet(eni.subnet_id)
        await self._thread.run(
            hosts.ensure_host, self._router, self._thread, hosts.HostPlan(self.namespace, name, eni, subnet)
        )
        return layout.host_namespace(self.namespace, name)

    async def remove_host(self, name: str) -> None:
        """The host and its interface are gone. Fine when they were."""
        await self._thread.run(hosts.remove_host, self._router, self._thread, self.namespace, name)

    async def verify(self) -> tuple[str, ...]:
        """What is not as it should be, one sentence each; empty when all is well. Changes nothing."""
        return await self._thread.run(self._verify)

    async def destroy(self) -> None:
        """Everything is gone: hosts, interfaces (also inside tasks), the machine's link and route, router.

        Raises NameTaken when the namespace is not a router of ours.
        """
        await self._thread.run(self._destroy)
        log.info("vpc.destroyed", vpc_id=self.plan.vpc_id, namespace=self.namespace)

    async def aclose(self) -> None:
        """Let go of all descriptors and of the thread. The VPC stays as it is."""
        await self._thread.run(self._release)
        await self._thread.close()

    # everything below runs on the namespace thread

    def _ensure_interface(self, eni: InterfacePlan) -> bool:
        return self._router.attach(
            layout.mark(_ENI, eni),
            group=layout.subnet_group(eni.subnet_id),
            mtu=eni.mtu,
            peer=layout.machine_link(eni.eni_id),
            peer_namespace=self._machine_namespace(),
        )

    def _remove_interface(self, eni_id: str) -> bool:
        return self._router.opened() and self._router.detach(eni_id)

    def _interfaces(self) -> frozenset[str]:
        if not self._router.opened():
            return frozenset()
        return frozenset(mark.eni_id for _, mark in self._router.links() if mark.role == _ENI)

    def _ensure_instance_interface(self, eni: InterfacePlan) -> None:
        if self._machine is None:
            with self._thread.inside(self._machine_namespace()):
                self._machine = Rtnetlink()
        instance.ensure_instance_interface(
            self._router, self._machine, self._machine_namespace(), self.plan, eni
        )

    def _verify(self) -> tuple[str, ...]:
        if not self._router.opened():
            return (f"namespace {self.namespace}: the VPC's router is missing",)
        return tuple(self._router.problems())

    def _destroy(self) -> None:
        hosts.remove_all_hosts(self._router, self._thread, self.namespace)
        self._router.destroy()

    def _release(self) -> None:
        self._router.close()
        if self._machine is not None:
            self._machine.close()
            self._machine = None
        if self._host is not None:
            os.close(self._host)
            self._host = None

    def _machine_namespace(self) -> int:
        return self._host if self._host is not None else self._thread.home()
