"""From the start of the agent until it answers, and from SIGTERM to its end, without tasks."""

import time

from tests.benchmarks.figures import Figure, high, median
from tests.benchmarks.stage import bench_agent

ROUNDS = 12


def measure() -> list[Figure]:
    """One agent, started and told to end again and again; the first start, which makes everything, does not count."""
    ready: list[float] = []
    ended: list[float] = []
    with bench_agent() as agent:
        for _ in range(ROUNDS):
            began = time.monotonic()
            agent.stop()
            ended.append(1000 * (time.monotonic() - began))
            ready.append(1000 * agent.start())
    return [
        Figure("starts.ready", median(ready), "ms"),
        Figure("starts.ready.p95", high(ready), "ms"),
        Figure("starts.end", median(ended), "ms"),
    ]
