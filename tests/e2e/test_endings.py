"""How tasks end: by themselves, by force, by a stop. What is said of it is true, and comes neither early nor late."""

import time
from datetime import datetime

import pytest
from botocore.exceptions import ClientError

from tests.e2e.agent_process import Agent, eventually
from tests.e2e.inside import Containers
from tests.e2e.surroundings import LINKS, processes_below
from tests.e2e.task_definitions import a_definition, a_job

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

FOREVER = "while :; do sleep 0.1; done"
# long enough to be asked of afterwards
SETTINGS = {"ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION": "4s"}


def test_the_exit_codes_of_all_containers_are_told(agent: Agent) -> None:
    (arn,) = agent.run(
        a_definition(
            "codes",
            a_job("first", "exit 3", essential=False),
            a_job("last", "sleep 1; exit 7", dependsOn=[{"containerName": "first", "condition": "COMPLETE"}]),
            a_job("bystander", f"trap 'exit 9' TERM; {FOREVER}"),
        )
    )
    task = agent.stopped(arn)

    codes = {each["name"]: each["exitCode"] for each in task.document["containers"]}
    assert codes == {"first": 3, "last": 7, "bystander": 9}
    assert task.document["stopCode"] == "EssentialContainerExited"
    assert "Essential container in task exited" in task.reason


def test_a_failed_dependency_ends_the_task_at_once_with_its_name(agent: Agent) -> None:
    needs = [{"containerName": "setup", "condition": "SUCCESS"}]
    began = time.monotonic()
    (arn,) = agent.run(
        a_definition(
            "hopeless",
            a_job("setup", "exit 1", essential=False),
            {"name": "app", "dependsOn": needs},
        )
    )
    task = agent.stopped(arn)

    assert time.monotonic() - began < 8
    assert "setup" in f"{task.reason} {task.container('app').get('reason')}"
    assert task.container("app")["exitCode"] == 143


def test_only_what_ran_out_of_memory_is_said_to_have(agent: Agent, containers: Containers) -> None:
    greedy = "tail /dev/zero"
    definitions = {
        "container": a_definition("oom-first", a_job("app", f"exec {greedy}", memory=16)),
        "child": a_definition("oom-child", a_job("app", f"{greedy}; exit $?", memory=16)),
        "task": a_definition(
            "oom-task",
            a_job(
                "holder",
                f"dd if=/dev/zero of=/dev/shm/held bs=1M count=40 && trap 'exit 6' TERM; {FOREVER}",
                memory=48,
            ),
            a_job("app", f"sleep 1; exec {greedy}", memory=48),
            memory="64",
        ),
        "killed": a_definition("killed", a_job("app", FOREVER)),
        "same code": a_definition("same-code", a_job("app", "exit 137")),
    }
    arns = {name: agent.run(document)[0] for name, document in definitions.items()}
    (killed,) = agent.all_running([arns["killed"]])
    containers.kill(killed.runtime_id())

    tasks = dict(zip(arns, agent.all_stopped(list(arns.values())), strict=True))
    said = {
        name: (
            task.container("app")["exitCode"],
            "OutOfMemoryError" in task.container("app").get("reason", ""),
        )
        for name, task in tasks.items()
    }
    assert said == {
        "container": (137, True),
        "child": (137, True),
        "task": (137, True),
        "killed": (137, False),
        "same code": (137, False),
    }
    holder = tasks["task"].container("holder")
    assert (holder["exitCode"], holder.get("reason")) == (6, None), "it only had the memory"


def test_a_container_that_ignores_the_stop_has_its_time_and_not_more(agent: Agent) -> None:
    stubborn = a_job("app", f"trap '' TERM; {FOREVER}", stopTimeout=3)
    task = agent.started(a_definition("stubborn", stubborn))
    agent.stop_tasks([task.arn])
    task = agent.stopped(task.arn)

    inner = agent.inner(task.arn)
    assert inner is not None
    asked, ended = (
        datetime.fromisoformat(at)
        for at in (inner["stop_requested_at"], agent.inner_container(task.arn, "app")["finished_at"])
    )
    assert 3.0 <= (ended - asked).total_seconds() < 8.0
    assert task.container("app")["exitCode"] == 137
    assert task.reason == "the test is over"


