"""The simulated VPC in trouble: an interface that never comes, and a subnet without addresses."""

import json
import os
import time

import pytest

from tests.e2e import altered
from tests.e2e.agent_process import eventually
from tests.e2e.conftest import MakeAgent
from tests.e2e.inside import Containers
from tests.e2e.task_definitions import a_definition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

WEB = a_definition("web", {"name": "web"})


def test_an_interface_that_never_appears_is_a_reason_and_not_a_hang(make_agent: MakeAgent) -> None:
    agent = make_agent(
        alteration=altered.WITHOUT_INTERFACES,
        BERTH_INTERFACE_WAIT_LIMIT="3s",
    )
    agent.start()
    (arn,) = agent.run(WEB)

    def waits() -> list[dict[str, str]]:
        found = json.loads(agent.berth("explain", arn, "--json"))["waits"]
        return [each for each in found if each["waits_for"] == "interface_present"]

    wait = eventually("it waits for its interface", waits)[0]
    assert "has not appeared on this machine yet" in wait["cause"]
    task = agent.stopped(arn, seconds=15)
    assert "did not appear on this machine before its attachment expired" in task.reason
    assert task.document["stopCode"] == "TaskFailedToStart"


def test_an_address_of_the_vpc_is_given_again_only_after_its_rest(
    make_agent: MakeAgent, containers: Containers
) -> None:
    agent = make_agent(
        alteration=altered.SHORT_REST,
        BERTH_VPC_CIDR=f"10.{212 + os.getpid() % 30}.0.0/27",
    )
    agent.start()
    tasks, failures = agent.placed(WEB, count=16)
    assert len(tasks) == 10, "a subnet of 16 addresses, without five of Amazon's and the machine's own"
    assert set(failures) == {"RESOURCE:ENI"}
    ran = agent.all_running(tasks, seconds=60)
    agent.stop_tasks([ran[3].arn])
    agent.stopped(ran[3].arn)
    freed = time.monotonic()

    (arn,) = eventually("the address is given again", lambda: agent.placed(WEB)[0], seconds=15, every=0.1)
    assert time.monotonic() - freed > 3.5
    (task,) = agent.all_running([arn])
    assert task.address == ran[3].address
    assert containers.network(ran[0]).page(f"http://{task.address}/").code == 200
