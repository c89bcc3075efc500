"""Which steps may start now. Looks only at the state, never at how it came to be."""

from dataclasses import replace
from datetime import datetime

from agent.lifecycle.gates import NotYet, Open, Verdict
from agent.lifecycle.table import (
    Rule,
    container_rule,
    container_rule_of,
    limit_of,
    sandbox_rule,
    sandbox_rule_of,
)
from agent.model.spec import ContainerSpec
from agent.model.state import Container, InFlight, Sandbox, TaskState
from agent.model.status import ContainerStatus, SandboxStatus
from agent.model.steps import Step


def plan(task: TaskState) -> tuple[Step, ...]:
    """The steps that can start now, numbered. ``launched`` marks them as in flight."""
    ready = [
        (rule, entity)
        for rule, entity in applying_rules(task)
        if rule.step is not None and waiting_gate(task, rule, entity) is None
    ]
    return tuple(
        Step(rule.step, entity.name if isinstance(entity, Container) else None, number)
        for number, (rule, entity) in enumerate(ready, start=task.next_step)
        if rule.step is not None
    )


def launched(task: TaskState, steps: tuple[Step, ...]) -> TaskState:
    """The state with the steps in flight: this is what is saved before they are performed."""
    for step in steps:
        if step.container is None:
            task = replace(task, sandbox=replace(task.sandbox, in_flight=_begin(task, step, None)))
        else:
            spec = task.spec.container(step.container)
            started = replace(task.container(step.container), in_flight=_begin(task, step, spec))
            task = with_container(task, started)
    return replace(task, next_step=max((step.number + 1 for step in steps), default=task.next_step))


def next_wake(task: TaskState) -> datetime | None:
    """The earliest moment at which a gate could open, or turn to never, by time alone."""
    moments: list[datetime] = []
    for rule, entity in applying_rules(task):
        waiting = waiting_gate(task, rule, entity)
        if waiting is not None and waiting[1].until is not None:
            moments.append(waiting[1].until)
    return min(moments, default=None)


def applying_rules(
    task: TaskState,
) -> tuple[tuple[Rule[SandboxStatus] | Rule[ContainerStatus], Sandbox | Container], ...]:
    """For each entity that has no step in flight, the rule that applies to it."""
    found: list[tuple[Rule[SandboxStatus] | Rule[ContainerStatus], Sandbox | Container]] = []
    if task.sandbox.in_flight is None and (rule := sandbox_rule(task.sandbox.status, task.sandbox.goal)):
        found.append((rule, task.sandbox))
    found.extend(
        (each, container)
        for container in task.containers
        if container.in_flight is None and (each := container_rule(container.status, container.goal))
    )
    return tuple(found)


def waiting_gate(
    task: TaskState, rule: Rule[SandboxStatus] | Rule[ContainerStatus], entity: Sandbox | Container
) -> tuple[str, NotYet] | None:
    """The first gate that is not open, by name. None: nothing holds the step back."""
    if entity.trouble is not None and entity.trouble.retry_at > task.now:
        return "retry", NotYet(str(entity.trouble.reason), entity.trouble.retry_at)
    for gate in rule.waits_for:
        verdict: Verdict = gate(task, entity)
        if isinstance(verdict, NotYet):
            return gate.__name__, verdict
        if not isinstance(verdict, Open):
            # ``settle`` has turned every Never into a goal before anything is planned.
            return gate.__name__, NotYet(str(verdict.reason), task.now)
    return None


def with_container(task: TaskState, changed: Container) -> TaskState:
    """The task with one container replaced."""
    return replace(
        task,
        containers=tuple(changed if each.name == changed.name else each for each in task.containers),
    )


def _begin(task: TaskState, step: Step, spec: ContainerSpec | None) -> InFlight:
    rule = sandbox_rule_of(step.name) if spec is None else container_rule_of(step.name)
    return InFlight(step, task.now, task.now + limit_of(rule, task.policy, spec))
