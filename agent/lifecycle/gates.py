"""Named conditions that a step waits for. A gate has three answers: open, not yet, never."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from agent.lifecycle.admission import demand
from agent.model.spec import Condition
from agent.model.state import Container, Reason, Sandbox, TaskState
from agent.model.status import ContainerStatus, Health, SandboxStatus, TaskStatus

DELIVERY_PATIENCE = timedelta(hours=72)
"""How long a stopped task is kept for a backend that does not take its last report (ecs-protocol 4.12)."""

STEP_PATIENCE = timedelta(minutes=2)
"""What is added to the announced end of another thing's step, when one thing waits for another."""


@dataclass(frozen=True, slots=True)
class Open:
    """Go ahead."""


@dataclass(frozen=True, slots=True)
class NotYet:
    """Wait. ``until``: when the answer will be another one at the latest. None: only an event changes it."""

    cause: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Never:
    """It will never be open; ``reason`` says why."""

    reason: Reason


Verdict = Open | NotYet | Never
Gate = Callable[[TaskState, Sandbox | Container], Verdict]
"""A condition by name: ``gate.__name__`` is the word used in the table, in ``explain`` and in the docs."""


def resources_granted(task: TaskState, entity: Sandbox | Container) -> Verdict:
    """This machine has room for the task: its turn in the queue has come, and CPU and memory are kept for it.

    There is no deadline of its own (ecs-protocol 4.11). But whose interface never comes waits for nothing.
    """
    if task.granted_at is not None:
        return Open()
    cause = f"this machine has no room yet for the task's {demand(task.spec)}"
    if not isinstance(entity, Sandbox):
        return NotYet(cause, None)
    interface = interface_present(task, entity)
    if isinstance(interface, NotYet):
        return NotYet(f"{cause}, and {interface.cause}", interface.until)
    return interface if isinstance(interface, Never) else NotYet(cause, None)


