"""What joins a sandbox to the network."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from agent.model.ids import ContainerId, MacAddress
from agent.model.spec import NetworkInterface
from agent.model.state import Attachment

KnownSandboxes = Callable[[], frozenset[ContainerId]]
"""The pause containers of all tasks as they are when it is called, so that it can be asked after a look."""


@dataclass(frozen=True, slots=True)
class SandboxRef:
    """Which sandbox: its pause container and, while that runs, its process id on this machine."""

    container_id: ContainerId
    pid: int | None


class NetworkProvider(Protocol):
    """All verbs are idempotent and raise ``CannotAttachNetwork``."""

    async def attach(self, sandbox: SandboxRef, wanted: NetworkInterface) -> Attachment:
        """Give the sandbox its ENI and the link to the agent. Undo what was done if a part fails."""

    async def detach(self, sandbox: SandboxRef, wanted: NetworkInterface) -> None:
        """Take them away. Succeeds when there is nothing left to detach."""

    async def leftovers(self, known: KnownSandboxes) -> tuple[str, ...]:
        """Names of what is left of sandboxes that are not known and are not being attached, sorted."""

    async def remove_leftovers(self, known: KnownSandboxes) -> tuple[str, ...]:
        """Remove it, and what cannot be listed; the names of what was removed, sorted."""


class InterfaceWatcher(Protocol):
    """Which links exist in the host's network namespace."""

    def is_present(self, mac_address: MacAddress) -> bool:
        """Whether a link with this MAC address exists there now."""

    def appearances(self) -> AsyncIterator[MacAddress]:
        """Yield a MAC address whenever a link with it appears; never ends. Repeats are fine."""
