from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.lifecycle.difference import differences
from agent.model.ids import MacAddress, TaskArn
from agent.model.report import TaskReport
from agent.model.spec import ContainerSpec, NetworkInterface, TaskSpec
from agent.model.state import Attachment, Container, InFlight, Reason, Sandbox, TaskState, Trouble
from agent.model.status import ContainerStatus, Goal, Health, SandboxStatus, TaskStatus
from agent.model.steps import Step, StepName

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=1)


def a_state() -> TaskState:
    network = NetworkInterface(
        attachment_arn="arn:aws:ecs:us-east-1:111122223333:attachment/1",
        eni_id="eni-1",
        subnet_id="subnet-1",
        mac_address=MacAddress("02:00:00:00:00:01"),
        ipv4_addresses=(),
        gateways=(),
        expires_at=LATER,
    )
    spec = TaskSpec(
        arn=TaskArn("arn:aws:ecs:us-east-1:111122223333:task/default/abc"),
        cluster="default",
        family="web",
        revision="1",
        containers=(ContainerSpec("web", "web:1"),),
        network=network,
    )
    return TaskState(spec, Sandbox("pause"), (Container("web", "ecs-web"),), accepted_at=NOON, now=NOON)


def with_sandbox(state: TaskState, **changes) -> TaskState:
    return replace(state, sandbox=replace(state.sandbox, **changes))


def with_container(state: TaskState, **changes) -> TaskState:
    return replace(state, containers=(replace(state.containers[0], **changes),))


BEFORE = a_state()
STEP = InFlight(Step(StepName.PULL_IMAGE, "web", 7), NOON, LATER)
TROUBLE = Trouble(Reason("CannotStopContainerError", "busy"), failures=2, since=NOON, retry_at=LATER)
REPORT = TaskReport(BEFORE.arn, TaskStatus.RUNNING, ())


@pytest.mark.parametrize(
    ("after", "line"),
    [
        (replace(BEFORE, goal=Goal.STOP), ("goal.raised", {"of": "task", "old": "RUN", "new": "STOP"})),
        (replace(BEFORE, granted_at=NOON), ("resources.granted", {"of": "task"})),
        (replace(BEFORE, stop_requested_at=NOON), ("stop.requested", {"of": "task"})),
        (replace(BEFORE, reason=Reason("X", "y")), ("reason.set", {"of": "task", "reason": "X: y"})),
        (replace(BEFORE, execution_stopped_at=NOON), ("execution.stopped", {"of": "task"})),
        (replace(BEFORE, stopped_at=NOON), ("task.stopped", {})),
        (replace(BEFORE, accepted=REPORT), ("report.accepted", {"of": "task", "status": "RUNNING"})),
        (with_sandbox(BEFORE, interface_seen_at=NOON), ("interface.seen", {"of": "sandbox"})),
        (with_sandbox(BEFORE, attachment=Attachment("169.254.172.2")),
         ("network.attached", {"of": "sandbox", "local_ipv4": "169.254.172.2"})),
        (with_sandbox(BEFORE, status=SandboxStatus.PAUSED),
         ("status.raised", {"of": "sandbox", "old": "ABSENT", "new": "PAUSED"})),
        (with_sandbox(BEFORE, goal=Goal.REMOVE), ("goal.raised", {"of": "sandbox", "old": "RUN", "new": "REMOVE"})),
        (with_container(BEFORE, status=ContainerStatus.RUNNING),
         ("status.raised", {"container": "web", "old": "PENDING", "new": "RUNNING"})),
        (with_container(BEFORE, exit_code=0), ("container.exited", {"container": "web", "exit_code": 0})),
        (with_container(BEFORE, reason=Reason("X", "y")), ("reason.set", {"container": "web", "reason": "X: y"})),
        (with_container(BEFORE, health=Health.UNHEALTHY, health_output="no"),
         ("health.changed", {"container": "web", "old": "UNKNOWN", "new": "UNHEALTHY", "output": "no"})),
        (with_container(BEFORE, in_flight=STEP),
         ("step.started", {"container": "web", "step": "pull_image", "number": 7})),
        (with_container(BEFORE, trouble=TROUBLE),
         ("step.postponed", {"container": "web", "failures": 2, "retry_at": LATER.isoformat(),
                             "reason": "CannotStopContainerError: busy"})),
    ],
)  # fmt: skip
def test_each_change_is_exactly_one_line(after: TaskState, line) -> None:
    assert differences(BEFORE, after) == (line,)


def test_what_stays_is_not_told_again() -> None:
    busy = with_container(
        replace(BEFORE, reason=Reason("X", "y"), accepted=REPORT), in_flight=STEP, trouble=TROUBLE
    )
    assert differences(busy, replace(busy, now=LATER)) == ()


def test_the_end_of_a_step_is_told_by_its_outcome_alone() -> None:
    assert differences(with_container(BEFORE, in_flight=STEP), BEFORE) == ()


def test_a_detached_network_is_told_with_the_address_that_it_had() -> None:
    attached = with_sandbox(BEFORE, attachment=Attachment("169.254.172.2"))
    assert differences(attached, BEFORE) == (
        ("network.detached", {"of": "sandbox", "local_ipv4": "169.254.172.2"}),
    )


def test_several_changes_are_told_in_reading_order() -> None:
    after = with_container(
        with_sandbox(replace(BEFORE, goal=Goal.STOP, reason=Reason("X", "y")), goal=Goal.STOP),
        goal=Goal.STOP,
        status=ContainerStatus.STOPPED,
        exit_code=1,
    )
    assert [
        (event, fields.get("of") or fields["container"]) for event, fields in differences(BEFORE, after)
    ] == [
        ("goal.raised", "task"),
        ("reason.set", "task"),
        ("goal.raised", "sandbox"),
        ("goal.raised", "web"),
        ("status.raised", "web"),
        ("container.exited", "web"),
    ]