def interface_present(task: TaskState, _: Sandbox | Container) -> Verdict:
    """The task's ENI has appeared on this machine."""
    network = task.spec.network
    if task.sandbox.interface_seen_at is not None:
        return Open()
    name = f"network interface {network.eni_id} ({network.mac_address})"
    if task.now < network.expires_at:
        return NotYet(f"the {name} has not appeared on this machine yet", network.expires_at)
    return Never(
        Reason(
            "ContainerNetworkingError",
            f"the {name} did not appear on this machine before its attachment expired at "
            f"{network.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        )
    )


def sandbox_paused(task: TaskState, _: Sandbox | Container) -> Verdict:
    """The pause container runs, so that there is a namespace to join."""
    return _sandbox_at_least(task, SandboxStatus.PAUSED, "the pause container is not running yet")


def sandbox_connected(task: TaskState, _: Sandbox | Container) -> Verdict:
    """The sandbox is on the network."""
    return _sandbox_at_least(task, SandboxStatus.CONNECTED, "the task's network is not set up yet")


def dependencies_met(task: TaskState, entity: Sandbox | Container) -> Verdict:
    """Every ``dependsOn`` condition of the container holds."""
    waits: list[NotYet] = []
    for dependency in task.spec.container(entity.name if isinstance(entity, Container) else "").depends_on:
        verdict = _dependency(task, entity, dependency.container, dependency.condition)
        if isinstance(verdict, Never):
            return verdict
        if isinstance(verdict, NotYet):
            waits.append(verdict)
    if waits:
        # The first of them that passes its limit turns all of it to never.
        limits = (wait.until for wait in waits if wait.until is not None)
        return NotYet("; ".join(wait.cause for wait in waits), min(limits, default=None))
    return Open()


def dependents_stopped(task: TaskState, entity: Sandbox | Container) -> Verdict:
    """Nothing that depends on this container still runs: stop in reverse order."""
    running = [
        container
        for container, spec in task.with_specs()
        if any(isinstance(entity, Container) and each.container == entity.name for each in spec.depends_on)
        and (container.status is ContainerStatus.RUNNING or container.in_flight is not None)
    ]
    if not running:
        return Open()
    return NotYet(f"{_names(running)} must stop first", _expected_end(task, running))


def containers_stopped(task: TaskState, _: Sandbox | Container) -> Verdict:
    """The network stays until the last member of the sandbox is gone."""
    left = [container for container in task.containers if container.status < ContainerStatus.STOPPED]
    if not left:
        return Open()
    return NotYet(f"{_names(left)} must stop first", _expected_end(task, left))


def containers_removed(task: TaskState, _: Sandbox | Container) -> Verdict:
    """Every app container of the task is removed."""
    left = [container for container in task.containers if container.status < ContainerStatus.REMOVED]
    if not left:
        return Open()
    return NotYet(f"{_names(left)} must be removed first", _expected_end(task, left))


def stop_reported(task: TaskState, _: Sandbox | Container) -> Verdict:
    """The backend has taken the report that the task is STOPPED, or was given long enough to."""
    if task.accepted is not None and task.accepted.status is TaskStatus.STOPPED:
        return Open()
    until = (task.stopped_at or task.now) + DELIVERY_PATIENCE
    if task.now >= until:
        return Open()
    return NotYet("the backend has not taken the report that the task is STOPPED", until)


def retention_over(task: TaskState, _: Sandbox | Container) -> Verdict:
    """The stopped containers have been kept long enough for somebody to look at their logs."""
    until = (task.stopped_at or task.now) + task.policy.retention
    if task.now >= until:
        return Open()
    return NotYet("stopped containers are kept for a while, for their logs", until)


def _sandbox_at_least(task: TaskState, status: SandboxStatus, cause: str) -> Verdict:
    if task.sandbox.status >= SandboxStatus.DISCONNECTED or task.sandbox.goal > 0:
        return Never(task.reason or Reason("ContainerNetworkingError", "the task's sandbox is going down"))
    if task.sandbox.status >= status:
        return Open()
    if task.sandbox.in_flight is not None:
        return NotYet(cause, task.sandbox.in_flight.until)
    verdict = interface_present(task, task.sandbox)
    if isinstance(verdict, NotYet):
        return NotYet(f"{cause}: {verdict.cause}", verdict.until)
    return NotYet(cause, task.now + task.policy.start_limit)


def _dependency(task: TaskState, entity: Sandbox | Container, name: str, condition: Condition) -> Verdict:
    dependency = task.container(name)
    target = entity.name if isinstance(entity, Container) else "sandbox"
    is_over = dependency.status >= ContainerStatus.STOPPED
    match condition:
        case Condition.START:
            # One that is over meets it also if it never ran: only its order is asked for (ecs-protocol 4.6).
            is_met = dependency.started_at is not None or is_over
            failure = "because dependency will never start"
        case Condition.COMPLETE:
            is_met = is_over and dependency.exit_code is not None and dependency.started_at is not None
            failure = "because dependency will never start"
        case Condition.SUCCESS:
            is_met = is_over and dependency.exit_code == 0 and dependency.started_at is not None
            failure = "as dependency did not exit successfully"
        case Condition.HEALTHY:
            is_met = dependency.health is Health.HEALTHY and dependency.status is ContainerStatus.RUNNING
            failure = "as dependency stopped before it was healthy"
        case _ as unreachable:
            assert_never(unreachable)
    if is_met:
        return Open()
    if is_over:
        return Never(_ordering_error(name, target, failure))
    return _until_the_start_timeout(task, dependency, target, condition)


def _until_the_start_timeout(
    task: TaskState, dependency: Container, target: str, condition: Condition
) -> Verdict:
    # startTimeout belongs to the dependency and counts from its own start (ecs-protocol 4.6).
    timeout = task.spec.container(dependency.name).start_timeout
    since = dependency.started_at
    if since is not None and timeout is not None and condition is not Condition.START:
        until = since + timedelta(seconds=timeout)
    else:
        # The time in the queue for room on this machine is nobody's fault, and has no limit of its own.
        until = (since or task.granted_at or task.accepted_at) + task.policy.dependency_limit
    if task.now >= until:
        detail = f"dependency graph: container ordering dependency [{dependency.name}] for target [{target}] "
        return Never(Reason("CannotStartContainerError", detail + "has timed out."))
    word = {
        Condition.START: "started",
        Condition.COMPLETE: "run to its end",
        Condition.SUCCESS: "exited with 0",
        Condition.HEALTHY: "become healthy",
    }[condition]
    return NotYet(f"container {dependency.name} has not {word} yet", until)


def _ordering_error(name: str, target: str, failure: str) -> Reason:
    return Reason(
        "CannotStartContainerError",
        f"dependency graph: failed to resolve container ordering dependency [{name}] for target [{target}] "
        f"{failure}.",
    )


def _names(containers: list[Container]) -> str:
    return ", ".join(container.name for container in containers)


def _expected_end(task: TaskState, containers: list[Container]) -> datetime:
    """When the slowest should be done: its step's limit, its retry, or a stop that has yet to begin."""
    ends = [task.now + STEP_PATIENCE]
    for container in containers:
        if container.in_flight is not None:
            ends.append(container.in_flight.until)
        elif container.trouble is not None:
            ends.append(container.trouble.retry_at + STEP_PATIENCE)
        else:
            grace = task.spec.container(container.name).stop_timeout
            ends.append(
                task.now
                + STEP_PATIENCE
                + (task.policy.stop_grace if grace is None else timedelta(seconds=grace))
            )
    return max(ends)
