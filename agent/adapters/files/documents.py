"""Keeps a backend's own documents, one file each, synced: what was acknowledged must not be forgotten."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agent.adapters.files import sums
from agent.adapters.files.folder import FileUnreadable, Folder
from agent.ports.documents import Document, LoadedDocuments


class FileDocuments:
    """``DocumentStore`` in a directory: ``<name>.json`` each; the unreadable goes to ``broken/``.

    Each file has a checksum beside the document's own fields; one that an older agent wrote has none. One
    thread of its own keeps writes of one document in their order.
    """

    def __init__(self, directory: Path, purpose: str) -> None:
        self._folder = Folder(directory, purpose, is_synced=True)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="documents")

    async def aclose(self) -> None:
        """Wait for the writes under way, then end the thread."""
        await asyncio.to_thread(self._thread.shutdown)

    async def load_all(self) -> LoadedDocuments:
        """Every readable document by name. Raise ``CheckpointFailed`` if the directory cannot be used."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._load_all)

    async def save(self, name: str, document: Document) -> None:
        """Return when it is on the disk. Raise ``CheckpointFailed`` naming the path and the cause."""
        total = sums.sum_of(sums.text_of(document))
        content = json.dumps({**document, sums.NAME: total}, ensure_ascii=False, indent=1).encode()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._folder.write, name, content)

    async def set_aside(self, name: str, problem: str) -> None:
        """Move it to ``broken/``. Never fails; the log says where it is."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._folder.set_aside, name, problem)

    async def forget(self, name: str) -> None:
        """Delete the document; fine if there is none. Raise ``CheckpointFailed``."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._folder.delete, name)

    def _load_all(self) -> LoadedDocuments:
        documents: dict[str, Document] = {}
        set_aside: list[str] = []
        for name in self._folder.names():
            try:
                documents[name] = _read(self._folder.read(name))
            except (FileUnreadable, OSError) as error:
                self._folder.set_aside(name, str(error))
                set_aside.append(name)
        return LoadedDocuments(documents, tuple(set_aside))


def _read(content: bytes) -> Document:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FileUnreadable(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise FileUnreadable(f"{type(document).__name__}, expected a JSON object")
    if sums.NAME in document:
        found = document.pop(sums.NAME)
        try:
            sums.check(found, document)
        except sums.SumWrong as error:
            raise FileUnreadable(str(error)) from error
    return document
