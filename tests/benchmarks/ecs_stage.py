"""An agent in a cluster of the stand-in control plane, with network interfaces that appear as EC2's do."""

import os
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.benchmarks.ecs_plane import Plane
from tests.benchmarks.stage import AgentOnStage, Unmeasurable, clear_stage, remove_plumbing
from tests.fakes.ecs.links import EniLinks
from tests.fakes.ecs.tasks import Eni

_LINK_GROUP = 1
"""RTMGRP_LINK of rtnetlink(7)."""

_LARGEST = 65536
_BUFFER = 4 * 1024 * 1024
_APPEARS_WITHIN = 5.0
_BRIDGE = Path("/sys/class/net/ecs-bridge")


class Appearances:
    """When the kernel said first that there is a device with some MAC address: what the agent is told, too."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind((0, _LINK_GROUP))
        self._socket.settimeout(0.2)
        self._lock = threading.Condition()
        self._wanted: dict[bytes, float | None] = {}
        self._is_over = False
        self._thread = threading.Thread(target=self._listen, name="appearances", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()
        self._socket.close()

    def expect(self, mac: str) -> None:
        """Look out for that address from now on."""
        with self._lock:
            self._wanted[_octets(mac)] = None

    def at(self, mac: str) -> float:
        """When it was there, by the monotonic clock."""
        key = _octets(mac)
        with self._lock:
            if not self._lock.wait_for(lambda: self._wanted[key] is not None, _APPEARS_WITHIN):
                raise Unmeasurable(f"no device with the address {mac} has appeared")
            return self._wanted[key] or 0.0

    def _listen(self) -> None:
        while not self._is_over:
            try:
                said = self._socket.recv(_LARGEST)
            except TimeoutError:
                continue
            now = time.monotonic()
            with self._lock:
                for mac, at in self._wanted.items():
                    if at is None and mac in said:
                        self._wanted[mac] = now
                        self._lock.notify_all()


class ClusterAgent(AgentOnStage):
    """One agent with the backend ecs, its control plane in another process, and its subnet."""

    def __init__(self, directory: Path, plane: Plane, links: EniLinks, cluster: str, **settings: str) -> None:
        self.cluster = cluster
        self.plane = plane
        bundle = directory / "trusted.pem"
        bundle.write_text(_trusted() + plane.certificate().read_text())
        super().__init__(
            directory,
            {
                **plane.environment(),
                # As on a real machine: certificates are checked, with all of the system's authorities loaded.
                "BERTH_TLS_VERIFY": "true",
                "SSL_CERT_FILE": str(bundle),
                "AWS_EC2_METADATA_DISABLED": "true",
                "ECS_IMAGE_PULL_BEHAVIOR": "prefer-cached",
                "ECS_DISABLE_METRICS": "false",
                **settings,
            },
        )
        self._links = links
        self._interfaces: dict[str, Eni] = {}
        self._keeps_plumbing = _BRIDGE.exists()

    def join(self) -> float:
        """Start it and wait until it is connected; the seconds until it answered."""
        took = self.start()
        self.plane.connected()
        return took

    def planned(self, count: int) -> list[str]:
        """So many tasks whose interfaces are announced and do not exist yet."""
        plans = [self._links.plan() for _ in range(count)]
        arns = self.plane.new_tasks(plans)
        self._interfaces |= dict(zip(arns, plans, strict=True))
        self.plane.announce(arns)
        return arns

    def interface(self, arn: str) -> Eni:
        """The interface of a task."""
        return self._interfaces[arn]

    def appear(self, arn: str) -> None:
        """The interface of a task appears."""
        self._links.appear(self._interfaces[arn])

    def prepared(self, count: int) -> list[str]:
        """So many tasks whose interfaces are here and reported: they only miss their payload."""
        arns = self.planned(count)
        for arn in arns:
            self.appear(arn)
        self.plane.attached(arns)
        return arns

    def run(self, count: int) -> list[str]:
        """Send so many tasks; their ARNs."""
        arns = self.prepared(count)
        self.plane.send(arns, "RUNNING")
        return arns

    def await_status(self, arns: list[str], status: str, *, every: float) -> None:
        """Wait until all tasks have that status. Nothing polls, so ``every`` does not matter."""
        del every
        self.plane.reached(arns, status)

    def end(self, arns: list[str], *, every: float = 0.1) -> None:
        """Stop the tasks and wait until nothing of them is left."""
        self.plane.send(arns, "STOPPED")
        self.await_status(arns, "STOPPED", every=every)
        self.release(arns)
        self.await_removal()

    def release(self, arns: list[str]) -> None:
        """Take the interfaces of stopped tasks away, as EC2 does."""
        for arn in arns:
            self._links.detach(self._interfaces[arn].mac)

    def task_ids(self) -> list[str]:
        """The ids of all tasks that it was ever given."""
        return [arn.rpartition("/")[2] for arn in self._interfaces]

    def remove_network(self) -> None:
        """Remove bridge, addresses and rules, unless an agent before it has left them."""
        if not self._keeps_plumbing:
            remove_plumbing()


@contextmanager
def cluster_agent(**settings: str) -> Iterator[ClusterAgent]:
    """An agent with these settings in a cluster, connected; in the end everything is removed."""
    clear_stage()
    if os.geteuid() != 0:
        raise Unmeasurable("interfaces can be made by root only; run it as root")
    cluster = f"bench-{os.getpid()}"
    with (
        tempfile.TemporaryDirectory(prefix="berth-bench-") as directory,
        EniLinks(prefix="fkb") as links,
        Plane(cluster) as plane,
    ):
        agent = ClusterAgent(Path(directory), plane, links, cluster, **settings)
        try:
            agent.join()
            yield agent
            plane.require_peace()
        finally:
            agent.remove()


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _trusted() -> str:
    """The certificates that this machine trusts; with none the agent trusts only the stand-in."""
    file = ssl.get_default_verify_paths().cafile
    if not file:
        print("this machine has no file of trusted certificates", file=sys.stderr)
        return ""
    return Path(file).read_text(encoding="utf-8")
