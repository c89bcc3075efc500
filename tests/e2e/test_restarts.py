"""The agent dies and comes back: its tasks notice nothing, and what was under way is finished once."""

import random
import time

import pytest

from tests.e2e.agent_process import Agent, Untrue
from tests.e2e.inside import Containers
from tests.e2e.streams import ECHO, Stream, connected
from tests.e2e.task_definitions import a_definition, a_job

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_tasks_and_their_connections_do_not_notice_that_the_agent_is_killed_five_times(
    agent: Agent, containers: Containers
) -> None:
    tasks = agent.started_copies(ECHO, 5)
    arns = [task.arn for task in tasks]
    identities = containers.identities(arns)
    started = [task.document["startedAt"] for task in tasks]
    streams = [Stream(task.address) for task in tasks]
    try:
        for stream in streams:
            stream.start()
        for _ in range(5):
            time.sleep(random.uniform(0, 0.7))
            agent.kill()
            agent.start()
        agent.all_running(arns)
        echoes = [stream.echoes for stream in streams]
        time.sleep(0.5)
        assert all(stream.echoes > before for stream, before in zip(streams, echoes, strict=True))
    finally:
        for stream in streams:
            stream.stop()

    assert [stream.problem for stream in streams] == [""] * 5
    assert containers.identities(arns) == identities
    assert [task.document["startedAt"] for task in agent.described(arns)] == started


@pytest.mark.parametrize(
    "rung", ["accepted", "ABSENT", "PAUSED", "CONNECTED", "PULLED", "CREATED", "app RUNNING"]
)
def test_a_launch_that_is_cut_off_is_finished_once(agent: Agent, containers: Containers, rung: str) -> None:
    needs = [{"containerName": "first", "condition": "START"}]
    document = a_definition(
        "cut", {"name": "first"}, {"name": "app", "image": "berth/demo-api", "dependsOn": needs}
    )
    (arn,) = agent.run(document)
    if rung != "accepted":
        _wait_for_rung(agent, arn, rung)
    agent.kill()
    agent.start()
    (task,) = agent.all_running([arn])

    found = containers.of(arn)
    assert len(found) == 3, [each["Name"] for each in found]
    assert containers.pause_of(arn)["State"]["Running"]
    assert containers.network(task).page(f"http://{task.address}/").code == 200


@pytest.mark.parametrize("when", ["asked", "stopping", "network gone"])
def test_a_stop_that_is_cut_off_is_finished(agent: Agent, containers: Containers, when: str) -> None:
    slow = a_job("app", "trap 'sleep 0.5; exit 5' TERM; while :; do sleep 0.1; done")
    task = agent.started(a_definition("ending", slow))
    agent.stop_tasks([task.arn], reason="enough of it")
    if when == "stopping":
        time.sleep(0.25)
    elif when == "network gone":
        _wait_for_rung(agent, task.arn, "DISCONNECTED")
    agent.kill()
    agent.start()

    stopped = agent.stopped(task.arn)
    assert stopped.reason == "enough of it"
    assert stopped.container("app")["exitCode"] == 5
    assert not [each for each in containers.of(task.arn) if each["State"]["Running"]]


def test_an_agent_that_is_told_to_end_does_so_well_and_leaves_its_tasks_running(
    agent: Agent, containers: Containers
) -> None:
    tasks = agent.started_copies(ECHO, 2)
    arns = [task.arn for task in tasks]
    identities = containers.identities(arns)

    assert agent.stop() == 0
    with connected(tasks[0].address) as connection:
        connection.sendall(b"still there")
        assert connection.recv(100) == b"still there"
    agent.start()
    agent.all_running(arns)
    assert containers.identities(arns) == identities


def test_a_container_that_ends_while_there_is_no_agent_is_told_afterwards(agent: Agent) -> None:
    task = agent.started(a_definition("alone", a_job("app", "sleep 1.5; exit 11")))
    agent.kill()
    time.sleep(2)
    agent.start()

    assert agent.stopped(task.arn).container("app")["exitCode"] == 11


LADDER = {
    "ABSENT": 0,
    "PAUSED": 1,
    "CONNECTED": 2,
    "DISCONNECTED": 3,
    "STOPPED": 4,
    "REMOVED": 5,
}
CONTAINER_LADDER = {"PENDING": 0, "PULLED": 1, "CREATED": 2, "RUNNING": 3, "STOPPED": 4, "REMOVED": 5}


def _wait_for_rung(agent: Agent, arn: str, rung: str) -> None:
    """Return as soon as the task has got so far, or further: it may climb faster than one can look."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        inner = agent.inner(arn)
        if inner is None:
            time.sleep(0.001)
            continue
        if rung in LADDER:
            if LADDER[inner["sandbox"]["status"]] >= LADDER[rung]:
                return
        else:
            name, _, status = rung.rpartition(" ")
            wanted = CONTAINER_LADDER[status]
            chosen = [each for each in inner["containers"] if not name or each["name"] == name]
            if any(CONTAINER_LADDER[each["status"]] >= wanted for each in chosen):
                return
        time.sleep(0.001)
    raise Untrue(f"the task never was {rung}")
