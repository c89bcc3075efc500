"""The agent in a cluster of Amazon ECS, as the control plane sees it: from its message until it is told.

The stand-in runs in a process of its own; what it costs is a figure too, since it shares the machine. Metrics
are on, certificates are checked, images are here already, and bare Docker takes turns with the agent.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.benchmarks.ecs_stage import Appearances, ClusterAgent, cluster_agent
from tests.benchmarks.figures import Figure, high, median, table
from tests.benchmarks.floor import SLOTS, Floor, copied
from tests.benchmarks.launch import QUIET
from tests.benchmarks.stage import rollup

PEER_SINGLE, PEER_BURSTS = 1.7, {20: 1.5, 50: 1.4}
"""Times the floor."""

PEER_STOP, PEER_ATTACHED = 170.0, 9.0
"""Milliseconds."""

PEER_BACK, PEER_IDLE_RSS = 1.0, 54.0
"""Seconds until a heartbeat after a restart, and MiB without tasks."""

TASKS_AT_RESTART = 10

SETTLE_SECONDS = 25.0
"""After the last launch: with 50 tasks the 20 s that begin 5 s after it were seen to cost twice the later ones."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How often everything is done. ``bursts``: how many tasks, how often. ``grown``: tasks of the footprints."""

    singles: int = 20
    bursts: tuple[tuple[int, int], ...] = ((20, 2), (50, 2))
    starts: int = 5
    idle_s: float = 60.0
    grown: tuple[int, ...] = (0, 10, 50)


def measure(effort: Effort | None = None) -> list[Figure]:
    """Two agents, one after the other: the first for times, the second, which is fresh, for what it takes."""
    chosen = effort or Effort()
    figures: list[Figure] = []
    with cluster_agent() as agent, copied(agent) as floor, Appearances() as appearances:
        figures += _said(_singles(agent, floor, appearances, chosen.singles))
        for count, rounds in chosen.bursts:
            figures += _said(_bursts(agent, floor, count, rounds))
    with cluster_agent() as agent:
        figures += _said(_starts(agent, chosen.starts))
        arns: list[str] = []
        for count in chosen.grown:
            arns += _grown(agent, count - len(arns))
            figures += _said(_footprint(agent, count, chosen.idle_s))
            if count == TASKS_AT_RESTART:
                figures += _said(_restarts(agent, arns, chosen.starts))
        agent.end(arns)
    return figures


def _singles(agent: ClusterAgent, floor: Floor, appearances: Appearances, rounds: int) -> list[Figure]:
    """One task after the other. Floor and agent take turns, so that the machine disturbs both alike."""
    starts: list[float] = []
    stops: list[float] = []
    attached: list[float] = []
    costs = _Costs(agent)
    bare_starts: list[float] = []
    bare_stops: list[float] = []
    for _ in range(rounds):
        time.sleep(QUIET)
        bare_starts.append(1000 * floor.launch(1))
        time.sleep(QUIET)
        bare_stops.append(1000 * floor.stop())
        floor.clear()
        arns = agent.planned(1)
        appearances.expect(agent.interface(arns[0]).mac)
        time.sleep(QUIET)  # a device of EC2 comes seconds after its announcement
        agent.appear(arns[0])
        reported = agent.plane.attached(arns)[0]
        attached.append(1000 * (reported - appearances.at(agent.interface(arns[0]).mac)))
        time.sleep(QUIET)
        with costs.counted():
            began = agent.plane.send(arns, "RUNNING")
            starts.append(1000 * (agent.plane.reached(arns, "RUNNING")[0] - began))
        time.sleep(QUIET)
        began = agent.plane.send(arns, "STOPPED")
        stops.append(1000 * (agent.plane.reached(arns, "STOPPED")[0] - began))
        agent.release(arns)
        agent.await_removal()
    return [
        Figure("ecs.payload_to_running", median(starts), "ms", median(bare_starts), peer=PEER_SINGLE),
        Figure("ecs.payload_to_running.p95", high(starts), "ms", high(bare_starts)),
        Figure("ecs.payload_to_running.cpu", 1000 * costs.agent / rounds, "ms"),
        Figure("ecs.payload_to_running.plane.cpu", 1000 * costs.plane / rounds, "ms"),
        Figure(
            "ecs.stop_to_stopped", median(stops), "ms", median(bare_stops), peer=PEER_STOP, peer_is_value=True
        ),
        Figure("ecs.stop_to_stopped.p95", high(stops), "ms", high(bare_stops)),
        Figure("ecs.attach_to_attached", median(attached), "ms", peer=PEER_ATTACHED),
        Figure("ecs.attach_to_attached.p95", high(attached), "ms"),
    ]


