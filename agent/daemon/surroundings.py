"""The first thing that an agent does: see whether it has what it needs, before anything is touched."""

import structlog

from agent.adapters.host.needs import look, missing
from agent.model.errors import CannotStart
from agent.settings import Settings

log = structlog.get_logger()


def check_surroundings(settings: Settings) -> None:
    """Raise ``CannotStart`` with everything that is missing; only warn of what the agent can do without.

    It is final: privileges and mounts of a process do not change by starting it again.
    """
    found = missing(look(settings))
    needed = [str(each) for each in found if each.is_needed]
    for each in found:
        if not each.is_needed:
            log.warning(
                "surroundings.doubted",
                problem=f"started without {each.what} (for {each.purpose})",
                remedy=each.remedy,
            )
    if needed:
        raise CannotStart("the agent was started without " + "; without ".join(needed), is_final=True)
