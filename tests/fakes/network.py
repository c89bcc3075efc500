"""A network in memory: who is attached with which address, and a network that fails or never answers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, get_args

from agent.model.errors import CannotAttachNetwork
from agent.model.ids import ContainerId, MacAddress
from agent.model.spec import NetworkInterface
from agent.model.state import Attachment
from agent.ports.network import KnownSandboxes, SandboxRef

Verb = Literal["attach", "detach", "leftovers", "remove_leftovers"]

_NOBODY = ContainerId("")
"""The subject of calls that are about no sandbox."""


def port_name(container_id: ContainerId) -> str:
    """How the sandbox's port on the bridge is named."""
    return f"veth{container_id[-8:]}"


@dataclass(frozen=True, slots=True)
class Joined:
    """One sandbox that is attached: its ENI, its process at that time, and its address on the task bridge."""

    container_id: ContainerId
    pid: int
    mac_address: MacAddress
    eni_id: str
    local_ipv4: str


class FakeNetwork:
    """Implements ``NetworkProvider``. ``joined`` is the world: it outlives a simulated restart of the agent.

    ``calls``: every (verb, container id), in order, also those that failed.
    ``most_at_once``: the most calls that were ever under way for one sandbox.
    """

    def __init__(self) -> None:
        self.joined: dict[ContainerId, Joined] = {}
        self.calls: list[tuple[Verb, ContainerId]] = []
        self.most_at_once = 0
        self._failures: dict[Verb, list[str]] = {verb: [] for verb in get_args(Verb)}
        self._always: dict[Verb, str | None] = dict.fromkeys(get_args(Verb))
        self._gates: dict[Verb, asyncio.Event | None] = dict.fromkeys(get_args(Verb))
        self._leaves_half = False
        self._under_way: Counter[ContainerId] = Counter()
        self._next = 2

    # -- the port ------------------------------------------------------------------------------

    async def attach(self, sandbox: SandboxRef, wanted: NetworkInterface) -> Attachment:
        """Attach, or find it attached. Raise ``CannotAttachNetwork``."""
        async with self._called("attach", sandbox.container_id):
            return self._attached(sandbox, wanted)

    async def detach(self, sandbox: SandboxRef, wanted: NetworkInterface) -> None:
        """Take away what is there. Raise ``CannotAttachNetwork``."""
        async with self._called("detach", sandbox.container_id):
            found = self.joined.get(sandbox.container_id)
            if found is not None and found.mac_address == wanted.mac_address.lower():
                del self.joined[sandbox.container_id]

    async def leftovers(self, known: KnownSandboxes) -> tuple[str, ...]:
        """The ports of sandboxes that nobody knows. Raise ``CannotAttachNetwork``."""
        async with self._called("leftovers", _NOBODY):
            return tuple(sorted(port_name(each) for each in self._strays(known)))

    async def remove_leftovers(self, known: KnownSandboxes) -> tuple[str, ...]:
        """Remove these. Raise ``CannotAttachNetwork``."""
        async with self._called("remove_leftovers", _NOBODY):
            strays = self._strays(known)
            for each in strays:
                del self.joined[each]
            return tuple(sorted(port_name(each) for each in strays))

    def _strays(self, known: KnownSandboxes) -> frozenset[ContainerId]:
        return frozenset(self.joined) - known() - self._under_way.keys()

    def _attached(self, sandbox: SandboxRef, wanted: NetworkInterface) -> Attachment:
        if sandbox.pid is None:
            raise CannotAttachNetwork(
                "ecs-eni: the pause container is not running, so it has no network namespace"
            )
        found = self.joined.get(sandbox.container_id)
        if found is None or found.mac_address != wanted.mac_address.lower():
            found = Joined(
                container_id=sandbox.container_id,
                pid=sandbox.pid,
                mac_address=MacAddress(wanted.mac_address.lower()),
                eni_id=wanted.eni_id,
                local_ipv4=self._free_address(),
            )
            self.joined[sandbox.container_id] = found
        if self._leaves_half:
            self._leaves_half = False
            raise CannotAttachNetwork("ecs-bridge: the answer was lost")
        return Attachment(local_ipv4=found.local_ipv4)

    # -- the test's side -----------------------------------------------------------------------

    def fail(self, verb: Verb, problem: str = "ecs-eni: fake failure", *, times: int | None = 1) -> None:
        """Let the next calls of the verb fail before they do anything. ``times`` None: until ``heal``."""
        if times is None:
            self._always[verb] = problem
        else:
            self._failures[verb] += [problem] * times

    def lose_answer(self) -> None:
        """Let the next attach have its effect and fail all the same."""
        self._leaves_half = True

    def hang(self, verb: Verb) -> None:
        """Let calls of the verb wait until ``release`` or ``heal``, or until they are cancelled."""
        self._gates[verb] = asyncio.Event()

    def release(self, verb: Verb) -> None:
        """Let the calls go on that ``hang`` holds, and later ones pass."""
        gate, self._gates[verb] = self._gates[verb], None
        if gate is not None:
            gate.set()

    def heal(self) -> None:
        """Forget every failure and let everybody pass."""
        self._leaves_half = False
        for verb in self._failures:
            self._failures[verb].clear()
            self._always[verb] = None
            self.release(verb)

    def namespace_died(self, container_id: ContainerId) -> None:
        """The pause container's process has ended, and its namespace with all links in it."""
        self.joined.pop(container_id, None)

    def is_attached(self, container_id: ContainerId) -> bool:
        """Whether the sandbox has its ENI and its link to the agent."""
        return container_id in self.joined

    @asynccontextmanager
    async def _called(self, verb: Verb, subject: ContainerId) -> AsyncIterator[None]:
        self.calls.append((verb, subject))
        self._under_way[subject] += 1
        self.most_at_once = max(self.most_at_once, self._under_way[subject])
        try:
            await asyncio.sleep(0)
            gate = self._gates[verb]
            if gate is not None:
                await gate.wait()
            if self._failures[verb]:
                raise CannotAttachNetwork(self._failures[verb].pop(0))
            problem = self._always[verb]
            if problem is not None:
                raise CannotAttachNetwork(problem)
            yield
        finally:
            self._under_way[subject] -= 1
            self._under_way += Counter()  # forgets those at zero

    def _free_address(self) -> str:
        number, self._next = self._next, self._next + 1
        return f"169.254.{172 + number // 256}.{number % 256}"
