"""Tells those who wait that something has changed, and loses no change while they look."""

import asyncio


class Change:
    """Take ``next`` before you look; await it afterwards: a change in between has set it already."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def next(self) -> asyncio.Event:
        """Set at the next change. Take another one after that."""
        return self._event

    def notify(self) -> None:
        """Something has changed."""
        changed, self._event = self._event, asyncio.Event()
        changed.set()
