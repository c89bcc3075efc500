"""What the process is watched by, from inside and from outside, and what is said of it in one line."""

from dataclasses import dataclass

from agent.adapters.clock import SystemClock
from agent.adapters.host.notify import Notifier
from agent.daemon.parts import Parts
from agent.daemon.pulse import Pulse, describe
from agent.endpoints.health import HealthBoard
from agent.lifecycle.derive import task_status
from agent.model.progress import Loop, Progress
from agent.model.status import TaskStatus
from agent.settings import Supervision


@dataclass(frozen=True, slots=True)
class Watched:
    """There from the first moment on. ``start``: the start, as a loop that must get on."""

    clock: SystemClock
    health: HealthBoard
    progress: Progress
    notifier: Notifier
    pulse: Pulse
    start: Loop
    received: tuple[tuple[str, int], ...] = ()
    """Names and numbers of the descriptors that the supervisor has handed over."""


def watched_by(supervision: Supervision) -> Watched:
    """A process that such a supervisor has started."""
    clock, progress = SystemClock(), Progress()
    health = HealthBoard(clock)
    notifier = Notifier(supervision.notify_socket, health)
    pulse = Pulse(progress, notifier, health, supervision.watchdog)
    return Watched(clock, health, progress, notifier, pulse, Loop("start", progress), supervision.received)


def status_text(parts: Parts) -> str:
    """How many tasks run, how the backend is reached, what is wrong."""
    known = parts.node.tasks()
    running = sum(task_status(task) is TaskStatus.RUNNING for task in known)
    channels = parts.control.channels()
    is_joining = parts.settings.backend == "ecs" and not channels
    return describe(
        running,
        len(known),
        f"joining the cluster {parts.settings.cluster}" if is_joining else "",
        channels,
        parts.health.snapshot(),
    )
