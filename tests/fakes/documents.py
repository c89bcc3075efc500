"""Documents in memory, for tests that need a store and no disk."""

import copy

from agent.model.errors import CheckpointFailed
from agent.ports.documents import Document, LoadedDocuments


class MemoryDocuments:
    """``DocumentStore`` that forgets nothing until it is told to.

    ``broken``: names that cannot be read. ``is_full``: nothing can be written. ``failures``: how many of the
    next writes fail.
    """

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.broken: set[str] = set()
        self.set_aside_for: dict[str, str] = {}
        self.is_full = False
        self.failures = 0
        self.saves = 0

    async def load_all(self) -> LoadedDocuments:
        """What was saved."""
        readable = {name: value for name, value in self.documents.items() if name not in self.broken}
        return LoadedDocuments(copy.deepcopy(readable), tuple(sorted(self.broken)))

    async def save(self, name: str, document: Document) -> None:
        """Keep a copy."""
        if self.failures > 0:
            self.failures -= 1
            raise CheckpointFailed(f"cannot write {name}: Input/output error")
        if self.is_full:
            raise CheckpointFailed(f"cannot write {name}: No space left on device")
        self.saves += 1
        self.documents[name] = copy.deepcopy(document)

    async def set_aside(self, name: str, problem: str) -> None:
        """Note it and drop it."""
        self.set_aside_for[name] = problem
        self.documents.pop(name, None)

    async def forget(self, name: str) -> None:
        """Drop it."""
        self.documents.pop(name, None)
