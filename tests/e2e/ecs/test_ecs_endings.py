"""How tasks of a cluster end, and what the control plane is told of it."""

import time

import pytest

from tests.e2e.ecs.cluster import Cluster, EcsAgent, a_task, job, web
from tests.e2e.inside import Containers
from tests.e2e.surroundings import processes_below
from tests.fakes.ecs.control_plane import ControlPlane
from tests.fakes.ecs.records import Message
from tests.fakes.ecs.replay import example, same_shape
from tests.fakes.ecs.tasks import ContainerPlan
from tests.fakes.ecs.truth import TaskRecord

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
MISSING = "127.0.0.1:9/no/such-image:1"
SETTINGS = {"ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION": "2s"}


@pytest.fixture(scope="module", autouse=True)
def imageless(shared_agent: EcsAgent, shared_cluster: Cluster) -> TaskRecord:
    """A task whose image no registry has. It is pulled again and again for a while; other tests need not wait."""
    task = shared_cluster.run(a_task(ContainerPlan("app", MISSING), job(FOREVER, "innocent")), until="")
    shared_cluster.kept.add(task.arn)
    return task


def test_an_essential_container_that_ends_takes_the_task_with_it(
    cluster: Cluster, containers: Containers
) -> None:
    began = time.time()
    task = cluster.run(
        a_task(
            job("exit 3", "first", is_essential=False),
            job("sleep 1; exit 7", "last", depends_on={"first": "COMPLETE"}),
            job(FOREVER.replace("exit 0", "exit 9"), "bystander"),
        ),
        until="STOPPED",
    )
    assert {name: each.exit_code for name, each in task.containers.items()} == {
        "first": 3,
        "last": 7,
        "bystander": 9,
    }
    stopped = task.reports[-1]
    assert began < stopped["executionStoppedAt"] < time.time()
    ended = containers.docker.inspect_container(cluster.runtime_id(task, "last"))["State"]["FinishedAt"]
    assert abs(stopped["executionStoppedAt"] % 60 - float(ended[17:26])) < 0.5
    statuses = [each["status"] for each in task.reports]
    assert statuses[-2:] == ["RUNNING", "STOPPED"]


def test_a_container_that_ran_out_of_memory_is_said_to_have(cluster: Cluster) -> None:
    task = cluster.run(a_task(job("exec tail /dev/zero", memory=16)), until="STOPPED")

    app = task.containers["app"]
    assert app.exit_code == 137
    assert app.reason is not None
    assert app.reason.startswith("OutOfMemoryError: Container killed due to memory usage")


def test_an_image_that_cannot_be_had_is_the_reason_of_the_stop(
    cluster: Cluster, control: ControlPlane, imageless: TaskRecord
) -> None:
    task = control.wait_status(imageless.arn, "STOPPED", 40)

    app = task.containers["app"]
    assert app.status == "STOPPED"
    assert app.reason is not None
    assert app.reason.startswith("CannotPullContainerError: ")
    assert MISSING in app.reason
    assert app.runtime_id is None
    # after a while the other container is told, with a task that is PENDING (ecs-protocol 1.8)
    statuses = [each["status"] for each in task.reports]
    assert statuses in (["STOPPED"], ["PENDING", "STOPPED"])


def test_a_container_that_does_not_listen_is_killed_after_its_stop_timeout(
    cluster: Cluster, control: ControlPlane
) -> None:
    deaf = "trap '' TERM; while :; do sleep 0.1; done"
    task = cluster.run(a_task(job(deaf, stop_timeout=2)))
    began = time.monotonic()
    control.stop_task(task.arn, wait=True)

    assert 2 <= time.monotonic() - began < 5
    assert task.containers["app"].exit_code == 137


def test_a_task_is_called_stopped_only_when_no_process_of_it_is_left(
    cluster: Cluster, control: ControlPlane, containers: Containers
) -> None:
    slow = job(f"trap 'sleep 1; exit 0' TERM; sleep 1000 & {FOREVER[16:]}")
    task = cluster.run(a_task(slow, web()))
    groups = containers.groups_of(task.arn.rpartition("/")[2])
    assert len(processes_below(groups)) >= 4
    control.stop_task(task.arn)
    while not task.is_over:
        time.sleep(0.005)
    assert processes_below(groups) == []


def test_a_task_that_is_stopped_before_it_runs_never_runs(
    cluster: Cluster, control: ControlPlane, containers: Containers
) -> None:
    task = cluster.announce(a_task(job("exit 5")))
    control.wait_attached(task.arn)
    control.send_payload(task, desired_status="STOPPED")
    control.wait_status(task.arn, "STOPPED")

    assert [each["status"] for each in task.reports] == ["STOPPED"]
    assert all(each.runtime_id is None for each in task.containers.values())
    assert containers.of(task.arn) == []


def test_a_task_that_the_cluster_does_not_know_any_more_is_stopped_after_it_was_asked(
    agent: EcsAgent, cluster: Cluster, control: ControlPlane, containers: Containers
) -> None:
    kept, lost = cluster.run_all([a_task(web()), a_task(web())])
    runtime_id = cluster.runtime_id(lost)
    control.forget_task(lost.arn)
    manifest = control.send_manifest()
    control.wait_acked(manifest)

    def question() -> list[Message]:
        found = control.messages("acs", "TaskStopVerificationMessage")
        return [each for each in found if each.body["messageId"] == manifest]

    (asked,) = control.wait_for(question, 10, "the question")
    assert [each["taskArn"] for each in asked.body["stopCandidates"]] == [lost.arn]
    assert same_shape(asked.body, example("TaskStopVerificationMessage", direction="in").body) == []
    agent.wait_forgotten(lost.arn)
    assert runtime_id not in [each["Id"] for each in containers.docker.containers(all=True)]
    cluster.enis.detach(lost.enis[0].mac)
    assert kept.status == "RUNNING"
    assert len(containers.of(kept.arn)) == 2
    assert agent.get("/health")[1]["status"] == "OK", "the refused report is not asked for ever"


def test_a_task_that_the_cluster_wants_after_all_goes_on(
    cluster: Cluster, control: ControlPlane, containers: Containers
) -> None:
    task = cluster.run(a_task(web()))
    before = containers.identities([task.arn])
    asked = len(control.messages("acs", "TaskStopVerificationMessage"))
    control.send_manifest(tasks=[])
    control.wait_for(
        lambda: len(control.messages("acs", "TaskStopVerificationMessage")) > asked, 10, "the question"
    )
    heartbeat = control.heartbeat()
    control.wait_acked(heartbeat)

    time.sleep(0.5)
    assert task.status == "RUNNING"
    assert containers.identities([task.arn]) == before


def test_a_heartbeat_is_answered(control: ControlPlane) -> None:
    began = time.monotonic()
    sent = control.wait_acked(control.heartbeat(), 5)
    assert sent.acked_at is not None
    assert sent.acked_at - began < 2
