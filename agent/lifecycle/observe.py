"""What a look at the runtime means for a rung: it is taken as the truth, but no status goes back."""

from dataclasses import replace
from datetime import datetime

from agent.model.observation import KILLED, ContainerSnapshot
from agent.model.state import Container, Reason, Sandbox
from agent.model.status import ContainerStatus, Goal, Health, SandboxStatus


def sandbox_with(sandbox: Sandbox, snapshot: ContainerSnapshot) -> Sandbox:
    """The sandbox with what was seen of its pause container."""
    is_up = snapshot.is_running and sandbox.status < SandboxStatus.STOPPED
    return replace(sandbox, container_id=snapshot.container_id, pid=snapshot.pid if is_up else None)


def container_with(container: Container, snapshot: ContainerSnapshot, now: datetime) -> Container:
    """The container with what was seen of it; its status rises to what the runtime shows."""
    status = max(container.status, _rung(container, snapshot))
    is_over = status >= ContainerStatus.STOPPED
    changed = replace(
        container,
        status=status,
        since=container.since if status is container.status else now,
        container_id=snapshot.container_id,
        image_id=snapshot.image_id or container.image_id,
        pid=None if is_over else snapshot.pid,
        created_at=container.created_at or snapshot.created_at,
        started_at=snapshot.started_at or container.started_at,
        finished_at=(snapshot.finished_at or container.finished_at or now) if is_over else None,
        exit_code=_exit_code(container, snapshot) if is_over else container.exit_code,
    )
    if is_over and status is not container.status:
        # whatever was in flight for it has lost its object
        changed = replace(changed, in_flight=None, trouble=None)
    return _with_health(_with_reason(changed, snapshot, is_over=is_over), snapshot, now)


def with_late_reason(container: Container, snapshot: ContainerSnapshot) -> Container:
    """A container that has ended, with the mark of the OOM killer that comes only now."""
    if not snapshot.was_oom_killed or snapshot.exit_code != container.exit_code:
        return container
    return _with_reason(container, snapshot, is_over=True)


def _rung(container: Container, snapshot: ContainerSnapshot) -> ContainerStatus:
    if snapshot.is_running:
        return ContainerStatus.RUNNING
    if snapshot.was_started:
        return ContainerStatus.STOPPED
    if container.status is ContainerStatus.STOPPED:
        return ContainerStatus.STOPPED
    return ContainerStatus.CREATED


def _exit_code(container: Container, snapshot: ContainerSnapshot) -> int | None:
    if snapshot.was_started and snapshot.exit_code is not None:
        return snapshot.exit_code
    return container.exit_code


def _with_reason(container: Container, snapshot: ContainerSnapshot, *, is_over: bool) -> Container:
    """Docker's own error, overridden by the OOM mark (ecs-protocol 8.5). The first reason stays."""
    if not is_over or container.reason is not None:
        return container
    # When a task's own limit is hit, Docker marks all of its containers. One that was asked to end later, and
    # did so by itself, was not the one that the kernel killed.
    if snapshot.was_oom_killed and (container.goal is Goal.RUN or snapshot.exit_code == KILLED):
        reason = Reason("OutOfMemoryError", "Container killed due to memory usage")
        return replace(container, reason=reason)
    if snapshot.error:
        return replace(container, reason=Reason("DockerStateError", snapshot.error))
    return container


def _with_health(container: Container, snapshot: ContainerSnapshot, now: datetime) -> Container:
    if not snapshot.is_running or snapshot.health is Health.UNKNOWN is container.health:
        return container  # Docker calls a container unhealthy because it was stopped; that says nothing of it
    if snapshot.health is container.health:
        return replace(container, health_output=snapshot.health_output)
    return replace(
        container,
        health=snapshot.health,
        health_since=snapshot.health_since or now,
        health_output=snapshot.health_output,
    )
