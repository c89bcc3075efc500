"""Many tasks at once: from the first RunTask until the last one is RUNNING, as a ratio to bare Docker."""

import sys
import time

from tests.benchmarks.figures import Figure, median, table
from tests.benchmarks.floor import SLOTS, Floor, copied
from tests.benchmarks.launch import QUIET
from tests.benchmarks.stage import BenchAgent, bench_agent

BURSTS = ((20, 2), (50, 2))
"""How many tasks at once, and how often."""


def measure() -> list[Figure]:
    """Floor and agent take turns. It takes minutes, so what is known is said at once."""
    figures: list[Figure] = []
    with bench_agent() as agent, copied(agent) as floor:
        for count, rounds in BURSTS:
            found = _bursts(agent, floor, count, rounds)
            print(table(found), file=sys.stderr, flush=True)
            figures += found
    return figures


def _bursts(agent: BenchAgent, floor: Floor, count: int, rounds: int) -> list[Figure]:
    """Many tasks at once: from the first RunTask until the control plane knows that the last one runs."""
    lasted: list[float] = []
    halves: list[float] = []
    cpu: list[float] = []
    bare: dict[int, list[float]] = {slots: [] for slots in SLOTS}
    for _ in range(rounds):
        for slots, took in bare.items():
            time.sleep(QUIET)
            took.append(floor.launch(count, slots))
            floor.clear()
        time.sleep(QUIET)
        before, began = agent.cpu(), time.time()
        arns = agent.run(count)
        agent.await_status(arns, "RUNNING", every=1.0)
        running = sorted(at - began for at in agent.noted_at(arns, "status.running"))
        lasted.append(running[-1])
        halves.append(running[len(running) // 2])
        cpu.append(1000 * (agent.cpu() - before) / count)
        agent.end(arns)
    least = min(median(took) for took in bare.values())
    peers = {20: 1.5, 50: 1.4}
    return [
        Figure(f"launch.burst{count}", median(lasted), "s", least, peer=peers[count]),
        Figure(f"launch.burst{count}.half", median(halves), "s"),
        Figure(f"launch.burst{count}.cpu", median(cpu), "ms"),
    ]
