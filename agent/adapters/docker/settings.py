"""What the Docker adapter is told by the root: where Docker is, how long to wait, how to mark things."""

import os
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from agent.model.spec import Pairs

_CORES = os.cpu_count() or 1


MACHINE = Path("/proc/1/root")
"""The root of the machine, seen from a container in its PID namespace."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How long each class of call may take (ecs-protocol 8.4). ``stop`` comes on top of the grace.

    ``stop_margin``: how long after the grace the agent waits for Docker before it kills by itself.
    """

    ping: timedelta = timedelta(seconds=5)
    inspect: timedelta = timedelta(seconds=30)
    list: timedelta = timedelta(minutes=10)
    load: timedelta = timedelta(minutes=2)
    create: timedelta = timedelta(minutes=4)
    start: timedelta = timedelta(minutes=3)
    stop: timedelta = timedelta(minutes=2)
    stop_margin: timedelta = timedelta(seconds=4)
    remove: timedelta = timedelta(minutes=5)
    volume: timedelta = timedelta(minutes=5)
    pull_begin: timedelta = timedelta(minutes=5)
    pull_inactivity: timedelta = timedelta(minutes=1)
    pull: timedelta = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class PullPolicy:
    """How often a pull is tried, and the growing pause between two tries (ecs-protocol 4.8)."""

    attempts: int = 5
    first_pause: timedelta = timedelta(seconds=1.1)
    longest_pause: timedelta = timedelta(seconds=5)
    growth: float = 2.0


@dataclass(frozen=True, slots=True)
class PauseImage:
    """An image that comes with the agent: loaded from ``archive`` if ``image_id`` is absent, never pulled."""

    image_id: str
    name: str
    archive: Path


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """Everything the adapter needs.

    ``region`` empty: none is injected. ``labels`` are put on every container and volume besides the ECS ones,
    and together with ``cluster`` they say which containers are this agent's. ``task_limits``: whether each
    task gets a control group below ``cgroup_parent``. ``default_log_options`` apply to ``default_log_driver``
    where a container does not set them. ``start_slots``: how many starts run at once, in order of asking.
    """

    cluster: str
    pause: PauseImage
    host: str = "unix:///var/run/docker.sock"
    region: str = ""
    labels: Pairs = ()
    start_slots: int = 2 * _CORES
    pull_slots: int = 4
    limits: CallLimits = field(default_factory=CallLimits)
    pulls: PullPolicy = field(default_factory=PullPolicy)
    task_limits: bool = True
    cgroup_root: Path = Path("/sys/fs/cgroup")
    cgroup_parent: str = "/ecs"
    cpu_period: timedelta = timedelta(milliseconds=100)
    default_log_driver: str = "json-file"
    default_log_options: Pairs = (("max-size", "16m"), ("max-file", "4"))
