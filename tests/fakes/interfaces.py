"""Links of the host's namespace as a test wants them."""

import asyncio
from collections.abc import AsyncIterator

from agent.model.ids import MacAddress


class FakeInterfaces:
    """Implements ``InterfaceWatcher``. Links come with ``appear`` and go with ``disappear``."""

    def __init__(self, *present: str) -> None:
        self._present = {_normal(mac) for mac in present}
        self._listeners: set[asyncio.Queue[MacAddress]] = set()

    # -- the port ------------------------------------------------------------------------------

    def is_present(self, mac_address: MacAddress) -> bool:
        """Whether a link with this MAC address exists now."""
        return _normal(mac_address) in self._present

    async def appearances(self) -> AsyncIterator[MacAddress]:
        """Yield what is there, then every MAC address that appears."""
        inbox: asyncio.Queue[MacAddress] = asyncio.Queue()
        self._listeners.add(inbox)
        try:
            for mac in sorted(self._present):
                yield mac
            while True:
                yield await inbox.get()
        finally:
            self._listeners.discard(inbox)

    # -- the test's side -----------------------------------------------------------------------

    def appear(self, mac: str) -> None:
        """Let a link with this MAC address appear. Also when it is there: repeats are allowed."""
        self._present.add(_normal(mac))
        for inbox in self._listeners:
            inbox.put_nowait(_normal(mac))

    def disappear(self, mac: str) -> None:
        """Remove the link; fine if there is none."""
        self._present.discard(_normal(mac))


def _normal(mac: str) -> MacAddress:
    return MacAddress(mac.lower())
