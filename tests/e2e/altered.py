"""The real agent with one thing altered that no setting offers: ``python altered.py ALTERATION agent ...``."""

import sys
from datetime import timedelta
from typing import Any

from agent.adapters.local.operations import launch
from agent.adapters.local.vpc.vpc import SimulatedVpc
from agent.cli.main import main

WITHOUT_INTERFACES = "without-interfaces"
"""The network interface of a task is never made."""

SHORT_REST = "short-rest"
"""An address of the VPC rests for four seconds, so that a test need not wait for thirty."""


def _alter(name: str) -> None:
    if name == WITHOUT_INTERFACES:

        async def never(self: SimulatedVpc, eni: Any) -> None:
            return None

        SimulatedVpc.ensure_interface = never  # type: ignore[method-assign]
    elif name == SHORT_REST:
        launch.ADDRESS_REST = timedelta(seconds=4)
    else:
        raise SystemExit(f"{name}: unknown alteration")


if __name__ == "__main__":
    _alter(sys.argv.pop(1))
    sys.exit(main())
