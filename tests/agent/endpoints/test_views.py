import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from agent.endpoints.views import ecs_task, full_task, moment
from agent.model.ids import ContainerId
from agent.model.spec import MountPoint, Volume
from agent.model.state import InFlight, Reason, Trouble
from agent.model.status import Goal
from agent.model.steps import Step, StepName
from tests.agent.endpoints.asking import a_task
from tests.fakes.clock import NOON


def test_a_waiting_task_looks_as_documented():
    assert ecs_task(a_task(7)) == {
        "Arn": "arn:aws:ecs:us-west-2:123456789012:task/default/00000000000000000000000000000007",
        "DesiredStatus": "RUNNING",
        "KnownStatus": "PENDING",
        "Family": "web",
        "Version": "3",
        "Containers": [
            {
                "DockerId": "",
                "DockerName": "ecs-web-3-app-7",
                "Name": "app",
                "Image": "berth/demo-web",
                "ImageID": "",
                "Ports": [{"ContainerPort": 80, "Protocol": "tcp", "HostPort": 80}],
                "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.1.7"]}],
            }
        ],
    }


def test_a_running_container_has_its_times_and_volumes():
    task = a_task(1)
    container = replace(
        task.containers[0],
        container_id=ContainerId("ab" * 32),
        created_at=NOON,
        started_at=NOON + timedelta(seconds=1.5),
    )
    spec = replace(
        task.spec,
        volumes=(Volume("logs", "/var/log/web"), Volume("scratch")),
        containers=(
            replace(
                task.spec.containers[0],
                mount_points=(MountPoint("logs", "/log"), MountPoint("scratch", "/tmp/x")),
            ),
        ),
    )
    [view] = ecs_task(replace(task, spec=spec, containers=(container,), started_at=NOON))["Containers"]
    assert view["CreatedAt"] == "2026-01-01T12:00:00Z"
    assert view["StartedAt"] == "2026-01-01T12:00:01.5Z"
    assert view["Volumes"] == [
        {"DockerName": "logs", "Source": "/var/log/web", "Destination": "/log"},
        {"DockerName": "scratch", "Destination": "/tmp/x"},
    ]


def test_the_desired_status_is_left_out_when_a_task_ended_unasked():
    ended = a_task(1, stopped_at=NOON)
    assert "DesiredStatus" not in ecs_task(ended)
    assert ecs_task(ended)["KnownStatus"] == "STOPPED"
    asked = a_task(1, stopped_at=NOON, goal=Goal.STOP)
    assert ecs_task(asked)["DesiredStatus"] == "STOPPED"


def test_neither_ids_of_credentials_nor_the_environment_are_shown():
    text = json.dumps([full_task(a_task(1)), ecs_task(a_task(1))])
    assert "task-id-1" not in text
    assert "execution-id-1" not in text
    assert "canary" not in text


def test_the_full_view_has_steps_in_flight_and_troubles():
    flight = InFlight(Step(StepName.ATTACH_NETWORK, None, 4), NOON, NOON + timedelta(minutes=1))
    trouble = Trouble(Reason("CannotStopContainerError", "no answer"), 2, NOON, NOON + timedelta(seconds=30))
    task = a_task(1, "169.254.172.2")
    task = replace(
        task,
        sandbox=replace(task.sandbox, in_flight=flight),
        containers=(replace(task.containers[0], trouble=trouble, reason=Reason("", "killed")),),
    )
    view = full_task(task)
    assert view["sandbox"]["status"] == "CONNECTED"
    assert view["sandbox"]["local_ipv4"] == "169.254.172.2"
    assert view["sandbox"]["in_flight"] == {
        "step": "attach_network",
        "number": 4,
        "since": "2026-01-01T12:00:00Z",
        "until": "2026-01-01T12:01:00Z",
    }
    [container] = view["containers"]
    assert container["reason"] == "killed"
    assert container["trouble"]["reason"] == "CannotStopContainerError: no answer"
    assert container["trouble"]["retry_at"] == "2026-01-01T12:00:30Z"


def test_times_have_no_more_digits_than_there_are():
    assert moment(datetime(2026, 1, 2, 3, 4, 5, 60, tzinfo=UTC)) == "2026-01-02T03:04:05.00006Z"
    assert moment(None) is None
