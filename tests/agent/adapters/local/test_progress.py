"""How a task's record moves: statuses only rise, the first reason stays."""

from dataclasses import replace
from datetime import timedelta

import pytest

from agent.adapters.local.progress import (
    asked_to_stop,
    health_of,
    interface_made,
    interface_removed,
    reported,
)
from agent.adapters.local.records import ContainerRecord, TaskRecord
from agent.model.ids import ContainerId, TaskArn
from agent.model.report import ContainerReport, TaskReport
from agent.model.status import Health, TaskStatus
from tests.fakes.clock import NOON

LATER = NOON + timedelta(minutes=1)
DEFINITION = {"containerDefinitions": [{"name": "app"}, {"name": "side", "essential": False}]}
TASK = TaskRecord(
    id="1" * 32,
    cluster="default",
    family="web",
    revision=1,
    containers=(ContainerRecord("app", "a"), ContainerRecord("side", "b")),
    created_at=NOON,
    availability_zone="us-east-1a",
    group="family:web",
)


def said(status, *, app=None, side=None, **changes):
    containers = [app or ContainerReport("app", status), side or ContainerReport("side", status)]
    return TaskReport(TaskArn("arn"), status, tuple(containers), **changes)


def after(task, *reports):
    for one in reports:
        task = reported(task, DEFINITION, one, LATER)
    return task


def test_a_task_climbs_and_each_change_is_counted_once():
    task = after(TASK, said(TaskStatus.PENDING))
    assert (task.last_status, task.version) == ("PENDING", 2)
    task = after(task, said(TaskStatus.PENDING), said(TaskStatus.RUNNING), said(TaskStatus.RUNNING))
    assert (task.last_status, task.version, task.started_at) == ("RUNNING", 3, LATER)


def test_a_late_pending_takes_nothing_back():
    running = after(
        TASK, said(TaskStatus.RUNNING, app=ContainerReport("app", TaskStatus.RUNNING, ContainerId("id")))
    )
    assert after(running, said(TaskStatus.PENDING)) == running


def test_an_interface_that_is_made_late_takes_nothing_back():
    running = after(TASK, said(TaskStatus.RUNNING))
    assert interface_made(running) == running
    assert interface_made(TASK).last_status == "PENDING"


def test_stopped_by_the_agent_means_deprovisioning_until_the_interface_is_gone():
    over = after(TASK, said(TaskStatus.STOPPED))
    assert (over.last_status, over.desired_status) == ("DEPROVISIONING", "STOPPED")
    assert over.is_done
    gone = interface_removed(over, LATER)
    assert (gone.last_status, gone.stopped_at) == ("STOPPED", LATER)
    assert interface_removed(gone, NOON) == gone
    assert interface_removed(TASK, NOON) == TASK


def test_after_stopped_no_report_changes_anything():
    over = after(TASK, said(TaskStatus.STOPPED, app=ContainerReport("app", TaskStatus.STOPPED, exit_code=1)))
    assert after(over, said(TaskStatus.RUNNING), said(TaskStatus.STOPPED, reason="other")) == over


def test_a_users_stop_is_the_reason_even_if_a_container_exits_then():
    stopping = asked_to_stop(after(TASK, said(TaskStatus.RUNNING)), "bye", LATER)
    assert stopping.last_status == "STOPPING"
    exited = ContainerReport("app", TaskStatus.STOPPED, exit_code=137)
    over = after(stopping, said(TaskStatus.STOPPED, app=exited, reason="ignored"))
    assert (over.stop_code, over.stopped_reason, over.stopping_at) == ("UserInitiated", "bye", LATER)
    assert asked_to_stop(over, "again", LATER) == over


def test_a_task_that_ends_by_itself_keeps_its_reason_when_a_user_stops_it_later():
    ending = after(
        TASK,
        said(TaskStatus.RUNNING),
        said(
            TaskStatus.RUNNING,
            app=ContainerReport("app", TaskStatus.STOPPED, exit_code=2),
            stopping_at=NOON,
        ),
    )
    assert (ending.last_status, ending.desired_status, ending.stopping_at) == ("STOPPING", "STOPPED", NOON)
    assert asked_to_stop(ending, "late", LATER) == ending
    assert ending.stop_code == "EssentialContainerExited"


@pytest.mark.parametrize(
    ("reports", "code", "reason"),
    [
        ([said(TaskStatus.STOPPED, reason="CannotPull: x")], "TaskFailedToStart", "CannotPull: x"),
        ([said(TaskStatus.STOPPED)], "TaskFailedToStart", "Task failed to start"),
        (
            [
                said(
                    TaskStatus.STOPPED,
                    app=ContainerReport("app", TaskStatus.STOPPED, reason="CannotStart: y"),
                )
            ],
            "TaskFailedToStart",
            "CannotStart: y",
        ),
        (
            [said(TaskStatus.STOPPED, app=ContainerReport("app", TaskStatus.STOPPED, exit_code=0))],
            "EssentialContainerExited",
            "Essential container in task exited",
        ),
        (
            [
                said(
                    TaskStatus.STOPPED,
                    side=ContainerReport("side", TaskStatus.STOPPED, exit_code=1),
                    reason="z",
                )
            ],
            "TaskFailedToStart",
            "z",
        ),
        (
            [said(TaskStatus.RUNNING), said(TaskStatus.STOPPED, reason="ContainerVanishedError: gone")],
            "EssentialContainerExited",
            "ContainerVanishedError: gone",
        ),
    ],
)
def test_the_stop_code_says_how_it_ended(reports, code, reason):
    over = after(TASK, *reports)
    assert (over.stop_code, over.stopped_reason) == (code, reason)


def test_reasons_are_cut_to_what_amazon_ecs_allows():
    over = after(TASK, said(TaskStatus.STOPPED, reason="x" * 5000))
    assert len(over.stopped_reason) == 1024


def test_a_record_survives_its_json_form():
    full = replace(
        after(TASK, said(TaskStatus.RUNNING), said(TaskStatus.STOPPED)),
        overrides={"containerOverrides": []},
        task_credentials_id="x",
    )
    assert TaskRecord.from_json(full.as_json()) == full


@pytest.mark.parametrize(
    ("checks", "seen", "health"),
    [
        ({}, {}, "UNKNOWN"),
        ({"app"}, {"app": Health.HEALTHY}, "HEALTHY"),
        ({"app"}, {"app": Health.UNHEALTHY}, "UNHEALTHY"),
        ({"app"}, {}, "UNKNOWN"),
        ({"app", "side"}, {"app": Health.HEALTHY, "side": Health.UNHEALTHY}, "HEALTHY"),
    ],
)
def test_health_is_that_of_the_essential_containers_with_a_check(checks, seen, health):
    containers = [
        one | ({"healthCheck": {"command": ["CMD", "x"]}} if one["name"] in checks else {})
        for one in DEFINITION["containerDefinitions"]
    ]
    task = replace(
        TASK,
        containers=tuple(
            replace(one, health=seen.get(one.name, Health.UNKNOWN).value) for one in TASK.containers
        ),
    )
    assert health_of(task, {"containerDefinitions": containers}) == health
