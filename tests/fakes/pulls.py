"""Which images were pulled, in memory."""


class MemoryPulls:
    """Implements ``PullRecord``."""

    def __init__(self, *images: str) -> None:
        self.images = set(images)

    async def contains(self, image: str) -> bool:
        """Whether it was added."""
        return image in self.images

    async def add(self, image: str) -> None:
        """Remember it."""
        self.images.add(image)
