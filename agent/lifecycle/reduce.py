"""What an event changes: (state, event) -> state. Everything unknown or late is ignored, explicitly."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from agent.lifecycle import present
from agent.lifecycle.observe import container_with, sandbox_with, with_late_reason
from agent.lifecycle.plan import with_container
from agent.lifecycle.settle import settle, stop_container, stop_task
from agent.lifecycle.table import OnFailure, Rule, container_rule_of, sandbox_rule_of
from agent.model.events import (
    ContainerObserved,
    Event,
    InterfaceAppeared,
    Learned,
    Recovered,
    ReportAccepted,
    ResourcesGranted,
    ResourcesRefused,
    StepFailed,
    StepSucceeded,
    StopRequested,
    TimePassed,
)
from agent.model.observation import PAUSE_NAME, ContainerSnapshot, PulledImage
from agent.model.state import Attachment, Container, Reason, Sandbox, TaskState, Trouble
from agent.model.status import ContainerStatus, Goal, SandboxStatus
from agent.model.steps import Step

FIRST_RETRY = timedelta(seconds=1)
LONGEST_RETRY = timedelta(seconds=60)


def reduce(task: TaskState, event: Event) -> TaskState:
    """The state after the event and all that follows from it."""
    task = present.at(task, event.at)
    match event:
        case StepSucceeded():
            task = _step_succeeded(task, event)
        case StepFailed():
            task = _step_failed(task, event)
        case ContainerObserved():
            task = _container_observed(task, event)
        case ResourcesGranted() | ResourcesRefused():
            task = _resources_answered(task, event)
        case InterfaceAppeared():
            task = _interface_appeared(task)
        case StopRequested():
            task = stop_task(task, Reason("", event.reason) if event.reason else None)
        case ReportAccepted():
            task = replace(task, accepted=event.report)
        case TimePassed():
            task = _give_up_overdue_steps(task)
        case Recovered():
            task = _recovered(task, event)
        case _ as unreachable:
            assert_never(unreachable)
    return settle(task)


def backoff(failures: int) -> timedelta:
    """How long to wait before the next try: 1 s, 2 s, 4 s … one minute."""
    return min(FIRST_RETRY * (1 << min(failures - 1, 10)), LONGEST_RETRY)


def is_in_flight(task: TaskState, step: Step) -> bool:
    """Whether the state still waits for this very step."""
    entity = task.sandbox if step.container is None else task.container(step.container)
    return entity.in_flight is not None and entity.in_flight.step == step


def _step_succeeded(task: TaskState, event: StepSucceeded) -> TaskState:
    if not is_in_flight(task, event.step):
        return task  # given up meanwhile: what it did is seen by looking, not believed
    name = event.step.container
    if name is None:
        becomes = sandbox_rule_of(event.step.name).becomes
        sandbox = replace(task.sandbox, in_flight=None, trouble=None, status=becomes, since=task.now)
        return replace(task, sandbox=_sandbox_learned(sandbox, event.learned))
    container = task.container(name)
    # A look may have shown it there already, or further: no status goes back.
    status = max(container.status, container_rule_of(event.step.name).becomes)
    moved = replace(container, in_flight=None, trouble=None, status=status, since=task.now)
    if container.in_flight and isinstance(event.learned, PulledImage) and event.learned.was_fetched:
        moved = replace(moved, pull_started_at=container.in_flight.since, pull_stopped_at=event.at)
    return with_container(task, _container_learned(moved, event.learned, task.now))


def _sandbox_learned(sandbox: Sandbox, learned: Learned) -> Sandbox:
    if isinstance(learned, ContainerSnapshot):
        return sandbox_with(sandbox, learned)
    if isinstance(learned, Attachment):
        return replace(sandbox, attachment=learned)
    if sandbox.status >= SandboxStatus.DISCONNECTED:
        return replace(sandbox, attachment=None)
    return sandbox


def _container_learned(container: Container, learned: Learned, now: datetime) -> Container:
    if isinstance(learned, ContainerSnapshot):
        return container_with(container, learned, now)
    if isinstance(learned, PulledImage):
        return replace(container, image_id=learned.image_id, image_digest=learned.digest)
    if container.status is ContainerStatus.STOPPED and container.finished_at is None:
        return replace(container, finished_at=now, pid=None)
    return container


def _step_failed(task: TaskState, event: StepFailed) -> TaskState:
    if not is_in_flight(task, event.step):
        return task
    name = event.step.container
    if name is None:
        trouble = _trouble(task, task.sandbox.trouble, event)
        sandbox = replace(task.sandbox, in_flight=None)
        if _is_over(sandbox_rule_of(event.step.name), sandbox):
            return replace(task, sandbox=sandbox)
        if _is_tried_again(task, sandbox_rule_of(event.step.name), trouble, event):
            return replace(task, sandbox=replace(sandbox, trouble=trouble))
        return stop_task(replace(task, sandbox=replace(sandbox, trouble=None)), event.reason)
    rule = container_rule_of(event.step.name)
    trouble = _trouble(task, task.container(name).trouble, event)
    container = replace(task.container(name), in_flight=None)
    if container.status >= rule.becomes:
        # It has had its effect, as a look has shown meanwhile; what is seen is the truth.
        return with_container(task, replace(container, trouble=None))
    if _is_over(rule, container):
        return with_container(task, container)
    if _is_tried_again(task, rule, trouble, event):
        return with_container(task, replace(container, trouble=trouble))
    return stop_container(with_container(task, replace(container, trouble=None)), name, event.reason, None)


def _trouble(task: TaskState, before: Trouble | None, event: StepFailed) -> Trouble:
    failures = before.failures + 1 if before else 1
    return Trouble(event.reason, failures, before.since if before else task.now, task.now + backoff(failures))


def _is_over(rule: Rule[SandboxStatus] | Rule[ContainerStatus], entity: Sandbox | Container) -> bool:
    """Whether the step led up and the goal is down by now: its failure changes and delays nothing."""
    return rule.goal is Goal.RUN and entity.goal > Goal.RUN


def _is_tried_again(
    task: TaskState,
    rule: Rule[SandboxStatus] | Rule[ContainerStatus],
    trouble: Trouble,
    event: StepFailed,
) -> bool:
    if task.goal > Goal.RUN or rule.on_failure is OnFailure.AGAIN:
        return True
    return event.is_unavailable and task.now < trouble.since + task.policy.unavailable_limit


def _container_observed(task: TaskState, event: ContainerObserved) -> TaskState:
    docker_names = {each.name: each.docker_name for each in task.containers}
    docker_name = {**docker_names, PAUSE_NAME: task.sandbox.docker_name}.get(event.container)
    if docker_name is None or (event.snapshot is not None and event.snapshot.docker_name != docker_name):
        return task  # our labels on a container that is not ours, as on one from a committed image
    if event.container == PAUSE_NAME:
        return _pause_seen(task, event.snapshot, event.asked_at)
    return _container_seen(task, task.container(event.container), event.snapshot, event.asked_at)


def _pause_seen(task: TaskState, snapshot: ContainerSnapshot | None, asked_at: datetime) -> TaskState:
    sandbox = task.sandbox
    if not SandboxStatus.PAUSED <= sandbox.status < SandboxStatus.STOPPED or sandbox.in_flight is not None:
        return task
    if snapshot is not None and snapshot.is_running:
        return task
    has_ended = snapshot is not None and snapshot.was_started
    if not has_ended and not _was_there(sandbox.since, asked_at):
        return task  # an old look: it saw nothing yet, or what had not been started yet
    # Its namespace went with it, and its process id may belong to somebody else by now.
    task = replace(task, sandbox=replace(sandbox, pid=None))
    detail = "the task's pause container ended, and with it the task's network"
    return stop_task(task, Reason("ContainerNetworkingError", detail))


def _container_seen(
    task: TaskState, container: Container, snapshot: ContainerSnapshot | None, asked_at: datetime
) -> TaskState:
    if container.status >= ContainerStatus.STOPPED:
        return task if snapshot is None else with_container(task, with_late_reason(container, snapshot))
    if snapshot is not None:
        return with_container(task, container_with(container, snapshot, task.now))
    is_created = container.status >= ContainerStatus.CREATED
    if not is_created or container.in_flight is not None or not _was_there(container.since, asked_at):
        return task
    vanished = Reason("ContainerVanishedError", "No container matching saved ID found")
    gone = replace(
        container,
        status=ContainerStatus.STOPPED,
        since=task.now,
        finished_at=task.now,
        pid=None,
        trouble=None,
    )
    return stop_container(with_container(task, gone), container.name, vanished, None)


def _was_there(since: datetime | None, asked_at: datetime) -> bool:
    """Whether a container that reached its rung at ``since`` must have been in a list asked for later."""
    return since is not None and since < asked_at


def _resources_answered(task: TaskState, event: ResourcesGranted | ResourcesRefused) -> TaskState:
    if isinstance(event, ResourcesRefused):
        return stop_task(task, event.reason)
    if task.granted_at is not None or task.goal > Goal.RUN:
        return task  # who is on the way down needs no leave to begin
    return replace(task, granted_at=task.now)


def _interface_appeared(task: TaskState) -> TaskState:
    if task.sandbox.interface_seen_at is not None or task.now >= task.spec.network.expires_at:
        return task
    return replace(task, sandbox=replace(task.sandbox, interface_seen_at=task.now))


def _give_up_overdue_steps(task: TaskState) -> TaskState:
    """A step whose end was never heard of. The supervisor ends steps in time; this is the second net."""
    for flight in (task.sandbox.in_flight, *(each.in_flight for each in task.containers)):
        if flight is not None and task.now >= flight.until + timedelta(minutes=1):
            waited = f"{flight.step.name} did not end within {flight.until - flight.since}"
            task = _step_failed(task, StepFailed(task.now, flight.step, Reason("DockerTimeoutError", waited)))
    return task


def _recovered(task: TaskState, event: Recovered) -> TaskState:
    """No step of an earlier life is in flight; what the runtime has is taken as the truth."""
    task = replace(
        task,
        sandbox=replace(task.sandbox, in_flight=None, trouble=None),
        containers=tuple(replace(each, in_flight=None, trouble=None) for each in task.containers),
    )
    if event.interface_present:
        task = _interface_appeared(task)
    elif any(each.is_running and not each.is_pause for each in event.snapshots):
        # App containers start on a network only: the interface is inside the sandbox already.
        task = replace(
            task, sandbox=replace(task.sandbox, interface_seen_at=task.sandbox.interface_seen_at or task.now)
        )
    seen = {snapshot.docker_name: snapshot for snapshot in event.snapshots}
    pause = seen.get(task.sandbox.docker_name)
    if pause is not None and pause.is_running and task.sandbox.status is SandboxStatus.ABSENT:
        found = replace(task.sandbox, status=SandboxStatus.PAUSED, since=task.now)
        task = replace(task, sandbox=sandbox_with(found, pause))
    elif pause is not None and pause.is_running:
        task = replace(task, sandbox=sandbox_with(task.sandbox, pause))
    else:
        task = _pause_seen(task, pause, event.asked_at)
    for container in task.containers:
        snapshot = seen.get(container.docker_name)
        task = _container_seen(task, task.container(container.name), snapshot, event.asked_at)
    return task
