"""Twenty restarts of the agent, killed and told to stop in turn, while a task asks for credentials all the time.

What counts: how many were refused, how many were cut off, and how long anybody waited. The keeper is the
container, so that it is the same on every machine.
"""

import sys
import time
from pathlib import Path

from tests.availability import OK, REFUSED, RESET, Asking, Findings, end_keepers
from tests.benchmarks.figures import Figure, median
from tests.benchmarks.stage import DEFINITION, BenchAgent, Unmeasurable, bench_agent

RESTARTS = 20
EVERY = 0.02
QUIET = 2.0
SLOW = 1.0
MOMENT = 0.1
"""Seconds. Who asked so shortly before the end may be cut off by it, and counts with it."""

ENDPOINT = ("169.254.170.2", 80)
ROLE = "arn:aws:iam::111122223333:role/bench"
PATH_NAME = b"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="


def measure() -> list[Figure]:
    """One agent, one task with a role, twenty restarts; the figures of each kind of end, and of the quiet."""
    with bench_agent(BERTH_SOCKET_KEEPER="container", BERTH_SOCKET_KEEPER_PATIENCE="60s") as agent:
        try:
            return _measured(agent)
        finally:
            agent.stop()
            end_keepers(agent.docker, agent.directory / "data/keeper")


def _measured(agent: BenchAgent) -> list[Figure]:
    pid, path = _task_with_a_role(agent)
    phases: dict[str, list[tuple[float, float]]] = {"kill": [], "stop": []}
    with Asking(*ENDPOINT, path, every=EVERY, inside=("nsenter", f"--net=/proc/{pid}/ns/net")) as asking:
        time.sleep(QUIET)
        for number in range(RESTARTS):
            kind = ("kill", "stop")[number % 2]
            began = time.monotonic() - MOMENT
            (agent.kill if kind == "kill" else agent.stop)()
            agent.start()
            phases[kind].append((began, time.monotonic() + QUIET / 2))
            time.sleep(QUIET)
    for kind, times in phases.items():
        for begin, end in times:
            found = asking.findings.between(begin, end)
            print(f"{kind}: {found.outcomes}, longest {found.longest:.2f} s", file=sys.stderr)
    figures = [
        Figure("restarts.asked", len(asking.findings.questions), "count"),
        Figure("restarts.refused", asking.findings.count(REFUSED), "count"),
        Figure("restarts.reset", asking.findings.count(RESET), "count"),
        Figure("restarts.longest", asking.findings.longest, "s"),
    ]
    for kind, times in phases.items():
        found = [asking.findings.between(*each) for each in times]
        figures += _figures(f"restarts.{kind}", found)
    away = sorted(each for times in phases.values() for each in times)
    ends = [asking.findings.questions[0].asked_at, *(end for _, end in away)]
    begins = [*(begin for begin, _ in away), time.monotonic()]
    quiet = [asking.findings.between(*each) for each in zip(ends, begins, strict=True)]
    return [*figures, *_figures("restarts.quiet", quiet)]


def _figures(name: str, found: list[Findings]) -> list[Figure]:
    """The sums over all phases of a kind, and the median of the longest wait in each."""
    asked = sum(len(each.questions) for each in found)
    known = sum(each.count(kind) for each in found for kind in (OK, REFUSED, RESET))
    return [
        Figure(f"{name}.asked", asked, "count"),
        Figure(f"{name}.refused", sum(each.count(REFUSED) for each in found), "count"),
        Figure(f"{name}.reset", sum(each.count(RESET) for each in found), "count"),
        Figure(f"{name}.other", asked - known, "count"),
        Figure(f"{name}.slow", sum(each.slower_than(SLOW) for each in found), "count"),
        Figure(f"{name}.wait", median(each.longest for each in found), "s"),
        Figure(f"{name}.longest", max(each.longest for each in found), "s"),
    ]


def _task_with_a_role(agent: BenchAgent) -> tuple[int, str]:
    """A process in the task's network, and the path of its credentials."""
    agent.ask("RegisterTaskDefinition", **DEFINITION, taskRoleArn=ROLE)
    (arn,) = agent.run(1)
    agent.await_status([arn], "RUNNING", every=0.1)
    listed = agent.docker.containers(filters={"label": [f"com.amazonaws.ecs.task-arn={arn}"]})
    for each in listed:
        found = agent.docker.inspect_container(each["Id"])
        for line in Path(f"/proc/{found['State']['Pid']}/environ").read_bytes().split(b"\0"):
            if line.startswith(PATH_NAME):
                return int(found["State"]["Pid"]), line.removeprefix(PATH_NAME).decode()
    raise Unmeasurable("no container of the task knows where its credentials are")
