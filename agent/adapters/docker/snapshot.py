"""What Docker says about a container, in our words. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agent.adapters.docker.translate import CONTAINER_LABEL, TASK_LABEL
from agent.model.ids import ContainerId, TaskArn
from agent.model.observation import ContainerSnapshot
from agent.model.status import Health

LONGEST_HEALTH_OUTPUT = 1024
"""How much of a health check's last output is kept (ecs-protocol 8.5)."""

_NEVER = "0001-01-01T00:00:00Z"
_HEALTH = {"healthy": Health.HEALTHY, "unhealthy": Health.UNHEALTHY}
_MICROSECOND_DIGITS = 6


def snapshot_of(inspected: Mapping[str, Any], observed_at: datetime) -> ContainerSnapshot:
    """A container's inspect answer as a snapshot. ``observed_at``: when Docker was asked."""
    state: Mapping[str, Any] = inspected.get("State") or {}
    labels: Mapping[str, str] = (inspected.get("Config") or {}).get("Labels") or {}
    # A dead container is one whose removal has failed: Docker calls it neither running nor exited.
    is_running = bool(state.get("Running")) and not state.get("Dead")
    started_at = moment(state.get("StartedAt"))
    finished_at = None if is_running else moment(state.get("FinishedAt"))
    health, health_since, health_output = _health(state.get("Health") or {})
    return ContainerSnapshot(
        container_id=ContainerId(inspected["Id"]),
        docker_name=str(inspected.get("Name", "")).removeprefix("/"),
        task_arn=TaskArn(labels.get(TASK_LABEL, "")),
        container_name=labels.get(CONTAINER_LABEL, ""),
        observed_at=observed_at,
        is_running=is_running,
        was_started=is_running or started_at is not None,
        pid=(state.get("Pid") or None) if is_running else None,
        created_at=moment(inspected.get("Created")),
        started_at=started_at,
        finished_at=finished_at,
        exit_code=state.get("ExitCode") if finished_at is not None else None,
        was_oom_killed=bool(state.get("OOMKilled")) and not is_running,
        error=str(state.get("Error") or ""),
        health=health,
        health_since=health_since,
        health_output=health_output,
        image_id=str(inspected.get("Image") or ""),
    )


def end_told_by(event: Mapping[str, Any]) -> ContainerSnapshot:
    """What a ``die`` event says of a container that is gone before anybody could look at it."""
    actor = event.get("Actor") or {}
    attributes: Mapping[str, str] = actor.get("Attributes") or {}
    ended_at = datetime.fromtimestamp(int(event.get("timeNano") or 0) / 1e9, UTC)
    code = attributes.get("exitCode", "")
    return ContainerSnapshot(
        container_id=ContainerId(actor.get("ID", "")),
        docker_name=attributes.get("name", ""),
        task_arn=TaskArn(attributes.get(TASK_LABEL, "")),
        container_name=attributes.get(CONTAINER_LABEL, ""),
        observed_at=ended_at,
        is_running=False,
        was_started=True,
        finished_at=ended_at,
        exit_code=int(code) if code.isdecimal() else None,
    )


def moment(text: str | None) -> datetime | None:
    """A time as Docker writes it, with nanoseconds, in UTC or with an offset. None: it never happened."""
    if not text or text == _NEVER:
        return None
    head, dot, rest = text.partition(".")
    if dot:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        zone = rest[len(digits) :]
        text = f"{head}.{digits[:_MICROSECOND_DIGITS].ljust(_MICROSECOND_DIGITS, '0')}{zone}"
    return datetime.fromisoformat(text).astimezone(UTC)


def _health(health: Mapping[str, Any]) -> tuple[Health, datetime | None, str]:
    status = _HEALTH.get(str(health.get("Status")), Health.UNKNOWN)
    probes = health.get("Log") or ()
    if status is Health.UNKNOWN or not probes:
        return status, None, ""
    last = probes[-1]
    return status, moment(last.get("End")), str(last.get("Output") or "")[:LONGEST_HEALTH_OUTPUT]
