"""The backend on a real simulated VPC, in a network namespace of its own."""

import asyncio
import ctypes
import os
import subprocess
import threading
import uuid

import pytest

from agent.adapters.clock import SystemClock
from agent.adapters.local.vpc.plan import InterfacePlan
from agent.adapters.local.vpc.vpc import SimulatedVpc
from agent.model.status import TaskStatus
from tests.agent.adapters.local.stage import PLAN, SUBNET, running

pytestmark = pytest.mark.integration

_NEW_NETWORK = 0x40000000


@pytest.fixture
def machine():
    """A descriptor of a new network namespace; it ends with the descriptor."""
    found: list[int] = []

    def enter() -> None:
        assert ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK) == 0
        found.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    yield found[0]
    os.close(found[0])


@pytest.fixture
async def vpc(machine):
    made = SimulatedVpc(PLAN, namespace=f"berth-t-{uuid.uuid4().hex[:8]}", host_namespace_fd=machine)
    yield made
    await made.destroy()
    await made.aclose()


def links(machine: int) -> str:
    command = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{machine}", "ip", "-o", "link"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout


async def test_a_tasks_interface_appears_on_the_machine_and_goes_with_the_task(tmp_path, machine, vpc):
    async with running(tmp_path, SystemClock(), vpc=vpc) as stage:
        await stage.register()
        tasks = (await stage.run(count=3))["tasks"]
        for task in tasks:
            await stage.eventually(task["taskArn"], "PENDING")
            mac = (await stage.wanted(task["taskArn"])).spec.network.mac_address
            assert mac in await asyncio.to_thread(links, machine)
            await stage.report(task["taskArn"], TaskStatus.STOPPED, exit_code=0)
            await stage.eventually(task["taskArn"], "STOPPED")
            assert mac not in await asyncio.to_thread(links, machine)


async def test_interfaces_outlive_the_agent_and_strangers_are_removed(tmp_path, machine, vpc):
    async with running(tmp_path, SystemClock(), vpc=vpc) as stage:
        await stage.register()
        kept, lost = (await stage.run(count=2))["tasks"]
        for task in (kept, lost):
            await stage.eventually(task["taskArn"], "PENDING")
        addresses = {
            task["taskArn"]: (await stage.wanted(task["taskArn"])).spec.network for task in (kept, lost)
        }
        task_id = lost["taskArn"].rsplit("/", 1)[1]
        await stage.backend._store.transact(
            lambda ledger: ledger._db.execute("DELETE FROM tasks WHERE id = ?", (task_id,)).rowcount
        )
    async with running(tmp_path, SystemClock(), vpc=vpc):
        seen = await asyncio.to_thread(links, machine)
        assert addresses[kept["taskArn"]].mac_address in seen
        assert addresses[lost["taskArn"]].mac_address not in seen


async def test_neither_the_machine_nor_another_host_of_the_vpc_is_an_orphan(tmp_path, machine, vpc):
    async with running(tmp_path, SystemClock(), vpc=vpc) as stage:
        host = InterfacePlan("eni-0000000000000beef", SUBNET, "0e:00:00:00:be:ef", "10.211.0.77")
        await vpc.ensure_host("demo", host)
        stranger = InterfacePlan("eni-0000000000000dead", SUBNET, "0e:00:00:00:de:ad", "10.211.0.78")
        await vpc.ensure_interface(stranger)
        assert await stage.backend.orphans() == (stranger.eni_id,)
    async with running(tmp_path, SystemClock(), vpc=vpc) as stage:
        assert await stage.backend.orphans() == ()
        assert stranger.mac_address not in await asyncio.to_thread(links, machine)
        assert "berth0" in await asyncio.to_thread(links, machine)
        assert await vpc.verify() == ()
        alive = ["ip", "netns", "exec", f"{vpc.namespace}-demo", "ip", "-o", "-4", "addr"]
        shown = await asyncio.to_thread(subprocess.run, alive, capture_output=True, text=True, check=True)
        assert "10.211.0.77/" in shown.stdout
