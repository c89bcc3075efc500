"""Why something is not where it should be, as data."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Explanation:
    """One wait of one sandbox or container.

    ``subject``: ``sandbox`` or the container's name. ``status`` and ``goal``: where it is and must go.
    ``waits_for``: the step in flight, the gate, or ``retry``. ``cause``: a sentence. ``until``: the deadline,
    and ``then``: what happens at it. ``until`` None: there is none, and ``then`` says what ends the wait.
    """

    subject: str
    status: str
    goal: str
    waits_for: str
    cause: str
    since: datetime
    until: datetime | None
    then: str
