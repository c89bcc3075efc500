"""The images that come with the agent, of pause containers and the keeper: loaded from files, never pulled.

Docker's own store names an image by its configuration, which is the id that is known beforehand. The
containerd store (the default of newer Docker) names it by its manifest, which only the daemon knows; there
the image is found by its name and recognised by its layers.
"""

import asyncio
import io
import json
import tarfile
from typing import Any

import structlog
from docker import APIClient

from agent.adapters.docker.calls import inspect_image
from agent.adapters.docker.connection import Connection, Lane
from agent.adapters.docker.settings import CallLimits, PauseImage
from agent.model.errors import CannotCreateContainer

log = structlog.get_logger()


class ImageLoader:
    """Makes such an image present. Many may ask at once; one loads. ``image_id``: what Docker calls it."""

    def __init__(self, connection: Connection, image: PauseImage, limits: CallLimits) -> None:
        self._connection = connection
        self._image = image
        self._limits = limits
        self._lock = asyncio.Lock()
        self.image_id = image.image_id

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
                    f"archive {self._image.archive} does not hold image {self._image.image_id}; "
                    "build it again and give the agent the description that comes with it"
                )
            log.info(
                "image.loaded",
                image=self._image.name,
                image_id=self.image_id,
                archive=str(self._image.archive),
            )

    async def _is_present(self) -> bool:
        found = await self._connection.call(
            Lane.LOOK, self._look, limit=self._limits.inspect, transition="inspecting"
        )
        self.image_id = found or self._image.image_id
        return found is not None

    def _look(self, client: APIClient) -> str | None:
        if inspect_image(client, self._image.image_id) is not None:
            return self._image.image_id
        named = inspect_image(client, self._image.name)
        if named is None:
            return None
        layers = (named.get("RootFS") or {}).get("Layers")
        return str(named["Id"]) if layers == _layers_in(self._content()) else None

    def _load(self, client: APIClient) -> None:
        for _ in client.load_image(self._content()):  # type: ignore[no-untyped-call]
            pass  # the answer has to be read to its end for the load to be complete

    def _content(self) -> bytes:
        try:
            return self._image.archive.read_bytes()
        except OSError as error:
            raise CannotCreateContainer(
                f"archive {self._image.archive} cannot be read: {error.strerror}; "
                f"it should hold image {self._image.name}"
            ) from error


def _layers_in(archive: bytes) -> list[str]:
    """The layers of the one image in a ``docker save`` archive; empty if it is no such archive."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            [entry] = _document(tar, "manifest.json")
            layers = _document(tar, entry["Config"])["rootfs"]["diff_ids"]
    except (tarfile.TarError, KeyError, TypeError, ValueError):
        return []
    return [str(each) for each in layers]


def _document(tar: tarfile.TarFile, name: str) -> Any:
    member = tar.extractfile(name)
    return json.loads(member.read() if member is not None else b"null")
