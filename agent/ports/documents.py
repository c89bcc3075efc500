"""Small JSON documents of a backend that outlive the agent."""

from dataclasses import dataclass
from typing import Any, Protocol

Document = dict[str, Any]
"""A JSON object."""


@dataclass(frozen=True, slots=True)
class LoadedDocuments:
    """What was found at start, by name. ``set_aside``: names of those that could not be read, kept aside."""

    documents: dict[str, Document]
    set_aside: tuple[str, ...] = ()


class DocumentStore(Protocol):
    """Documents by name: letters, digits, '.', '_' and '-'."""

    async def load_all(self) -> LoadedDocuments:
        """Every readable document; unreadable ones are set aside, never deleted, never fatal.

        Raise ``CheckpointFailed`` if the store cannot be used at all.
        """

    async def save(self, name: str, document: Document) -> None:
        """Return only when it survives a power cut. Raise ``CheckpointFailed`` otherwise."""

    async def set_aside(self, name: str, problem: str) -> None:
        """Keep a document that cannot be used for somebody to look at; it is not loaded again."""

    async def forget(self, name: str) -> None:
        """Delete the document; fine if there is none. Raise ``CheckpointFailed``."""