def _bursts(agent: ClusterAgent, floor: Floor, count: int, rounds: int) -> list[Figure]:
    """Many tasks at once, whose interfaces are here: from the first payload until the last one is reported."""
    lasted: list[float] = []
    halves: list[float] = []
    costs = _Costs(agent)
    bare: dict[int, list[float]] = {slots: [] for slots in SLOTS}
    for _ in range(rounds):
        for slots, took in bare.items():
            time.sleep(QUIET)
            took.append(floor.launch(count, slots))
            floor.clear()
        arns = agent.prepared(count)
        time.sleep(QUIET)
        with costs.counted():
            began = agent.plane.send(arns, "RUNNING")
            running = sorted(at - began for at in agent.plane.reached(arns, "RUNNING"))
        lasted.append(running[-1])
        halves.append(running[len(running) // 2])
        agent.end(arns)
    least = min(median(took) for took in bare.values())
    return [
        Figure(f"ecs.burst{count}", median(lasted), "s", least, peer=PEER_BURSTS.get(count)),
        Figure(f"ecs.burst{count}.half", median(halves), "s"),
        Figure(f"ecs.burst{count}.cpu", 1000 * costs.agent / rounds / count, "ms"),
        Figure(f"ecs.burst{count}.plane.cpu", 1000 * costs.plane / rounds / count, "ms"),
    ]


def _starts(agent: ClusterAgent, rounds: int) -> list[Figure]:
    """Without tasks: until it answers, and until it is in its cluster again after it was told to end."""
    ready: list[float] = []
    for _ in range(rounds):
        agent.stop()
        ready.append(agent.join())
    return [
        Figure("ecs.start_to_ready", median(ready), "s"),
        *_back(agent, rounds, agent.stop, "ecs.start", None),
    ]


def _restarts(agent: ClusterAgent, arns: Sequence[str], rounds: int) -> list[Figure]:
    """After ``kill -9`` with tasks, all of which must run on."""
    before = sorted(agent.containers())
    figures = _back(agent, rounds, agent.kill, "ecs.restart", PEER_BACK)
    agent.plane.reached(list(arns), "RUNNING")  # says so if one has ended
    if sorted(agent.containers()) != before:
        raise AssertionError("containers have changed over a restart")
    return figures


def _back(
    agent: ClusterAgent, rounds: int, end: Callable[[], None], name: str, peer: float | None
) -> list[Figure]:
    registered: list[float] = []
    heartbeats: list[float] = []
    for _ in range(rounds):
        time.sleep(QUIET)
        end()
        time.sleep(QUIET)
        # Nobody asks it whether it answers: that would take the time that is measured.
        began = agent.launch()
        registered.append(agent.plane.registered(began) - began)
        heartbeats.append(agent.plane.heartbeat(began) - began)
        agent.plane.connected()
    return [
        Figure(f"{name}_to_registered", median(registered), "s"),
        Figure(f"{name}_to_heartbeat", median(heartbeats), "s", peer=peer),
    ]


def _grown(agent: ClusterAgent, count: int) -> list[str]:
    arns = agent.run(count)
    agent.await_status(arns, "RUNNING", every=0.5)
    return arns


def _footprint(agent: ClusterAgent, count: int, seconds: float) -> list[Figure]:
    """What it takes with so many tasks and nothing to do but to measure them and to tell it."""
    time.sleep(SETTLE_SECONDS)
    costs = _Costs(agent)
    told = agent.plane.telemetry()
    with costs.counted():
        time.sleep(seconds)
    told = agent.plane.telemetry() - told
    own = rollup(agent.pid)
    host_pid = agent.host_pid()
    host = (0.0, 0.0) if host_pid is None else rollup(host_pid)
    tasks = f"{count}tasks"
    return [
        Figure(f"ecs.cpu_idle_minute.{tasks}", costs.agent * 60 / seconds, "s/min"),
        Figure(f"ecs.cpu_idle_minute.{tasks}.plane", costs.plane * 60 / seconds, "s/min"),
        Figure(f"ecs.metrics_messages.{tasks}", told * 60 / seconds, "1/min"),
        Figure(f"ecs.rss.{tasks}", own[0], "MiB", peer=None if count else PEER_IDLE_RSS),
        Figure(f"ecs.pss.{tasks}", own[1], "MiB"),
        Figure(f"ecs.rss.{tasks}.host", host[0], "MiB"),
        Figure(f"ecs.pss.{tasks}.both", own[1] + host[1], "MiB"),
    ]


class _Costs:
    """CPU of the agent and of the stand-in, in seconds, summed over the blocks that were counted."""

    def __init__(self, agent: ClusterAgent) -> None:
        self.agent = 0.0
        self.plane = 0.0
        self._agent = agent

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what is used within."""
        before = self._agent.cpu(), self._agent.plane.cpu()
        yield
        self.agent += self._agent.cpu() - before[0]
        self.plane += self._agent.plane.cpu() - before[1]


def _said(figures: list[Figure]) -> list[Figure]:
    """It takes minutes, so what is known is said at once."""
    print(table(figures), file=sys.stderr, flush=True)
    return figures
