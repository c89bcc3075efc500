"""Docker is missing, hangs, dies: the agent stays, says so, tells no lies about its tasks, and goes on afterwards."""

import time

import pytest

from tests.e2e.agent_process import BIN, Task, eventually
from tests.e2e.conftest import MakeAgent
from tests.e2e.docker_between import DockerBetween
from tests.e2e.inside import Containers, credentials_url
from tests.e2e.surroundings import processes_below
from tests.e2e.task_definitions import a_definition, a_job

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ROLE = "arn:aws:iam::111122223333:role/reader"
TRAPPED = a_job("app", "trap 'exit 5' TERM; while :; do sleep 0.1; done")


def test_without_docker_the_agent_stays_says_so_and_runs_its_tasks_when_docker_appears(
    make_agent: MakeAgent, door: DockerBetween
) -> None:
    agent = make_agent(DOCKER_HOST=door.host)
    assert agent.start() < 10

    eventually("the missing Docker is told", lambda: "runtime" in agent.impaired(), seconds=10)
    assert agent.get("/health")[0] == 503
    status = agent.command(str(BIN / "berth"), "status")
    assert status.returncode == 1
    assert "docker.sock" in status.stdout
    (arn,) = agent.run(a_definition("early", {"name": "app"}))
    assert agent.task(arn).status in ("PROVISIONING", "PENDING")
    door.open()
    agent.all_running([arn], seconds=20)
    assert "runtime" not in agent.impaired()
    agent.stop_tasks([arn])
    agent.stopped(arn)


def test_a_docker_that_hangs_delays_neither_credentials_nor_answers_and_stops_no_task(
    make_agent: MakeAgent, door: DockerBetween, containers: Containers
) -> None:
    door.open()
    agent = make_agent(DOCKER_HOST=door.host, ECS_CONTAINER_STOP_TIMEOUT="2s")
    agent.start()
    task = agent.started(a_definition("calm", TRAPPED, taskRoleArn=ROLE))
    identities = containers.identities([task.arn])
    door.hang()

    slowest = _slowest_credentials(containers, task, 20)
    assert slowest < 1.0, slowest
    agent.stop_tasks([task.arn], reason="in the middle of it")
    eventually("the hang is told", lambda: "runtime" in agent.impaired(), seconds=45, every=0.2)

    asked = time.monotonic()
    assert task.id in agent.berth("ps", "--all")
    assert agent.get("/v1/tasks")[0] == 200
    assert time.monotonic() - asked < 5
    # the agent sees in the control group, without Docker, whether the task has ended
    groups = containers.groups_of(task.id)
    assert agent.task(task.arn).status != "STOPPED" or not processes_below(groups)

    door.flow()
    stopped = agent.stopped(task.arn, seconds=40)
    assert stopped.reason == "in the middle of it"
    # whatever ended it was the agent; the exit code is known to Docker only, which said nothing
    assert stopped.container("app").get("exitCode") in (None, 137)
    eventually("the agent is well again", lambda: not agent.impaired(), seconds=40)
    assert not [each for each in containers.of(task.arn) if each["State"]["Running"]]
    assert len(identities) == 2


def test_what_happened_while_docker_was_dead_is_told_when_it_is_back(
    make_agent: MakeAgent, door: DockerBetween, containers: Containers
) -> None:
    door.open()
    agent = make_agent(DOCKER_HOST=door.host)
    agent.start()
    stays, ends = agent.all_running(
        [*agent.run(a_definition("stays", TRAPPED)), *agent.run(a_definition("ends", TRAPPED))]
    )
    identities = containers.identities([stays.arn])
    door.close()

    eventually("the death is told", lambda: "runtime" in agent.impaired(), seconds=45, every=0.1)
    containers.kill(ends.runtime_id())
    assert {task.status for task in agent.described([stays.arn, ends.arn])} == {"RUNNING"}
    (waiting,) = agent.run(a_definition("waits", {"name": "app"}))
    time.sleep(1)
    assert agent.task(waiting).status in ("PROVISIONING", "PENDING")
    door.open()
    assert agent.stopped(ends.arn, seconds=40).container("app")["exitCode"] == 137
    agent.all_running([waiting, stays.arn], seconds=40)
    assert containers.identities([stays.arn]) == identities
    eventually("the agent is well again", lambda: not agent.impaired(), seconds=40)


def _slowest_credentials(containers: Containers, task: Task, times: int) -> float:
    url, network = credentials_url(containers, task), containers.network(task)
    slowest = 0.0
    for _ in range(times):
        began = time.monotonic()
        assert network.fetch(url).code == 200
        slowest = max(slowest, time.monotonic() - began)
    return slowest
