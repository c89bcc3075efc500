"""The image of pause containers: loaded from a file that comes with the agent, never pulled."""

import asyncio

import structlog
from docker import APIClient
from docker.errors import ImageNotFound

from agent.adapters.docker.connection import Connection, Lane
from agent.adapters.docker.settings import DockerSettings
from agent.model.errors import CannotCreateContainer

log = structlog.get_logger()


class PauseLoader:
    """Makes the pause image present. Many may ask at once; one loads."""

    def __init__(self, connection: Connection, settings: DockerSettings) -> None:
        self._connection = connection
        self._image = settings.pause
        self._limits = settings.limits
        self._lock = asyncio.Lock()

    async def ensure_loaded(self) -> None:
        """Load it unless it is present.

        Raise ``CannotCreateContainer`` if the archive is missing or holds another image.
        """
        async with self._lock:
            if await self._is_present():
                return
            await self._connection.call(
                Lane.CHANGE,
                self._load,
                limit=self._limits.load,
                transition="loading image",
                refusal=CannotCreateContainer,
            )
            if not await self._is_present():
                raise CannotCreateContainer(
                    f"pause archive {self._image.archive} does not hold image {self._image.image_id}; "
                    "build it again and give the agent the description that comes with it"
                )
            log.info("pause_image.loaded", image_id=self._image.image_id, archive=str(self._image.archive))

    async def _is_present(self) -> bool:
        return await self._connection.call(
            Lane.LOOK, self._look, limit=self._limits.inspect, transition="inspecting"
        )

    def _look(self, client: APIClient) -> bool:
        try:
            client.inspect_image(self._image.image_id)  # type: ignore[no-untyped-call]
        except ImageNotFound:
            return False
        return True

    def _load(self, client: APIClient) -> None:
        try:
            content = self._image.archive.read_bytes()
        except OSError as error:
            raise CannotCreateContainer(
                f"pause archive {self._image.archive} cannot be read: {error.strerror}; "
                f"it should hold image {self._image.name}"
            ) from error
        for _ in client.load_image(content):  # type: ignore[no-untyped-call]
            pass  # the answer has to be read to its end for the load to be complete
