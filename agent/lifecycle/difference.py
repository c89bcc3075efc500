"""What changed between two states of a task, as log lines: one per fact, complete by construction."""

from agent.model.state import Container, Sandbox, TaskState

Value = str | int | None
Line = tuple[str, dict[str, Value]]
"""The literal name of an event and its fields."""


def differences(before: TaskState, after: TaskState) -> tuple[Line, ...]:
    """Every status, goal, reason, health, step, interface and report that is not as it was.

    Lines about the task or its sandbox carry ``of``, lines about a container carry ``container``.
    """
    lines: list[Line] = []
    if before.granted_at is None and after.granted_at is not None:
        lines.append(("resources.granted", {"of": "task"}))
    if before.stop_requested_at is None and after.stop_requested_at is not None:
        lines.append(("stop.requested", {"of": "task"}))
    if after.goal is not before.goal:
        lines.append(("goal.raised", {"of": "task", "old": before.goal.name, "new": after.goal.name}))
    if after.reason is not None and after.reason != before.reason:
        lines.append(("reason.set", {"of": "task", "reason": str(after.reason)}))
    lines += _of_sandbox(before.sandbox, after.sandbox)
    earlier = {container.name: container for container in before.containers}
    for container in after.containers:
        if container.name in earlier:
            lines += _of_container(earlier[container.name], container)
    if before.execution_stopped_at is None and after.execution_stopped_at is not None:
        lines.append(("execution.stopped", {"of": "task"}))
    if before.stopped_at is None and after.stopped_at is not None:
        lines.append(("task.stopped", {}))
    if after.accepted is not None and after.accepted != before.accepted:
        lines.append(("report.accepted", {"of": "task", "status": after.accepted.status.value}))
    return tuple(lines)


def _of_sandbox(before: Sandbox, after: Sandbox) -> list[Line]:
    lines: list[Line] = []
    if before.interface_seen_at is None and after.interface_seen_at is not None:
        lines.append(("interface.seen", {"of": "sandbox"}))
    if before.attachment is None and after.attachment is not None:
        lines.append(("network.attached", {"of": "sandbox", "local_ipv4": after.attachment.local_ipv4}))
    if before.attachment is not None and after.attachment is None:
        lines.append(("network.detached", {"of": "sandbox", "local_ipv4": before.attachment.local_ipv4}))
    return lines + _of_entity({"of": "sandbox"}, before, after)


def _of_container(before: Container, after: Container) -> list[Line]:
    who: dict[str, Value] = {"container": after.name}
    lines = _of_entity(who, before, after)
    if after.exit_code is not None and before.exit_code is None:
        lines.append(("container.exited", {**who, "exit_code": after.exit_code}))
    if after.reason is not None and after.reason != before.reason:
        lines.append(("reason.set", {**who, "reason": str(after.reason)}))
    if after.health is not before.health:
        output = after.health_output
        old, new = before.health.value, after.health.value
        lines.append(("health.changed", {**who, "old": old, "new": new, "output": output}))
    return lines


def _of_entity(who: dict[str, Value], before: Sandbox | Container, after: Sandbox | Container) -> list[Line]:
    lines: list[Line] = []
    if after.goal is not before.goal:
        lines.append(("goal.raised", {**who, "old": before.goal.name, "new": after.goal.name}))
    if after.status is not before.status:
        lines.append(("status.raised", {**who, "old": before.status.name, "new": after.status.name}))
    trouble = after.trouble
    if trouble is not None and trouble != before.trouble:
        retry_at = trouble.retry_at.isoformat()
        why = str(trouble.reason)
        lines.append(
            ("step.postponed", {**who, "failures": trouble.failures, "retry_at": retry_at, "reason": why})
        )
    if after.in_flight is not None and after.in_flight != before.in_flight:
        step = after.in_flight.step
        lines.append(("step.started", {**who, "step": step.name.value, "number": step.number}))
    return lines
