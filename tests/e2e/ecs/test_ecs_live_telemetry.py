"""What the telemetry channel tells of containers that run, compared with what Docker and the kernel say."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from docker import APIClient

from tests.e2e.ecs.cluster import Cluster, EcsAgent, a_task, job, web
from tests.e2e.inside import Containers, Network
from tests.e2e.streams import connected
from tests.fakes.ecs.replay import example, same_shape
from tests.fakes.ecs.truth import TaskRecord

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TICK = 20.0
FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
PAUSE = "~internal~ecs~pause"
HELD = 12_000_000
HEALTHY = {"Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000, "Retries": 1}}
SICK = {"Healthcheck": {"Test": ["CMD", "false"], "Interval": 1_000_000_000, "Retries": 1}}


@dataclass(frozen=True)
class Measured:
    """The first window with tasks, and Docker's own account of the same time. ``cpu``: percent of the machine."""

    began_at: float
    busy: TaskRecord
    well: TaskRecord
    metrics: dict[str, Any]
    health: dict[str, Any]
    cpu: float
    held: float
    received: int


@pytest.fixture(scope="module")
def measured(
    shared_agent: EcsAgent, shared_cluster: Cluster, docker_client: APIClient, containers: Containers
) -> Iterator[Measured]:
    """Two tasks that work, watched from both sides for one period."""
    control = shared_cluster.control
    began_at = time.time()
    holds = f"trap 'exit 0' TERM; x=$(head -c {HELD} /dev/zero | tr '\\0' x); while :; do :; done"
    busy, well = shared_cluster.run_all(
        [
            a_task(job(holds, memory=64), family="busy", version="7"),
            a_task(
                web(config=HEALTHY, more={"healthCheckType": "docker"}),
                job(FOREVER, "sick", is_essential=False, config=SICK, more={"healthCheckType": "docker"}),
                job(FOREVER, "unchecked"),
                family="well",
            ),
        ]
    )
    shared_cluster.kept.update((busy.arn, well.arn))
    container = shared_cluster.runtime_id(busy)
    network = Network(containers.pid(shared_cluster.runtime_id(well, "web")))
    enter = partial(shared_cluster.enis.connect, well.enis[0].ipv4, 80)
    connected(well.enis[0].ipv4, enter).close()
    began, first = time.monotonic(), docker_client.stats(container, stream=False, one_shot=True)
    seen = len(control.messages("tcs", "PublishMetricsRequest"))

    def published() -> Any:
        with enter() as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            connection.recv(100)
        found = control.messages("tcs", "PublishMetricsRequest")[seen:]
        both = [each for each in found if len(each.body.get("taskMetrics", ())) == 2]
        return both[-1] if both else None

    message = control.wait_for(published, TICK + 10, "metrics of both tasks")
    last = docker_client.stats(container, stream=False, one_shot=True)
    spent = last["cpu_stats"]["cpu_usage"]["total_usage"] - first["cpu_stats"]["cpu_usage"]["total_usage"]
    cores = int(docker_client.info()["NCPU"])
    health = control.wait_for(
        lambda: control.messages("tcs", "PublishHealthRequest"), TICK + 10, "health of a task"
    )[-1]
    yield Measured(
        began_at=began_at,
        busy=busy,
        well=well,
        metrics=message.body,
        health=health.body,
        cpu=spent / 1e9 / (time.monotonic() - began) / cores * 100,
        held=used(last["memory_stats"]) / 2**20,
        received=received(network),
    )
    shared_cluster.kept.clear()


def used(memory: dict[str, Any]) -> float:
    """Without the file cache, on either version of control groups."""
    details = memory["stats"]
    cache = (
        details["inactive_file"]
        if "inactive_file" in details and "cache" not in details
        else details["cache"]
    )
    return float(memory["usage"] - cache)


def received(network: Network) -> int:
    (line,) = [
        each
        for each in network.run("cat", "/proc/self/net/dev").text.splitlines()
        if "eth0:" in each and "ecs" not in each
    ]
    return int(line.split(":")[1].split()[0])


def mean(stats: dict[str, Any]) -> float:
    assert stats["min"] <= stats["sum"] / stats["sampleCount"] <= stats["max"]
    return float(stats["sum"] / stats["sampleCount"])


def test_processor_and_memory_are_what_docker_says(measured: Measured) -> None:
    (task,) = [each for each in measured.metrics["taskMetrics"] if each["taskArn"] == measured.busy.arn]
    assert (task["taskDefinitionFamily"], task["taskDefinitionVersion"]) == ("busy", "7")
    (container,) = [each for each in task["containerMetrics"] if each["containerName"] == "app"]
    document = measured.busy.document
    assert document is not None
    assert container["containerArn"] == document["containers"][0]["containerArn"]
    assert container["cpuStatsSet"]["sampleCount"] >= 5
    assert mean(container["cpuStatsSet"]) == pytest.approx(measured.cpu, rel=0.3, abs=2)
    assert mean(container["memoryStatsSet"]) == pytest.approx(measured.held, rel=0.2, abs=2)
    assert container["memoryStatsSet"]["max"] >= HELD // 2**20


def test_the_traffic_of_a_task_is_counted_at_its_interface(measured: Measured) -> None:
    (task,) = [each for each in measured.metrics["taskMetrics"] if each["taskArn"] == measured.well.arn]
    by_name = {each["containerName"]: each for each in task["containerMetrics"]}
    assert set(by_name) == {"web", "sick", "unchecked", PAUSE}
    assert "networkStatsSet" not in by_name.pop(PAUSE), "the interface is counted once, for those that use it"
    networks = [each["networkStatsSet"] for each in by_name.values()]
    assert networks[0] == networks[1] == networks[2], "they share the interface"
    # readings of the kernel's counter, the last of them a moment before ours
    assert 0.6 * measured.received < networks[0]["rxBytes"]["max"] <= measured.received
    assert networks[0]["txBytes"]["max"] > 0
    assert networks[0]["rxBytesPerSecond"]["max"] > 0
    assert networks[0]["rxErrors"]["sum"] == 0


def test_the_health_of_containers_with_a_check_is_told(measured: Measured) -> None:
    (task,) = measured.health["tasks"]
    assert task["taskArn"] == measured.well.arn
    told = {each["containerName"]: each["healthStatus"] for each in task["containers"]}
    assert told == {"web": "HEALTHY", "sick": "UNHEALTHY"}
    for each in task["containers"]:
        assert measured.began_at < each["statusSince"] < time.time()


def test_the_state_of_the_machine_is_told_after_a_heartbeat(
    measured: Measured, shared_cluster: Cluster
) -> None:
    control = shared_cluster.control
    told = control.wait_for(
        lambda: control.messages("tcs", "PublishInstanceStatusRequest"), TICK + 10, "the status"
    )[0]
    assert same_shape(told.body, example("PublishInstanceStatusRequest").body) == []
    (status,) = told.body["statuses"]
    assert (status["type"], status["status"]) == ("ContainerRuntime", "OK")


def test_every_frame_was_signed_and_acknowledged(measured: Measured, shared_cluster: Cluster) -> None:
    control = shared_cluster.control
    frames = control.messages("tcs")
    assert not [each.type for each in frames if each.type.startswith("(")]
    assert shared_cluster.problems() == []
    answered = control.messages("tcs", "AckPublishMetric", "out")
    assert len(answered) == len(control.messages("tcs", "PublishMetricsRequest"))
    first = control.messages("tcs", "PublishMetricsRequest")[0]
    assert same_shape(first.body, example("PublishMetricsRequest").body) == []
    assert first.body["metadata"]["idle"] is True
