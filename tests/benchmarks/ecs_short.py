"""The benchmark of the cluster's backend with few rounds, to see whether it works: no figures to keep."""

from tests.benchmarks import ecs
from tests.benchmarks.figures import Figure

SHORT = ecs.Effort(singles=5, bursts=((20, 1), (50, 1)), starts=3, idle_s=20.0)


def measure() -> list[Figure]:
    """Nothing for the table: what was found is printed on the way."""
    ecs.measure(SHORT)
    return []
