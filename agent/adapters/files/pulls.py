"""Remembers in one small file which images were pulled, for ``ECS_IMAGE_PULL_BEHAVIOR=once``."""

import asyncio
import json
from pathlib import Path

import structlog

from agent.model.errors import CheckpointFailed

log = structlog.get_logger()


class FilePulls:
    """``PullRecord`` in ``<datadir>/pulled-images.json``: a sorted list of image references.

    A file that cannot be read counts as empty: the worst that follows is one pull more.
    """

    def __init__(self, datadir: Path) -> None:
        self._path = datadir / "pulled-images.json"
        self._known: set[str] | None = None
        self._lock = asyncio.Lock()

    async def contains(self, image: str) -> bool:
        """Whether a pull of this reference has ever succeeded."""
        async with self._lock:
            return image in await self._loaded()

    async def add(self, image: str) -> None:
        """Remember it. Raise ``CheckpointFailed`` if it cannot be written."""
        async with self._lock:
            known = await self._loaded()
            if image not in known:
                known.add(image)
                await asyncio.to_thread(self._write, sorted(known))

    async def _loaded(self) -> set[str]:
        if self._known is None:
            self._known = await asyncio.to_thread(self._read)
        return self._known

    def _read(self) -> set[str]:
        try:
            images = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return set()
        except (OSError, ValueError) as error:
            log.warning("pulls.unreadable", path=str(self._path), reason=str(error))
            return set()
        if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
            log.warning("pulls.unreadable", path=str(self._path), reason="expected a list of image names")
            return set()
        return set(images)

    def _write(self, images: list[str]) -> None:
        aside = self._path.with_suffix(".json.new")
        try:
            aside.write_text(json.dumps(images, indent=1))
            aside.replace(self._path)
        except OSError as error:
            raise CheckpointFailed(f"cannot write {self._path}: {error.strerror}") from error
