"""What follows at once from a state: raised goals, broken hopes, moves without a step."""

from dataclasses import replace

from agent.lifecycle.gates import Never
from agent.lifecycle.plan import applying_rules, with_container
from agent.lifecycle.table import Rule, container_rule
from agent.model.state import Container, Reason, Sandbox, TaskState
from agent.model.status import ContainerStatus, Goal, SandboxStatus

ORDERING_EXIT_CODE = 143
"""The exit code of a container that never ran because its dependency failed (ecs-protocol 4.6)."""


def settle(task: TaskState) -> TaskState:
    """Apply every consequence until nothing changes. Each round raises a rung or a goal, so it ends."""
    while (settled := _one_round(task)) != task:
        task = settled
    return task


def stop_container(task: TaskState, name: str, reason: Reason | None, exit_code: int | None) -> TaskState:
    """The container must go down; the first reason and the first exit code stay."""
    container = task.container(name)
    stopping = replace(
        container,
        goal=max(container.goal, Goal.STOP),
        trouble=None if container.goal < Goal.STOP else container.trouble,
        reason=container.reason or reason,
        exit_code=container.exit_code if container.exit_code is not None else exit_code,
    )
    task = with_container(task, stopping)
    if task.spec.container(name).essential:
        return stop_task(task, reason)
    return task


def stop_task(task: TaskState, reason: Reason | None) -> TaskState:
    """The whole task must go down; the first reason stays."""
    if task.goal >= Goal.STOP:
        return task
    return replace(task, goal=Goal.STOP, reason=task.reason or reason, stop_requested_at=task.now)


def _one_round(task: TaskState) -> TaskState:
    task = _heed_essential_exits(task)
    task = _lower_everything(task)
    task = _give_up_what_yields(task)
    task = _heed_never(task)
    task = _move_without_steps(task)
    return _mark_milestones(task)


def _heed_essential_exits(task: TaskState) -> TaskState:
    for container, spec in task.with_specs():
        if spec.essential and container.status >= ContainerStatus.STOPPED:
            task = stop_task(task, container.reason)
            if task.execution_stopped_at is None:
                # The first essential container's end, whatever ended it (ecs-protocol 4.10).
                task = replace(task, execution_stopped_at=container.finished_at or task.now)
    return task


def _lower_everything(task: TaskState) -> TaskState:
    """A goal of the task is a goal of all its parts. Nobody waits for the next try of what is over."""
    sandbox = task.sandbox
    if sandbox.goal < task.goal:
        task = replace(task, sandbox=replace(sandbox, goal=task.goal, trouble=None))
    for container in task.containers:
        if container.goal < task.goal:
            task = with_container(task, replace(container, goal=task.goal, trouble=None))
    return task


def _give_up_what_yields(task: TaskState) -> TaskState:
    for container in task.containers:
        rule = container_rule(container.status, Goal.RUN)
        if container.goal >= Goal.STOP and container.in_flight and rule and rule.yields_to_stop:
            task = with_container(task, replace(container, in_flight=None))
    return task


def _heed_never(task: TaskState) -> TaskState:
    for rule, entity in applying_rules(task):
        reason = _hopeless(task, rule, entity)
        if reason is not None and isinstance(entity, Container):
            task = stop_container(task, entity.name, reason, ORDERING_EXIT_CODE)
        elif reason is not None:
            task = stop_task(task, reason)
    return task


def _hopeless(
    task: TaskState, rule: Rule[SandboxStatus] | Rule[ContainerStatus], entity: Sandbox | Container
) -> Reason | None:
    if entity.goal > Goal.RUN:
        return None  # gates of the way down never answer Never
    for gate in rule.waits_for:
        verdict = gate(task, entity)
        if isinstance(verdict, Never):
            return verdict.reason
    return None


def _move_without_steps(task: TaskState) -> TaskState:
    for rule, entity in applying_rules(task):
        if rule.step is None and isinstance(entity, Container) and isinstance(rule.becomes, ContainerStatus):
            task = with_container(task, replace(entity, status=rule.becomes, since=task.now, trouble=None))
    return task


def _mark_milestones(task: TaskState) -> TaskState:
    essential = [container for container, spec in task.with_specs() if spec.essential]
    if task.started_at is None and all(each.status is ContainerStatus.RUNNING for each in essential):
        task = replace(task, started_at=task.now)
    is_over = task.sandbox.status >= SandboxStatus.STOPPED and all(
        each.status >= ContainerStatus.STOPPED for each in task.containers
    )
    if is_over and task.stopped_at is None:
        task = replace(task, stopped_at=task.now)
    if is_over and task.goal < Goal.REMOVE:
        task = replace(task, goal=Goal.REMOVE)
    return task
