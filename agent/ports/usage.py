"""What reads how much of the machine the containers use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.model.ids import ContainerId
from agent.model.usage import Usage


@dataclass(frozen=True, slots=True)
class UsageSubject:
    """A container to look at, by its id and by the process id of its first process on this machine.

    ``link``: the network link inside it whose counters are wanted too. Containers that share a network
    namespace share its counters, so ask for a task's link at one of them, its pause container.
    """

    container_id: ContainerId
    pid: int
    link: str | None = None


class UsageProbe(Protocol):
    """Reads counters. Cheap enough to be asked every few seconds for all containers of the machine."""

    async def read(self, subjects: Sequence[UsageSubject]) -> tuple[Usage | None, ...]:
        """What each has used, in the same order. None: it is gone, or the process is no longer its own.

        Raise ``PortUnavailable`` while an earlier look has not come to its end.
        """
