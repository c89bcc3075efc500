"""``berth healthcheck``: should whoever watches this agent start it anew? For Docker, systemd and scripts.

Only what a new start may mend makes an agent unwell: it does not answer, or it says that it is stuck. That
Docker is away or that the control plane cannot be reached is told by ``berth status``; to end the agent for
it would take away the part that waits for it to come back.
"""

import argparse
import http.client
import sys
from typing import Any

from agent.cli.connection import Connection
from agent.cli.failures import FAILED, OK, Failure
from agent.cli.limits import within
from agent.cli.output import print_json

STUCK = "progress"
"""The component of ``/health`` by which the agent says that one of its own loops does not get on."""


def healthcheck(chosen: argparse.Namespace) -> int:
    """Exit code 0 if the agent is well; else 1, whatever is wrong, and one line on stderr that says what."""
    try:
        with within(chosen.timeout):
            problem = _problem(Connection.find(chosen.env_file, timeout=chosen.timeout))
    except TimeoutError:
        problem = f"the agent did not answer within {chosen.timeout} s"
    except Failure as failure:
        problem = str(failure)
    if chosen.json:
        print_json({"healthy": problem is None, "problem": problem})
    if problem is None:
        return OK
    print("berth healthcheck: " + " ".join(problem.split()), file=sys.stderr)
    return FAILED


def _problem(connection: Connection) -> str | None:
    """None: it answers (ecs-protocol 0.3), and does not say that it is stuck."""
    status = connection.head("/v1/metadata")
    if status != http.client.OK:
        return f"{connection.introspection}/v1/metadata answered {status}; expected 200"
    try:
        health = connection.health()
    except Failure as failure:
        if failure.status is None:
            raise
        # It answers, but has no such page, as an older one, or a bug in it: nothing that a new start mends.
        return None
    return _stuck(health)


def _stuck(health: dict[str, Any]) -> str | None:
    reasons = [each for each in health.get("reasons") or () if isinstance(each, dict)]
    stuck = [str(each.get("reason")) for each in reasons if each.get("component") == STUCK]
    return f"the agent is stuck: {'; '.join(stuck)}" if stuck else None
