"""Where the time goes in a cluster: of a start, a launch and a stop, every step with its end and its length."""

import json
import time
from collections.abc import Sequence
from datetime import datetime

from tests.benchmarks.ecs_stage import ClusterAgent, cluster_agent
from tests.benchmarks.figures import Figure, median
from tests.benchmarks.floor import copied
from tests.benchmarks.launch import QUIET

STARTS, ROUNDS = 5, 8

Steps = dict[str, tuple[float, float | None]]
"""What was logged: milliseconds since the beginning, and how long it took if the line says so."""


def measure() -> list[Figure]:
    """Nothing for the table: this prints tables of its own."""
    with cluster_agent(ECS_LOGLEVEL="debug") as agent, copied(agent) as floor:
        starts = [_start(agent) for _ in range(STARTS)]
        launches, stops = [], []
        for _ in range(ROUNDS):
            time.sleep(QUIET)
            floor.launch(1)
            floor.clear()
            arns = agent.prepared(1)
            time.sleep(QUIET)
            launches.append(_sent(agent, arns, "RUNNING"))
            stops.append(_sent(agent, arns, "STOPPED"))
            agent.release(arns)
            agent.await_removal()
    print("\nbare Docker, ms (medians):")
    for name, took in floor.steps.items():
        print(f"  {name:<50} {median(took):8.1f}")
    _show("one start, ms since the process was made", starts)
    _show("one launch, ms since the payload was made", launches)
    _show("one stop, ms since the payload was made", stops)
    return []


def _start(agent: ClusterAgent) -> Steps:
    agent.stop()
    time.sleep(QUIET)
    seen = len(agent.log())
    began = agent.launch()
    heartbeat = agent.plane.heartbeat(began)
    registered = agent.plane.registered(began)
    agent.plane.connected()
    found = _logged(agent, seen, began)
    return {
        **found,
        "cluster: registration came": (1000 * (registered - began), None),
        "cluster: heartbeat answered": (1000 * (heartbeat - began), None),
    }


def _sent(agent: ClusterAgent, arns: list[str], status: str) -> Steps:
    seen = len(agent.log())
    began = agent.plane.send(arns, status)
    reached = agent.plane.reached(arns, status)[0]
    time.sleep(QUIET)
    return {**_logged(agent, seen, began), f"cluster: {status} came": (1000 * (reached - began), None)}


def _logged(agent: ClusterAgent, seen: int, began: float) -> Steps:
    """The first line of each kind since ``began``, which is of the monotonic clock; lines have the wall's."""
    offset = time.time() - time.monotonic()
    found: Steps = {}
    for line in agent.log()[seen:].splitlines():
        if not line.startswith("{"):
            continue
        entry = json.loads(line)
        at = 1000 * (datetime.fromisoformat(entry["timestamp"]).timestamp() - offset - began)
        names = ("plugin", "channel", "step", "container", "old", "new", "status")
        words = [entry["event"], *(str(entry[key]) for key in names if entry.get(key))]
        found.setdefault(" ".join(words), (at, entry.get("took_ms")))
    return found


def _show(title: str, rounds: Sequence[Steps]) -> None:
    print(f"\n{title} (medians): end of each step, and how long it took")
    names = {name for one in rounds for name in one}
    ends = {name: median(one[name][0] for one in rounds if name in one) for name in names}
    for name in sorted(ends, key=ends.__getitem__):
        took = [one[name][1] for one in rounds if name in one]
        known = [each for each in took if each is not None]
        print(f"  {name:<50} {ends[name]:8.1f} {f'{median(known):8.1f}' if known else ''}".rstrip())
