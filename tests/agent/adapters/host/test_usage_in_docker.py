"""The kernel's counters of real containers agree with what Docker says of them."""

import json
import os
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker import APIClient

from agent.adapters.ecs.samples import Samples
from agent.adapters.host.usage import KernelUsage
from agent.model.ids import ContainerId
from agent.model.usage import Usage
from agent.ports.usage import UsageSubject
from deploy.demo.build import find_busybox
from pause.image import Architecture, File, ImageConfig, Link, build_image

pytestmark = pytest.mark.integration

ARCHITECTURE: Architecture = "arm64" if platform.machine() == "aarch64" else "amd64"
TOOLS = ("sh", "sleep", "dd", "head", "tr", "ping")
GROUPS = Path("/sys/fs/cgroup")
MIB = 1024 * 1024

# A quarter of a core, 30 MiB of memory of its own, 8 MiB through to the disk; then the page cache of it.
BUSY = (
    "held=$(head -c 31457280 /dev/zero | tr '\\0' x); "
    "dd if=/dev/zero of=/file bs=1048576 count=8 conv=fsync 2>/dev/null; "
    "echo ready; while :; do :; done"
)


@dataclass
class Box:
    """A container and what Docker knows of it."""

    client: APIClient
    container_id: ContainerId

    @property
    def pid(self) -> int:
        return int(self.client.inspect_container(self.container_id)["State"]["Pid"])

    def subject(self, link: str | None = None) -> UsageSubject:
        return UsageSubject(self.container_id, self.pid, link)

    def stats(self) -> dict[str, Any]:
        return self.client.stats(self.container_id, stream=False)

    def await_ready(self) -> None:
        until = time.monotonic() + 30
        while b"ready" not in self.client.logs(self.container_id):
            assert time.monotonic() < until
            time.sleep(0.05)


@pytest.fixture(scope="module")
def client() -> Iterator[APIClient]:
    found = APIClient(version="auto")
    yield found
    found.close()


@pytest.fixture(scope="module")
def image(client: APIClient) -> Iterator[str]:
    entries = [
        File("/bin/busybox", find_busybox().read_bytes(), mode=0o755),
        *(Link(f"/bin/{tool}", "busybox") for tool in TOOLS),
    ]
    config = ImageConfig(ARCHITECTURE, entrypoint=("/bin/sh", "-c"))
    made = build_image(f"berth-test/usage:{uuid.uuid4().hex[:12]}", config, entries)
    for _ in client.load_image(made.content):
        pass
    yield made.name
    client.remove_image(made.name, force=True)


@pytest.fixture
def run(client: APIClient, image: str) -> Iterator[Callable[..., Box]]:
    made: list[Box] = []

    def start(command: str, network: str = "none", **host: Any) -> Box:
        found = client.create_container(
            image, [command], host_config=client.create_host_config(network_mode=network, **host)
        )
        box = Box(client, ContainerId(found["Id"]))
        made.append(box)
        client.start(box.container_id)
        return box

    yield start
    for each in made:
        client.remove_container(each.container_id, force=True, v=True)


def look(box: Box, link: str | None = None) -> Usage:
    [found] = KernelUsage().look([box.subject(link)])
    assert found is not None
    return found


def counted_device(client: APIClient) -> dict[str, Any]:
    """A limit that is never reached. Version 1 on newer kernels counts a disk only after it has had one."""
    device = Path(client.info()["DockerRootDir"]).stat().st_dev
    name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if (GROUPS / "cgroup.controllers").exists() or not name.exists():
        return {}
    return {"device_write_bps": [{"Path": f"/dev/{name.resolve().name}", "Rate": 2**40}]}


def memory_in(stats: dict[str, Any]) -> int:
    memory = stats["memory_stats"]
    details = memory["stats"]
    # The fields of version 1 and of version 2.
    return int(memory["usage"]) - int(details.get("total_cache", details["inactive_file"]))


def storage_in(stats: dict[str, Any]) -> tuple[int, int] | None:
    entries = stats["blkio_stats"]["io_service_bytes_recursive"]
    if not entries:
        return None
    return tuple(
        sum(each["value"] for each in entries if each["op"].lower() == op) for op in ("read", "write")
    )  # type: ignore[return-value]


def test_processor_memory_and_storage_are_dockers(run, client):
    box = run(BUSY, cpu_period=100_000, cpu_quota=25_000, **counted_device(client))
    box.await_ready()
    before = look(box)
    stats = box.stats()
    after = look(box)
    assert before.cpu <= stats["cpu_stats"]["cpu_usage"]["total_usage"] <= after.cpu
    assert memory_in(stats) == pytest.approx(after.memory, abs=MIB)
    assert 30 * MIB <= after.memory < 40 * MIB
    assert storage_in(stats) == (
        None if after.storage_read is None else (after.storage_read, after.storage_written)
    )
    if after.storage_written is not None:
        assert after.storage_written >= 8 * MIB


