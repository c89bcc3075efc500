"""Where the agent's parts say that something is wrong, and that it is right again."""

from typing import Protocol


class HealthReports(Protocol):
    """Cheap, never waits, may be called as often as one likes."""

    def report(self, component: str, problem: str | None) -> None:
        """Say what is wrong with the component, as a sentence for an operator. None: nothing is wrong."""
