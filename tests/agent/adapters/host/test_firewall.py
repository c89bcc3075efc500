import os

import pytest

from agent.adapters.host import firewall as module
from agent.adapters.host.firewall import Firewall
from agent.adapters.host.rules import FirewallPlan
from agent.model.errors import CannotStart


def a_program(tmp_path, text):
    program = tmp_path / "nft"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return str(program)


async def test_a_missing_program_is_named_with_its_package():
    with pytest.raises(CannotStart, match="install the package nftables") as caught:
        await Firewall(FirewallPlan(), nft="/nonexistent/nft").ensure()
    assert caught.value.is_final


async def test_what_nft_says_is_passed_on(tmp_path):
    program = a_program(tmp_path, "cat >/dev/null; echo 'Operation not permitted' >&2; exit 1")
    with pytest.raises(CannotStart, match="Operation not permitted"):
        await Firewall(FirewallPlan(), nft=program).ensure()


async def test_a_program_that_hangs_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LIMIT", 0.2)
    pid_file = tmp_path / "pid"
    program = a_program(tmp_path, f"echo $$ > {pid_file}; exec sleep 60")
    with pytest.raises(CannotStart, match="has not ended"):
        await Firewall(FirewallPlan(), nft=program).ensure()
    pid = int(pid_file.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
