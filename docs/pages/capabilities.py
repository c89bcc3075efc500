"""``docs/capabilities.md``: every attribute that a container instance may have, and when it is said."""

from agent.adapters.ecs.wire.capabilities import RULES
from docs.pages.table import code, table

_INTRODUCTION = """\
# Capabilities

*Generated from `agent/adapters/ecs/wire/capabilities.py`.*

A container instance tells Amazon ECS what it can do as attributes, and tasks are placed by them. berth says
only what it has built, so that a task which needs more is placed on another machine instead of failing on
this one. The whole list is sent at every start of the agent ([joining a cluster](ecs.md)).

## Said

"""

_NEVER = """
## Never said

"""


def page() -> str:
    """The whole text."""
    said = [(code(rule.name), rule.why) for rule in RULES if rule.when is not None]
    never = [(code(rule.name), rule.why) for rule in RULES if rule.when is None]
    return "".join(
        (
            _INTRODUCTION,
            table(("attribute", "when"), said),
            "\n",
            _NEVER,
            table(("attribute", "why not"), never),
            "\n",
        )
    )
