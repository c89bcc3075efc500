"""What a cluster is told: every status once, nothing twice, nothing too long."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent.adapters.ecs.records import Told
from agent.adapters.ecs.wire.submissions import (
    News,
    attached,
    containers_change,
    machine_attached,
    merged,
    news,
    refusal,
    task_change,
)
from agent.model.ids import ContainerId
from agent.model.report import ContainerReport, TaskReport
from agent.model.status import TaskStatus
from tests.builders import task_arn

PENDING, RUNNING, STOPPED = TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.STOPPED
RUNTIME_ID = ContainerId("ab" * 32)


def a_report(status: TaskStatus, **containers: TaskStatus) -> TaskReport:
    return TaskReport(
        task_arn=task_arn(),
        status=status,
        containers=tuple(ContainerReport(name, each, RUNTIME_ID) for name, each in containers.items()),
    )


def nothing(found: News) -> bool:
    return (found.status, found.containers) == ("", ())


def test_a_task_that_runs_is_told_with_all_of_its_containers():
    report = a_report(RUNNING, app=RUNNING, sidecar=RUNNING)
    found = news(report, Told())
    assert task_change("prod", report, found) == {
        "cluster": "prod",
        "task": task_arn(),
        "status": "RUNNING",
        "reason": "",
        "containers": [
            {"containerName": "app", "runtimeId": RUNTIME_ID, "status": "RUNNING"},
            {"containerName": "sidecar", "runtimeId": RUNTIME_ID, "status": "RUNNING"},
        ],
    }
    assert found.told == Told("RUNNING", {"app": "RUNNING", "sidecar": "RUNNING"})


def test_what_was_told_is_not_told_again():
    report = a_report(RUNNING, app=RUNNING)
    told = news(report, Told()).told
    assert nothing(news(report, told))


def test_a_status_that_is_lower_than_what_was_told_is_no_news():
    assert nothing(news(a_report(RUNNING, app=RUNNING), Told("STOPPED", {"app": "STOPPED"})))


def test_nothing_is_said_of_a_task_that_only_waits():
    assert nothing(news(a_report(PENDING, app=PENDING), Told()))


def test_a_digest_is_told_while_the_task_is_pending():
    report = a_report(PENDING, app=PENDING)
    known = replace(
        report, containers=(replace(report.containers[0], image_digest="sha256:1", runtime_id=None),)
    )
    found = news(known, Told())
    assert task_change("prod", known, found) == {
        "cluster": "prod",
        "task": task_arn(),
        "status": "PENDING",
        "reason": "",
        "containers": [{"containerName": "app", "status": "PENDING", "imageDigest": "sha256:1"}],
    }
    assert nothing(news(known, found.told))


def test_a_task_runs_for_the_cluster_only_when_no_container_is_behind():
    report = a_report(RUNNING, app=RUNNING, late=PENDING)
    found = news(report, Told())
    assert found.status == ""
    assert [each["containerName"] for each in found.containers] == ["app"]
    after = news(a_report(RUNNING, app=RUNNING, late=RUNNING), Told())
    assert after.status == "RUNNING"


def test_a_container_that_has_ended_does_not_hold_its_task_back():
    assert news(a_report(RUNNING, app=RUNNING, init=STOPPED), Told()).status == "RUNNING"


def test_the_end_of_a_task_has_exit_codes_and_times():
    stopped_at = datetime(2026, 11, 21, 1, 59, 24, 766_123, tzinfo=UTC)
    report = TaskReport(
        task_arn=task_arn(),
        status=STOPPED,
        containers=(ContainerReport("app", STOPPED, RUNTIME_ID, exit_code=0),),
        pull_started_at=datetime(2026, 1, 1, tzinfo=UTC),
        pull_stopped_at=datetime(2026, 1, 1, 0, 0, 3, 200_000, tzinfo=UTC),
        execution_stopped_at=stopped_at,
    )
    told = Told("RUNNING", {"app": "RUNNING"})
    assert task_change("prod", report, news(report, told)) == {
        "cluster": "prod",
        "task": task_arn(),
        "status": "STOPPED",
        "reason": "",
        "pullStartedAt": 1767225600.0,
        "pullStoppedAt": 1767225603.2,
        "executionStoppedAt": 1795226364.766,
        "containers": [{"containerName": "app", "runtimeId": RUNTIME_ID, "exitCode": 0, "status": "STOPPED"}],
    }


def test_what_a_container_says_for_itself_is_not_the_task_s_reason():
    said = "CannotPullContainerError: no such image"
    report = TaskReport(task_arn(), STOPPED, (ContainerReport("app", STOPPED, reason=said),), reason=said)
    change = task_change("prod", report, news(report, Told()))
    assert change["reason"] == ""
    assert change["containers"] == [{"containerName": "app", "status": "STOPPED", "reason": said}]


def test_a_reason_of_the_task_itself_is_told():
    said = "ContainerNetworkingError: no link"
    report = TaskReport(task_arn(), STOPPED, (ContainerReport("app", STOPPED),), reason=said)
    assert task_change("prod", report, news(report, Told()))["reason"] == said


def test_long_texts_are_cut():
    report = TaskReport(
        task_arn(),
        STOPPED,
        (ContainerReport("app", STOPPED, ContainerId("x" * 300), reason="r" * 2000, image_digest="d" * 300),),
        reason="t" * 2000,
    )
    change = task_change("prod", report, news(report, Told()))
    (container,) = change["containers"]
    assert len(change["reason"]) == len(container["reason"]) == 1024
    assert len(container["runtimeId"]) == len(container["imageDigest"]) == 255


def test_held_news_give_way_to_newer_ones_of_the_same_container():
    held = ({"containerName": "a", "status": "RUNNING"}, {"containerName": "b", "status": "RUNNING"})
    assert merged(held, ({"containerName": "a", "status": "STOPPED"},)) == (
        {"containerName": "a", "status": "STOPPED"},
        {"containerName": "b", "status": "RUNNING"},
    )


@pytest.mark.parametrize(("told", "shown"), [("", "PENDING"), ("RUNNING", "RUNNING")])
def test_container_news_alone_carry_the_status_that_the_task_has(told, shown):
    change = containers_change("prod", "arn", told, ({"containerName": "a", "status": "STOPPED"},))
    assert change["status"] == shown


def test_an_interface_is_told_without_a_status():
    assert attached("prod", "task", "attachment") == {
        "cluster": "prod",
        "task": "task",
        "attachments": [{"attachmentArn": "attachment", "status": "ATTACHED"}],
    }
    assert machine_attached("prod", "attachment") == {
        "cluster": "prod",
        "attachments": [{"attachmentArn": "attachment", "status": "ATTACHED"}],
    }


def test_a_refused_task_is_stopped_with_its_reason():
    assert refusal("prod", "task", "UnrecogniedTaskError: " + "x" * 2000) == {
        "cluster": "prod",
        "task": "task",
        "status": "STOPPED",
        "reason": ("UnrecogniedTaskError: " + "x" * 2000)[:1024],
    }
