"""Which images this agent has pulled, remembered across restarts."""

from typing import Protocol


class PullRecord(Protocol):
    """A set of image references, as they were written in task definitions."""

    async def contains(self, image: str) -> bool:
        """Whether a pull of this reference has ever succeeded."""

    async def add(self, image: str) -> None:
        """Remember it. Raise ``CheckpointFailed`` if it cannot be written."""
