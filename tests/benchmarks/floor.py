"""The least a launch can take here: bare Docker calls for the containers that the agent itself made."""

import os
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from docker import APIClient

from tests.benchmarks.stage import AgentOnStage, Unmeasurable

GROUP = f"/ecs/berth-floor-{os.getpid()}"
SLOTS = (2 * (os.cpu_count() or 1), 4 * (os.cpu_count() or 1))
"""How many tasks are launched side by side in a burst. Both are tried, and the better one is the floor."""


class Floor:
    """Pairs of containers like those of one of the agent's tasks, launched by nobody but Docker.

    The create calls are what ``docker inspect`` says of the agent's own containers, so that nothing is
    easier for Docker. Only the labels are renamed: the agent must not take them for its own.
    """

    def __init__(self, agent: AgentOnStage) -> None:
        self._pause, self._app = _documents(agent)
        self._client = APIClient(num_pools=64, timeout=120)
        self._pairs: list[list[str]] = []
        self.steps: dict[str, list[float]] = {}

    def launch(self, count: int, slots: int = 1) -> float:
        """Launch so many pairs; the seconds it took."""
        work: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(count):
            work.put(number)
        return _timed(lambda: self._side_by_side(slots, lambda: self._drain(work)))

    def stop(self) -> float:
        """Stop all that was launched, one pair after the other; the mean seconds for a pair."""
        took = 0.0
        for pair in self._pairs:
            took += _timed(lambda pair=pair: [self._client.stop(each, timeout=2) for each in reversed(pair)])
        return took / len(self._pairs)

    def clear(self) -> None:
        """Remove all that was launched."""
        while self._pairs:
            for container in reversed(self._pairs.pop()):
                self._client.remove_container(container, force=True, v=True)

    def close(self) -> None:
        """Leave nothing behind."""
        self.clear()
        self._client.close()
        _remove_groups()

    def _drain(self, work: "queue.SimpleQueue[int]") -> None:
        while True:
            try:
                work.get_nowait()
            except queue.Empty:
                return
            self._pair()

    def _pair(self) -> None:
        name = f"berth-floor-{uuid.uuid4().hex}"
        pair: list[str] = []
        self._pairs.append(pair)
        self._step("pause: create", lambda: pair.append(self._create(f"{name}-pause", self._pause)))
        self._step("pause: start", lambda: self._client.start(pair[0]))
        network = {"NetworkMode": f"container:{pair[0]}"}
        document = {**self._app, "HostConfig": {**self._app["HostConfig"], **network}}
        self._step("app: create", lambda: pair.append(self._create(f"{name}-app", document)))
        self._step("app: start", lambda: self._client.start(pair[1]))

    def _create(self, name: str, document: dict[str, Any]) -> str:
        return str(self._client.create_container_from_config(document, name)["Id"])

    def _step(self, name: str, work: Callable[[], Any]) -> None:
        self.steps.setdefault(name, []).append(1000 * _timed(work))

    def _side_by_side(self, slots: int, work: Callable[[], None]) -> None:
        problems: list[Exception] = []

        def guarded() -> None:
            try:
                work()
            except Exception as problem:  # noqa: BLE001 -- it is raised below, in the thread that waits
                problems.append(problem)

        threads = [threading.Thread(target=guarded) for _ in range(slots)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if problems:
            raise problems[0]


@contextmanager
def copied(agent: AgentOnStage) -> Iterator[Floor]:
    """The floor under this agent, which is warm afterwards; nothing of it is left in the end."""
    warm = agent.run(1)
    agent.await_status(warm, "RUNNING", every=0.1)
    with closing(Floor(agent)) as floor:
        agent.end(warm)
        yield floor


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _documents(agent: AgentOnStage) -> tuple[dict[str, Any], dict[str, Any]]:
    found: dict[bool, dict[str, Any]] = {}
    for name in agent.containers():
        seen = agent.docker.inspect_container(name)
        config, host = seen["Config"], seen["HostConfig"]
        labels = {f"floor-{key}": value for key, value in config["Labels"].items()}
        host["CgroupParent"] = GROUP
        is_pause = host["NetworkMode"] == "none"
        if not is_pause:
            for key in ("Hostname", "ExposedPorts"):  # these come with the pause container's network
                config.pop(key, None)
        found[is_pause] = {**config, "Labels": labels, "HostConfig": host}
    if set(found) != {True, False}:
        raise Unmeasurable("the agent's task has not the two containers to copy")
    return found[True], found[False]


def _remove_groups() -> None:
    """The group above all pairs, in every hierarchy."""
    root = Path("/sys/fs/cgroup")
    for hierarchy in {each.resolve() for each in (root, *root.iterdir()) if each.is_dir()}:
        group = hierarchy / GROUP.strip("/")
        if group.is_dir():
            group.rmdir()
