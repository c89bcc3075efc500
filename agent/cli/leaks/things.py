"""What may be left of a task, and who says that it is left."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.model.ids import ContainerId, TaskId


class Unseen(Exception):
    """This kind cannot be looked for now; the text says why."""


class NotRemoved(Exception):
    """A thing could not be removed; the text says why."""


@dataclass(frozen=True, slots=True)
class Known:
    """What belongs to somebody.

    ``interfaces`` None: nobody can say which there should be. ``has_agent``: an agent runs, and has said
    this; otherwise it stands in the agent's records. ``cluster``: the agent's own, empty if it is not known.
    """

    tasks: frozenset[TaskId]
    sandboxes: frozenset[ContainerId]
    interfaces: frozenset[str] | None
    has_agent: bool
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that is left. ``remove`` looks at it once more and raises ``NotRemoved``.

    ``task``, ``sandbox``, ``interface``: whose it would be; None where that means nothing.
    """

    name: str
    remove: Callable[[], None]
    task: TaskId | None = None
    sandbox: ContainerId | None = None
    interface: str | None = None
    note: str = ""

    def is_of(self, known: Known) -> bool:
        """Whether somebody needs it after all."""
        return (
            (self.task is not None and self.task in known.tasks)
            or (self.sandbox is not None and self.sandbox in known.sandboxes)
            or (self.interface is not None and self.interface in (known.interfaces or ()))
        )


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of things. ``name`` is stable. ``look`` raises ``Unseen`` or ``OSError``.

    It looks first and asks ``known`` afterwards, so that what comes meanwhile is no stranger.
    """

    name: str
    look: "Callable[[Callable[[], Known]], tuple[Thing, ...]]"


@dataclass(slots=True)
class Ledger:
    """What a look has found: things by kind, and why other kinds could not be looked for."""

    found: dict[str, dict[str, Thing]] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)

    def names(self) -> Mapping[str, list[str]]:
        """Names by kind, sorted."""
        return {kind: sorted(things) for kind, things in self.found.items()}

    def both(self, later: "Ledger") -> "Ledger":
        """What this look and a later one have seen: anything else was only passing by."""
        found = {
            kind: {name: thing for name, thing in things.items() if name in self.found.get(kind, {})}
            for kind, things in later.found.items()
        }
        return Ledger(found, {**self.unseen, **later.unseen})
