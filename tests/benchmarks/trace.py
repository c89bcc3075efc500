"""Where the time of a launch goes: one task at a time, every step with its begin and its length."""

import json
import time
from datetime import datetime

from tests.benchmarks.figures import Figure, median
from tests.benchmarks.floor import copied
from tests.benchmarks.stage import BenchAgent, bench_agent

ROUNDS = 8


def measure() -> list[Figure]:
    """Nothing for the table: this prints a table of its own."""
    rounds = []
    with bench_agent(ECS_LOGLEVEL="debug") as agent, copied(agent) as floor:
        for _ in range(ROUNDS):
            time.sleep(0.5)
            floor.launch(1)
            floor.clear()
            rounds.append(_traced(agent))
    print(
        "\nbare Docker, ms (medians):",
        *(f"{name} {median(took):.1f}" for name, took in floor.steps.items()),
        sep="\n  ",
    )
    print("\none launch, ms after RunTask was sent (medians): end of each step, and how long it took")
    names = sorted(rounds[0], key=lambda name: median(one[name][0] for one in rounds if name in one))
    for name in names:
        seen = [one[name] for one in rounds if name in one]
        took = [length for _, length in seen if length is not None]
        length = f"{median(took):8.1f}" if took else ""
        print(f"  {name:<44} {median(at for at, _ in seen):8.1f} {length}")
    return []


def _traced(agent: BenchAgent) -> dict[str, tuple[float, float | None]]:
    time.sleep(0.5)
    skip = len(agent.log())
    began = time.time()
    arns = agent.run(1)
    answered = time.time()
    agent.await_status(arns, "RUNNING", every=0.005)
    seen = time.time()
    found: dict[str, tuple[float, float | None]] = {
        "client: RunTask answered": (1000 * (answered - began), None),
        "client: RUNNING seen": (1000 * (seen - began), None),
    }
    for event in ("task.created", "status.running"):
        found[f"control plane: {event}"] = (1000 * (agent.noted_at(arns, event)[0] - began), None)
    for line in agent.log()[skip:].splitlines():
        entry = json.loads(line)
        at = 1000 * (datetime.fromisoformat(entry["timestamp"]).timestamp() - began)
        words = [
            entry["event"],
            *(str(entry[key]) for key in ("step", "container", "old", "new") if entry.get(key)),
        ]
        found.setdefault(" ".join(words), (at, entry.get("took_ms")))
    agent.end(arns)
    return found