def test_processor_use_is_the_same_share_as_docker_shows(run):
    box = run(BUSY, cpu_period=100_000, cpu_quota=25_000)
    box.await_ready()
    samples = Samples(os.cpu_count() or 1)
    samples.add(box.container_id, look(box))
    stats = box.stats()  # Docker measures for two seconds
    samples.add(box.container_id, look(box))
    now, then = stats["cpu_stats"], stats["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - then["cpu_usage"]["total_usage"]
    shown = 100 * used / (now["system_cpu_usage"] - then["system_cpu_usage"])
    [measured] = samples.take(box.container_id).cpu
    assert measured == pytest.approx(shown, rel=0.35)
    assert measured < 1.3 * 25 / (os.cpu_count() or 1)


def test_the_network_is_dockers_and_is_shared_by_those_who_join(run, client):
    owner = run("echo ready; while :; do sleep 1; done", network="bridge")
    joined = run("echo ready; while :; do sleep 1; done", network=f"container:{owner.container_id}")
    owner.await_ready()
    joined.await_ready()
    gateway = client.inspect_container(owner.container_id)["NetworkSettings"]["Gateway"]
    before = look(owner, "eth0").link
    made = client.exec_create(joined.container_id, ["ping", "-q", "-c", "3", "-s", "1000", gateway])
    answer = client.exec_start(made["Id"])
    assert b"3 packets received" in answer, answer
    ours = look(owner, "eth0").link
    assert ours.tx_bytes - before.tx_bytes >= 3000
    assert ours.rx_bytes - before.rx_bytes >= 3000
    # Neighbour discovery may come in between, so the two are asked until nothing has moved.
    for _ in range(10):
        ours = look(owner, "eth0").link
        theirs = owner.stats()["networks"]["eth0"]
        if look(owner, "eth0").link == ours:
            break
    assert {name: getattr(ours, name) for name in theirs} == theirs
    assert look(joined, "eth0").link == look(owner, "eth0").link


def test_a_link_that_is_not_there_yet_is_unknown(run):
    box = run("while :; do sleep 1; done")
    found = look(box, "eth0")
    assert found.link is None
    assert found.cpu is not None


def test_a_container_that_ended_is_gone_and_its_process_id_is_nobodys(run, client):
    ended, other = (run("while :; do sleep 1; done") for _ in range(2))
    probe = KernelUsage()
    subjects = [ended.subject(), other.subject("eth0")]
    assert None not in probe.look(subjects)
    client.kill(ended.container_id)
    client.wait(ended.container_id)
    assert [each is None for each in probe.look(subjects)] == [True, False]
    borrowed = UsageSubject(ended.container_id, other.pid, "eth0")
    assert probe.look([borrowed]) == (None,)


def test_an_agent_in_a_control_group_namespace_of_its_own_finds_them_too(run, tmp_path):
    box = run(BUSY, cpu_period=100_000, cpu_quota=25_000)
    box.await_ready()
    name = f"berth-test-{uuid.uuid4().hex}"
    tops = (
        [GROUPS]
        if (GROUPS / "cgroup.controllers").exists()
        else [each for each in GROUPS.iterdir() if each.is_dir()]
    )
    groups = [top / name for top in tops if (top / "cgroup.procs").exists() and top.name != "cpuset"]
    program = (
        "import json, sys; from pathlib import Path\n"
        "from agent.adapters.host.usage import KernelUsage\n"
        "from agent.ports.usage import UsageSubject\n"
        f"[found] = KernelUsage().look([UsageSubject({box.container_id!r}, {box.pid})])\n"
        f"print(json.dumps([Path('/proc/{box.pid}/cgroup').read_text(), found.cpu, found.memory]))\n"
    )
    moves = "".join(f"echo $$ > {group / 'inner' / 'cgroup.procs'}; " for group in groups)
    before = look(box)
    try:
        for group in groups:
            (group / "inner").mkdir(parents=True)
        done = subprocess.run(
            ["sh", "-ec", f'{moves} exec unshare --cgroup "$@"', "sh", sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    finally:
        for group in groups:
            (group / "inner").rmdir()
            group.rmdir()
    assert done.returncode == 0, done.stderr
    seen, cpu, memory = json.loads(done.stdout)
    assert "/../" in seen
    assert before.cpu <= cpu <= look(box).cpu
    assert memory == pytest.approx(before.memory, abs=MIB)
