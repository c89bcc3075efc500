"""How much memory and idle CPU the agent takes, how soon it is ready, and which imports the memory is for."""

import subprocess
import sys
import time

from tests.benchmarks.figures import Figure, median
from tests.benchmarks.stage import TREE, BenchAgent, bench_agent, rollup

IDLE_SECONDS = 60
SETTLE_SECONDS = 5
STARTS = 3
IMPORTS = (
    "asyncio", "structlog", "structlog.dev", "aiohttp.web", "docker", "pyroute2", "botocore.auth", "sqlite3", "agent.daemon",
)  # fmt: skip


def measure() -> list[Figure]:
    """One agent that grows from no task to 50; every figure of agent and plugin host apart and together."""
    figures = _imports()
    with bench_agent() as agent:
        ready = []
        for _ in range(STARTS):
            agent.stop()
            ready.append(agent.start())
        figures.append(Figure("footprint.ready", median(ready), "s"))
        figures += _memory(agent, "fresh", peer=42)
        figures.append(_idle(agent, "idle", peer=None))
        arns = _grown(agent, [], 10)
        figures += _memory(agent, "10tasks", peer=56)
        figures.append(_idle(agent, "idle.10tasks", peer=1.0))
        arns = _grown(agent, arns, 50)
        figures += _memory(agent, "50tasks", peer=66)
        agent.end(arns)
        figures += _memory(agent, "after", peer=None)
    return figures


def _grown(agent: BenchAgent, arns: list[str], count: int) -> list[str]:
    more = agent.run(count - len(arns))
    agent.await_status(more, "RUNNING", every=0.5)
    return [*arns, *more]


def _memory(agent: BenchAgent, name: str, *, peer: float | None) -> list[Figure]:
    time.sleep(SETTLE_SECONDS)
    own = rollup(agent.pid)
    host_pid = agent.host_pid()
    host = (0.0, 0.0) if host_pid is None else rollup(host_pid)
    return [
        Figure(f"footprint.{name}.rss", own[0], "MiB", peer=peer),
        Figure(f"footprint.{name}.pss", own[1], "MiB"),
        Figure(f"footprint.{name}.host.rss", host[0], "MiB"),
        Figure(f"footprint.{name}.both.pss", own[1] + host[1], "MiB"),
    ]


def _idle(agent: BenchAgent, name: str, *, peer: float | None) -> Figure:
    before = agent.cpu()
    time.sleep(IDLE_SECONDS)
    return Figure(f"footprint.{name}.cpu", (agent.cpu() - before) * 60 / IDLE_SECONDS, "s/min", peer=peer)


def _imports() -> list[Figure]:
    """Each import in an interpreter of its own: what it adds to the bare one, so shared parts count twice."""
    bare = _imported("sys")
    return [Figure("footprint.import.nothing", bare, "MiB")] + [
        Figure(f"footprint.import.{module}", _imported(module) - bare, "MiB") for module in IMPORTS
    ]


def _imported(module: str) -> float:
    return median(_once(module) for _ in range(3))


def _once(module: str) -> float:
    program = f"import {module}; print(open('/proc/self/smaps_rollup').read().split('Rss:')[1].split()[0])"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=TREE, check=True)
    return int(done.stdout) / 1024
