"""The real agent with one thing altered that no setting offers: ``python altered.py ALTERATION agent ...``."""

import asyncio
import sys
from datetime import timedelta
from typing import Any

from agent.adapters.local.operations import launch
from agent.adapters.local.vpc.vpc import SimulatedVpc
from agent.cli.main import main
from agent.model.state import TaskState
from agent.supervisor.task import TaskSupervisor

WITHOUT_INTERFACES = "without-interfaces"
"""The network interface of a task is never made."""

SHORT_REST = "short-rest"
"""An address of the VPC rests for four seconds, so that a test need not wait for thirty."""

STUCK_TASK = "stuck-task"
"""The loop of a task whose family ends with ``stuck`` waits for ever after its first decision."""

STUCK_FAMILY = "stuck"


def _alter(name: str) -> None:
    if name == WITHOUT_INTERFACES:

        async def never(self: SimulatedVpc, eni: Any) -> None:
            return None

        SimulatedVpc.ensure_interface = never  # type: ignore[method-assign]
    elif name == SHORT_REST:
        launch.ADDRESS_REST = timedelta(seconds=4)
    elif name == STUCK_TASK:
        become = TaskSupervisor._become

        async def stuck(self: TaskSupervisor, after: TaskState) -> None:
            await become(self, after)
            if after.spec.family.endswith(STUCK_FAMILY):
                await asyncio.Event().wait()

        TaskSupervisor._become = stuck  # type: ignore[method-assign]
    else:
        raise SystemExit(f"{name}: unknown alteration")


if __name__ == "__main__":
    _alter(sys.argv.pop(1))
    sys.exit(main())
