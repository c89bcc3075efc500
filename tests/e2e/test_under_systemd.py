"""The native unit under the real systemd, in a machine of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.agent_process import IS_IN_CONTAINER, TREE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SYSTEMD = Path("/lib/systemd/systemd")


@pytest.mark.skipif(IS_IN_CONTAINER, reason="the unit runs the agent as a program")
def test_systemd_starts_watches_restarts_and_stops_the_agent_as_the_unit_says() -> None:
    if not SYSTEMD.exists() or shutil.which("nsenter") is None:
        pytest.skip("systemd is not installed (Debian: systemd)")
    assert os.geteuid() == 0, "end-to-end tests need root: make test"
    command = [sys.executable, "-m", "tests.machine", "--", sys.executable, "-m", "tests.e2e.systemd_machine"]
    with subprocess.Popen(
        command, cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as machine:
        try:
            said, _ = machine.communicate(timeout=220)
        finally:
            machine.terminate()
    assert machine.returncode == 0, said
    assert said.splitlines() == [
        "started 0",
        "state active running",
        "status 0 of 0 tasks running",
        "restarts 0 active",
        "after-hang 1 True",
        "after-kill 2",
        "kept True",
        "stopped 0 inactive success",
        "kept True",
        "final failed 5",
    ]
