"""From RunTask to RUNNING, and from StopTask to STOPPED, as ratios to bare Docker doing the same.

The time of a status is what the control plane wrote into its history, read afterwards: on two cores, a client
that polls every few milliseconds takes a third of the time that it measures.
"""

import time

from tests.benchmarks.figures import Figure, high, median
from tests.benchmarks.floor import Floor, copied
from tests.benchmarks.stage import BenchAgent, bench_agent

SINGLES = 20
QUIET = 0.3
"""Seconds before each launch: the kernel still tidies up after the one before."""


def measure() -> list[Figure]:
    """Floor and agent take turns, so that the rest of the machine disturbs both alike."""
    with bench_agent() as agent, copied(agent) as floor:
        return _singles(agent, floor)


def _singles(agent: BenchAgent, floor: Floor) -> list[Figure]:
    """One task after the other, from the call until the control plane has written the status down."""
    starts: list[float] = []
    stops: list[float] = []
    cpu: list[float] = []
    bare_starts: list[float] = []
    bare_stops: list[float] = []
    for _ in range(SINGLES):
        time.sleep(QUIET)
        bare_starts.append(1000 * floor.launch(1))
        time.sleep(QUIET)
        bare_stops.append(1000 * floor.stop())
        floor.clear()
        time.sleep(QUIET)
        before, began = agent.cpu(), time.time()
        arns = agent.run(1)
        agent.await_status(arns, "RUNNING", every=0.1)
        starts.append(1000 * (agent.noted_at(arns, "status.running")[0] - began))
        cpu.append(1000 * (agent.cpu() - before))
        time.sleep(QUIET)
        began = time.time()
        agent.ask("StopTask", cluster=agent.cluster, task=arns[0])
        agent.await_status(arns, "STOPPED", every=0.1)
        stops.append(1000 * (agent.noted_at(arns, "task.stopped")[0] - began))
        agent.await_removal()
    return [
        Figure("launch.single", median(starts), "ms", median(bare_starts), peer=1.7),
        Figure("launch.single.p95", high(starts), "ms", high(bare_starts)),
        Figure("launch.single.cpu", sum(cpu) / len(cpu), "ms"),
        Figure("launch.stop", median(stops), "ms", median(bare_stops)),
    ]
