"""Something of each kind is left behind on purpose: it is named, it is removed, and a running task notices nothing."""

import fcntl
import hashlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from agent.supervisor.janitor import FIRST_SWEEP_AFTER
from tests.e2e.agent_process import BIN, ENDPOINT, Agent, Task
from tests.e2e.inside import Containers
from tests.e2e.surroundings import CGROUPS
from tests.e2e.task_definitions import a_definition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

NUMBER = f"{os.getpid() % 1_000_000:06d}"
TASK = f"{'0' * 26}{NUMBER}"
ARN = f"arn:aws:ecs:us-east-1:111122223333:task/gone/{TASK}"
SANDBOX = f"{'dead' * 14}{NUMBER}00"
ADDRESS = "169.254.175.201"
ENI = f"eni-{'0' * 11}{NUMBER}"
PORT, NAMESPACE, TABLE = f"vethl{NUMBER}", f"lost-{NUMBER}", f"berth-lost-{NUMBER}"
LABELS = {"com.amazonaws.ecs.task-arn": ARN, "com.amazonaws.ecs.container-name": "web"}


def run(*words: str, check: bool = True) -> None:
    subprocess.run(words, check=check, capture_output=True, timeout=20)


class Planted:
    """Plants, and takes away whatever is still there."""

    def __init__(self, agent: Agent, docker: APIClient) -> None:
        self.agent = agent
        self.docker = docker
        unique = hashlib.sha256(f"{ARN}\nweb".encode()).hexdigest()[:20]
        self.container = f"ecs-gone-1-web-{unique}"
        self.volume = f"lost-volume-{NUMBER}"
        self.labels = {**LABELS, "com.amazonaws.ecs.cluster": agent.cluster}
        self.groups = [
            each / "ecs" / TASK for each in ([CGROUPS] if _is_v2() else [CGROUPS / "cpu", CGROUPS / "memory"])
        ]
        self.router = agent.settings["BERTH_VPC_NAMESPACE"]
        self.leases = agent.run_directory / "ipam" / "leases.json"

    def nothing(self) -> dict[str, list[str]]:
        return {kind: [] for kind in self.expected()}

    def expected(self) -> dict[str, list[str]]:
        return {
            "containers": [self.container],
            "volumes": [self.volume],
            "cgroups": [f"/ecs/{TASK}"],
            "links": [PORT],
            "addresses": [ADDRESS],
            "interfaces": [ENI],
            "namespaces": [NAMESPACE],
            "rules": [f"table inet {TABLE}"],
        }

    def plant(self) -> None:
        self.plant_docker()
        for group in self.groups:
            group.mkdir(parents=True)
            owner = f"com.amazonaws.ecs.task-arn,com.amazonaws.ecs.cluster={self.agent.cluster}"
            os.setxattr(group, "trusted.berth.owner", owner.encode())
        run("ip", "netns", "add", NAMESPACE)
        run("ip", "link", "add", PORT, "type", "veth", "peer", "name", "ecs-eth0", "netns", NAMESPACE)
        run("ip", "link", "set", PORT, "master", "ecs-bridge", "alias", f"ecs:{SANDBOX}:ecs-bridge:ecs-eth0")
        self._lease()
        name = f"r{ENI[-14:]}"
        run("ip", "-n", self.router, "link", "add", name, "type", "veth", "peer", "name", f"x{NUMBER}")
        alias = f"berth eni {ENI} subnet-0 0e:00:00:00:00:77 10.1.1.77 -"
        run("ip", "-n", self.router, "link", "set", name, "alias", alias)
        run("nft", "add", "table", "inet", TABLE)

    def plant_docker(self) -> None:
        # without a network: the first container on docker0 would leave that an address
        alone = self.docker.create_host_config(network_mode="none")
        self.docker.create_container(
            "berth/demo-web", name=self.container, labels=self.labels, host_config=alone
        )
        self.docker.create_volume(self.volume, labels=self.labels)

    def left(self) -> list[str]:
        found = [
            each["Names"][0]
            for each in self.docker.containers(all=True)
            if self.container in each["Names"][0]
        ]
        found += [
            each["Name"] for each in self.docker.volumes()["Volumes"] or () if each["Name"] == self.volume
        ]
        places = [*self.groups, Path("/sys/class/net", PORT), Path("/run/netns", NAMESPACE)]
        found += [str(place) for place in places if place.exists()]
        found += [ADDRESS] if self.leases.exists() and ADDRESS in _held(self.leases) else []
        listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        links = subprocess.run(
            ["ip", "-n", self.router, "link"], capture_output=True, text=True, check=False
        ).stdout
        return found + [TABLE] * (TABLE in listed) + [ENI] * (f"r{ENI[-14:]}" in links)

    def clear(self) -> None:
        run("docker", "rm", "-f", self.container, check=False)
        run("docker", "volume", "rm", "-f", self.volume, check=False)
        run("ip", "link", "del", PORT, check=False)
        run("ip", "netns", "del", NAMESPACE, check=False)
        run("ip", "-n", self.router, "link", "del", f"r{ENI[-14:]}", check=False)
        run("nft", "delete", "table", "inet", TABLE, check=False)
        for group in self.groups:
            if group.exists():
                group.rmdir()

    def _lease(self) -> None:
        with (self.leases.parent / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            document = json.loads(self.leases.read_text())
            document["held"][ADDRESS] = {
                "id": "0e:00:00:00:00:77",
                "container": SANDBOX,
                "ifname": "ecs-eth0",
            }
            self.leases.write_text(json.dumps(document))


def _held(leases: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads(leases.read_text())["held"]
    return held


def _is_v2() -> bool:
    return (CGROUPS / "cgroup.controllers").exists()


@pytest.fixture
def planted(agent: Agent, docker_client: APIClient) -> Iterator[Planted]:
    planted = Planted(agent, docker_client)
    try:
        yield planted
    finally:
        planted.clear()


def _untouched(containers: Containers, task: Task) -> list[tuple[str, int, str]]:
    return containers.identities([task.arn])


def _told(agent: Agent, *words: str, **more: str) -> tuple[int, dict[str, Any]]:
    done = agent.command(str(BIN / "berth"), *words, "--json", **more)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_something_of_each_kind_is_named_and_removed_and_a_running_task_keeps_everything(
    agent: Agent, containers: Containers, planted: Planted
) -> None:
    task = agent.started(a_definition("web", {"name": "web"}))
    before = _untouched(containers, task)
    # the agent's own first sweep would come in between
    time.sleep(FIRST_SWEEP_AFTER + 3)
    assert _told(agent, "leaks") == (
        0,
        {"leaks": planted.nothing(), "unseen": {}, "removed": {}, "left": {}},
    )

    planted.plant()
    code, told = _told(agent, "leaks")
    assert (code, told["leaks"], told["unseen"]) == (1, planted.expected(), {})
    assert planted.left(), "naming must not remove"

    code, told = _told(agent, "leaks", "--fix")
    assert (code, told["left"], told["removed"]) == (0, {}, planted.expected())
    assert planted.left() == []
    assert _untouched(containers, task) == before
    assert containers.network(task).fetch(f"{ENDPOINT}/v2/credentials/unknown").code >= 400
    assert "nothing is left" in agent.berth("leaks")
    assert agent.described([task.arn])[0].status == "RUNNING"


def test_without_an_agent_what_runs_is_left_alone_and_what_has_ended_goes(
    agent: Agent, containers: Containers, planted: Planted, docker_client: APIClient
) -> None:
    task = agent.started(a_definition("web", {"name": "web"}))
    before = _untouched(containers, task)
    agent.kill()
    planted.plant_docker()
    docker_client.start(planted.container)

    code, told = _told(agent, "leaks", "--fix")
    assert (code, told["removed"]) == (0, {}), told
    assert planted.left() == [f"/{planted.container}", planted.volume]
    docker_client.stop(planted.container, timeout=1)
    code, told = _told(agent, "leaks", "--fix")
    assert (code, told["removed"]) == (0, {"containers": [planted.container], "volumes": [planted.volume]})
    assert planted.left() == []
    assert _untouched(containers, task) == before
    agent.start()
    assert agent.described([task.arn])[0].status == "RUNNING"


def test_while_docker_hangs_the_rest_is_looked_for_and_the_doctor_ends_in_time(
    agent: Agent, tmp_path: Path
) -> None:
    agent.started(a_definition("web", {"name": "web"}))
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen(64)
        hanging = {"DOCKER_HOST": f"unix://{tmp_path}/silent.sock"}
        # what stands in the environment goes before the agent's file
        code, told = _told(agent, "leaks", **hanging)
        assert code == 1
        assert set(told["unseen"]) == {"containers", "volumes"}
        began = time.monotonic()
        code, told = _told(agent, "doctor", **hanging)
        assert time.monotonic() - began < 15  # ten, and the start of Python on a busy machine
    found = {each["name"]: each for each in told["checks"]}
    assert code == 1
    assert found["docker"]["finding"] == "problem"
    assert "has not answered" in found["docker"]["cause"]
    assert found["live-restore"]["finding"] == "not_applicable"
    assert found["imds-exposure"]["finding"] == "ok"
    assert found["agent"]["finding"] == "ok"


def test_the_doctor_finds_a_machine_with_a_running_agent_well(agent: Agent) -> None:
    agent.started(a_definition("web", {"name": "web"}))
    code, told = _told(agent, "doctor")
    found = {each["name"]: (each["finding"], each["cause"]) for each in told["checks"]}
    assert (code, told["verdict"] in ("ok", "warning")) == (0, True), found
    for name in (
        "docker",
        "cgroups",
        "plugins",
        "kernel",
        "imds-exposure",
        "ports",
        "disk",
        "state",
        "agent",
    ):
        assert found[name][0] == "ok", (name, found[name])
    assert "refused in all" in found["imds-exposure"][1]


def test_tasks_that_come_and_go_meanwhile_are_never_taken_for_leaks(agent: Agent) -> None:
    stays = agent.started(a_definition("web", {"name": "web"}))
    is_over = threading.Event()
    told: list[dict[str, Any]] = []

    def look() -> None:
        while not is_over.is_set():
            told.append(_told(agent, "leaks", "--fix")[1])

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(3):
            arns = [each.arn for each in agent.started_copies(a_definition("web", {"name": "web"}), 3)]
            agent.stop_tasks(arns)
            agent.all_stopped(arns)
    finally:
        is_over.set()
        looking.join(60)
    assert told
    assert [each for each in told if each["removed"] or each["left"] or each["unseen"]] == []
    assert agent.described([stays.arn])[0].status == "RUNNING"