def test_the_network_is_there_until_the_last_program_has_ended(agent: Agent) -> None:
    neighbour = agent.started(a_definition("neighbour", {"name": "web"}))
    farewell = f"trap 'sleep 0.5; wget -q -O /dev/null http://{neighbour.address}/ && exit 42; exit 43' TERM; {FOREVER}"
    task = agent.started(a_definition("polite", a_job("app", farewell)))
    agent.stop_tasks([task.arn])

    assert agent.stopped(task.arn).container("app")["exitCode"] == 42


def test_a_task_is_called_stopped_only_when_no_process_of_it_is_left(
    agent: Agent, containers: Containers
) -> None:
    slow = a_job("app", f"trap 'sleep 1; exit 0' TERM; sleep 1000 & {FOREVER}")
    task = agent.started(a_definition("slow", slow, {"name": "web"}))
    groups = containers.groups_of(task.id)
    assert len(processes_below(groups)) >= 4
    agent.stop_tasks([task.arn])

    while agent.task(task.arn).status != "STOPPED":
        time.sleep(0.005)
    assert processes_below(groups) == []


def test_a_running_container_that_somebody_removes_stops_the_task(
    agent: Agent, containers: Containers
) -> None:
    task = agent.started(
        a_definition("robbed", {"name": "app"}, {"name": "other", "image": "berth/demo-api"})
    )
    containers.docker.remove_container(task.runtime_id("app"), force=True)

    app = agent.stopped(task.arn, seconds=10).container("app")
    # removing it by force kills it first, and that may be all that is seen
    assert app.get("exitCode") == 137 or "ContainerVanishedError" in app["reason"]
    assert not [each for each in containers.of(task.arn) if each["State"]["Running"]]


def test_a_container_that_was_removed_while_nobody_looked_has_vanished(
    agent: Agent, containers: Containers
) -> None:
    task = agent.started(
        a_definition("robbed", {"name": "app"}, {"name": "other", "image": "berth/demo-api"})
    )
    agent.kill()
    containers.docker.remove_container(task.runtime_id("app"), force=True)
    agent.start()

    app = agent.stopped(task.arn, seconds=10).container("app")
    assert "ContainerVanishedError" in app["reason"]
    assert "exitCode" not in app, "nobody knows it"
    assert not [each for each in containers.of(task.arn) if each["State"]["Running"]]


def test_a_pause_container_that_somebody_kills_stops_the_task_and_its_interface_goes(
    agent: Agent, containers: Containers
) -> None:
    task = agent.started(a_definition("beheaded", {"name": "app"}))
    containers.kill(containers.pause_of(task.arn)["Id"])

    stopped = agent.stopped(task.arn)
    assert stopped.reason
    assert stopped.document["attachments"][0]["status"] == "DELETED"
    assert f"berth-{task.details['networkInterfaceId'][-9:]}" not in [each.name for each in LINKS.iterdir()]
    eventually("everything of it is removed", lambda: not containers.of(task.arn), seconds=15)


@pytest.fixture(scope="module", autouse=True)
def imageless(shared_agent: Agent) -> str:
    """A task whose image no registry has. It is pulled again and again for a while; other tests need not wait."""
    missing = {"name": "app", "image": "127.0.0.1:9/no/such-image:1"}
    (arn,) = shared_agent.run(a_definition("imageless", missing, a_job("innocent", FOREVER)))
    shared_agent.kept.add(arn)
    return arn


def test_an_image_that_cannot_be_had_is_the_reason_of_the_stop(agent: Agent, imageless: str) -> None:
    task = agent.stopped(imageless, seconds=40)

    assert "CannotPullContainerError" in str(task.container("app")["reason"])
    assert "127.0.0.1:9/no/such-image:1" in str(task.container("app")["reason"])
    assert task.document["stopCode"] == "TaskFailedToStart"


def test_a_draining_machine_takes_no_tasks_and_an_active_one_does_again(agent: Agent) -> None:
    instance = agent.instance()["containerInstanceArn"]

    def set_to(status: str) -> None:
        agent.ecs.update_container_instances_state(
            cluster=agent.cluster, containerInstances=[instance], status=status
        )

    runs_on = agent.started(a_definition("stays", {"name": "app"}))
    set_to("DRAINING")
    try:
        with pytest.raises(ClientError, match="No Container Instances were found in your cluster"):
            agent.run(a_definition("refused", {"name": "app"}))
        assert agent.task(runs_on.arn).status == "RUNNING"
    finally:
        set_to("ACTIVE")
    agent.started(a_definition("taken", {"name": "app"}))
