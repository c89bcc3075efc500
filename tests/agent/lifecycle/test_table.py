"""One test per row of the table, and the lint of the table itself."""

from dataclasses import fields, replace
from datetime import timedelta

import pytest

from agent.lifecycle.plan import plan
from agent.lifecycle.reduce import reduce
from agent.lifecycle.table import (
    CONTAINER_RULES,
    SANDBOX_RULES,
    Limit,
    OnFailure,
    Rule,
    container_rule,
    limit_of,
    sandbox_rule,
    transition_of,
)
from agent.model.events import StepFailed, StepSucceeded, TimePassed
from agent.model.report import TaskReport
from agent.model.spec import ContainerSpec
from agent.model.state import Policy, Reason, TaskState
from agent.model.status import ContainerStatus, Goal, SandboxStatus, TaskStatus
from agent.model.steps import StepName
from tests.builders import NOON, a_container, a_task

RULES = (*SANDBOX_RULES, *CONTAINER_RULES)


def ready_for(rule: Rule[SandboxStatus] | Rule[ContainerStatus]) -> TaskState:
    """A task in which every gate of the rule is open."""
    task = a_task()
    container = task.containers[0]
    is_down = rule.goal >= Goal.STOP
    if rule in SANDBOX_RULES:
        members = ContainerStatus.REMOVED if rule.goal is Goal.REMOVE else ContainerStatus.STOPPED
        container = replace(container, status=members if is_down else ContainerStatus.PENDING)
        sandbox = replace(task.sandbox, status=rule.status, goal=rule.goal, interface_seen_at=NOON)
    else:
        container = replace(container, status=rule.status, goal=rule.goal)
        sandbox = replace(task.sandbox, status=SandboxStatus.CONNECTED, interface_seen_at=NOON)
    told = TaskReport(task.arn, TaskStatus.STOPPED, ())
    return replace(
        task,
        goal=rule.goal,
        sandbox=sandbox,
        containers=(container,),
        accepted=told,
        stopped_at=NOON - timedelta(days=1) if is_down else None,
    )


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.step], ids=lambda rule: f"{rule.status!r}")
def test_a_rule_whose_gates_are_open_gives_its_step(rule: Rule[SandboxStatus]) -> None:
    steps = plan(ready_for(rule))
    assert rule.step in [step.name for step in steps]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.status!r}-{rule.goal!r}")
def test_every_rule_climbs(rule: Rule[SandboxStatus]) -> None:
    assert rule.becomes > rule.status


@pytest.mark.parametrize("rules", [SANDBOX_RULES, CONTAINER_RULES], ids=["sandbox", "container"])
def test_there_is_at_most_one_rule_for_a_status_and_a_goal(rules: tuple[Rule[SandboxStatus], ...]) -> None:
    assert len({(rule.status, rule.goal) for rule in rules}) == len(rules)


def test_every_status_has_a_way_down() -> None:
    for start in SandboxStatus:
        status = start
        while (rule := sandbox_rule(status, Goal.REMOVE)) is not None:
            status = rule.becomes
        assert status is SandboxStatus.REMOVED
    for begin in ContainerStatus:
        rung = begin
        while (row := container_rule(rung, Goal.REMOVE)) is not None:
            rung = row.becomes
        assert rung is ContainerStatus.REMOVED


def test_once_the_goal_is_to_go_down_the_rules_for_going_up_are_over() -> None:
    assert container_rule(ContainerStatus.RUNNING, Goal.RUN) is None
    rule = container_rule(ContainerStatus.CREATED, Goal.STOP)
    assert rule is not None
    assert rule.step is StepName.STOP_CONTAINER


def test_a_failure_on_the_way_down_means_again() -> None:
    assert {rule.on_failure for rule in RULES if rule.step and rule.goal > Goal.RUN} == {OnFailure.AGAIN}


def test_every_step_has_a_limit_and_a_word_for_its_time_out() -> None:
    names = {field.name for field in fields(Policy)}
    for rule in RULES:
        if rule.step is not None:
            assert rule.limit.value in names
            assert limit_of(rule, Policy(), ContainerSpec("app", "example")) > timedelta(0)
            assert transition_of(rule.step)
    assert {rule.step for rule in RULES if rule.step} == set(StepName)


def test_a_stop_may_take_its_grace_period_and_the_slack() -> None:
    rule = container_rule(ContainerStatus.RUNNING, Goal.STOP)
    assert rule is not None
    assert rule.limit is Limit.STOP
    patient = ContainerSpec("app", "example", stop_timeout=90)
    assert limit_of(rule, Policy(), patient) == timedelta(seconds=90, minutes=2)


def test_networking_and_pulls_begin_side_by_side() -> None:
    task = reduce(a_task(a_container("web"), a_container("api")), TimePassed(NOON))
    assert [(step.name, step.container) for step in plan(task)] == [
        (StepName.START_PAUSE, None),
        (StepName.PULL_IMAGE, "web"),
        (StepName.PULL_IMAGE, "api"),
    ]


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.step], ids=lambda rule: f"{rule.step}")
def test_a_step_that_succeeds_reaches_its_rung_and_one_that_fails_never_stays_in_flight(
    rule: Rule[SandboxStatus],
) -> None:
    from agent.lifecycle.plan import launched

    task = ready_for(rule)
    steps = plan(task)
    step = next(step for step in steps if step.name is rule.step)
    started = launched(task, steps)

    succeeded = reduce(started, StepSucceeded(NOON, step))
    entity = succeeded.sandbox if step.container is None else succeeded.container(step.container)
    assert entity.status >= rule.becomes

    failed = reduce(started, StepFailed(NOON, step, Reason("TestError", "no")))
    entity = failed.sandbox if step.container is None else failed.container(step.container)
    assert entity.in_flight is None
    if rule.on_failure is OnFailure.AGAIN:
        assert entity.trouble is not None
        assert entity.trouble.retry_at > NOON
    else:
        assert failed.goal >= Goal.STOP
        assert failed.reason == Reason("TestError", "no")
