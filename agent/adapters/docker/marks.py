"""The mark of the OOM killer, which Docker may set a moment after it has told of a container's end.

The end of an essential container is the end of its task, and is told to the backend once. So the end of one
that was killed waits for the mark, but not long: it may have been killed by somebody else.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from agent.model.observation import KILLED, ContainerSnapshot

PATIENCE = timedelta(seconds=1)
"""How long the mark is waited for. On a machine that was short of processors it came up to 0.35 s late."""

_LOOK_PAUSE = 0.05


def may_be_marked_yet(snapshot: ContainerSnapshot) -> bool:
    """Whether it has ended by SIGKILL and nothing says yet that the kernel sent it."""
    return not snapshot.is_running and snapshot.exit_code == KILLED and not snapshot.was_oom_killed


async def marked(
    snapshot: ContainerSnapshot, look: Callable[[], Awaitable[ContainerSnapshot | None]]
) -> ContainerSnapshot:
    """The same container with its mark, if that comes in time. For whom no event tells of it."""
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE.total_seconds()
    while may_be_marked_yet(snapshot) and loop.time() < until:
        await asyncio.sleep(_LOOK_PAUSE)
        snapshot = await look() or snapshot
    return snapshot


class Unmarked:
    """Ends that are held back until the mark comes or the time for it is over, by the container's id."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[float, ContainerSnapshot]] = {}

    def hold(self, identity: str, snapshot: ContainerSnapshot) -> None:
        """Hold it back from now on."""
        due = asyncio.get_running_loop().time() + PATIENCE.total_seconds()
        self._held[identity] = due, snapshot

    def release(self, identity: str) -> ContainerSnapshot | None:
        """What is held of that container; it is held no longer."""
        _, snapshot = self._held.pop(identity, (0.0, None))
        return snapshot

    def release_all(self) -> list[ContainerSnapshot]:
        """Everything that is held."""
        return [snapshot for identity in tuple(self._held) if (snapshot := self.release(identity))]

    def remaining(self) -> timedelta | None:
        """How long until the first of them has waited enough, zero at the least; None: nothing is held."""
        if not self._held:
            return None
        first = min(due for due, _ in self._held.values())
        return timedelta(seconds=max(0.0, first - asyncio.get_running_loop().time()))

    def due(self) -> list[tuple[str, ContainerSnapshot]]:
        """Who has waited enough. They are held until they are released."""
        now = asyncio.get_running_loop().time()
        return [(identity, snapshot) for identity, (due, snapshot) in self._held.items() if due <= now]
