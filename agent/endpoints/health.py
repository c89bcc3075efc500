"""What is wrong with this agent, since when: the board behind ``/health``."""

from dataclasses import dataclass
from datetime import datetime

import structlog

from agent.ports.clock import Clock

log = structlog.get_logger()

OK = "OK"
IMPAIRED = "IMPAIRED"


@dataclass(frozen=True, slots=True)
class ComponentHealth:
    """One component. ``since``: when it got into this status; ``reason`` is empty while it is OK."""

    component: str
    status: str
    since: datetime
    reason: str = ""


class HealthBoard:
    """Collects what the parts report (``HealthReports``). A component appears when it first reports."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._components: dict[str, ComponentHealth] = {}

    def report(self, component: str, problem: str | None) -> None:
        """Note a problem, or with None that there is none (any more)."""
        if problem is None:
            self.clear(component)
        else:
            self.set(component, problem)

    def set(self, component: str, problem: str) -> None:
        """Note what is wrong. ``since`` stays when the component was impaired already."""
        if not problem:
            raise ValueError(
                f"problem of {component!r} is empty; expected a sentence, or None for no problem"
            )
        before = self._components.get(component)
        was_impaired = before is not None and before.status == IMPAIRED
        since = before.since if before is not None and was_impaired else self._clock.now()
        self._components[component] = ComponentHealth(component, IMPAIRED, since, problem)
        if not was_impaired:
            log.error("health.impaired", component=component, reason=problem)

    def clear(self, component: str) -> None:
        """Note that nothing is wrong with the component."""
        before = self._components.get(component)
        if before is not None and before.status == OK:
            return
        self._components[component] = ComponentHealth(component, OK, self._clock.now())
        if before is not None:
            log.info("health.restored", component=component, was=before.reason)

    def snapshot(self) -> tuple[ComponentHealth, ...]:
        """Every component that has ever reported, by name."""
        return tuple(self._components[name] for name in sorted(self._components))

    @property
    def is_impaired(self) -> bool:
        """Whether anything is wrong."""
        return any(component.status == IMPAIRED for component in self._components.values())
