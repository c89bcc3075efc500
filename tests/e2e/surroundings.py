"""The machine around the agent: what is on it, what tasks left behind, and how to take everything away."""

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from docker import APIClient
from docker.errors import APIError, NotFound
from pyroute2 import IPRoute

from agent.adapters.docker.keeper import KEEPER_LABEL
from agent.adapters.host.plumbing import HostPlumbing
from agent.adapters.host.rules import FirewallPlan
from agent.adapters.local.vpc.plan import DEFAULT_VPC_CIDR, default_plan
from agent.adapters.local.vpc.vpc import DEFAULT_NAMESPACE, SimulatedVpc
from tests.availability import end_keepers
from tests.e2e.agent_process import TEST_CLUSTERS, TEST_NAMESPACES, Agent, eventually, vpc_of_run
from tests.machine.outside import PREFIX

ACCOUNT = "111122223333"
"""The default of BERTH_ACCOUNT_ID: it seeds the ids of the simulated VPC."""

CLUSTER_LABEL = "com.amazonaws.ecs.cluster"

CGROUPS = Path("/sys/fs/cgroup")
LINKS = Path("/sys/class/net")
NAMESPACES = Path("/run/netns")

Things = Mapping[str, frozenset[str]]
"""Names of what is on the machine, by kind."""


def everything(docker: APIClient) -> Things:
    """What an agent could leave on a machine."""
    return {
        "namespace": frozenset(_names(NAMESPACES)),
        "link": frozenset(_names(LINKS)),
        "control group": frozenset(control_groups()),
        "container": frozenset(each["Id"] for each in docker.containers(all=True)),
        "volume": frozenset(each["Name"] for each in docker.volumes()["Volumes"] or ()),
        "mount": frozenset(_mounted_namespaces()),
        "firewall": frozenset(_firewall()),
        "plugin process": frozenset(_plugin_processes()),
        **_kernel_routing(),
    }


@dataclass(frozen=True, slots=True)
class Baseline:
    """What was on the machine before."""

    before: Things

    def differences(self, docker: APIClient, *, seconds: float = 15.0) -> dict[str, frozenset[str]]:
        """What is there now and was not before. Things that only pass by are waited for, and do not count."""
        until = time.monotonic() + seconds
        lasting: dict[str, frozenset[str]] | None = None
        while True:
            now = everything(docker)
            new = {kind: names - self.before[kind] for kind, names in now.items()}
            lasting = new if lasting is None else {kind: new[kind] & names for kind, names in lasting.items()}
            left = {kind: names for kind, names in lasting.items() if names}
            if not left or time.monotonic() > until:
                return left
            time.sleep(0.2)


def remains_of_tasks(docker: APIClient, agent: Agent, before: Things) -> dict[str, list[str]]:
    """What there still is of this agent's tasks, the agent's own things left out."""
    mine = {"label": [f"{CLUSTER_LABEL}={agent.cluster}"]}
    found = {
        "container": [each["Names"][0] for each in docker.containers(all=True, filters=mine)],
        "volume": [each["Name"] for each in docker.volumes(filters=mine)["Volumes"] or ()],
        "control group": sorted(set(control_groups()) - before["control group"]),
        "port of the task bridge": [
            name for name in _names(LINKS / "ecs-bridge/brif") if name not in before["link"]
        ],
        "network interface": [
            name for name in _names(LINKS) if name.startswith("berth-") and name not in before["link"]
        ],
    }
    return {kind: names for kind, names in found.items() if names}


def control_groups() -> list[str]:
    """Control groups of tasks, in all hierarchies."""
    return sorted(
        str(group)
        for parent in (
            CGROUPS,
            # with version 2 of control groups, a machine inside this one has its group here, with tasks of its own
            *(
                each
                for each in CGROUPS.iterdir()
                if each.is_dir() and not each.is_symlink() and not each.name.startswith(PREFIX)
            ),
        )
        for group in parent.glob("ecs/*/")
    )


def processes_below(groups: list[Path]) -> list[int]:
    """The processes in these control groups and in those below them."""
    found: list[int] = []
    for group in groups:
        for place in (group, *group.glob("**/")):
            with contextlib.suppress(FileNotFoundError, OSError):
                found += [int(line) for line in (place / "cgroup.procs").read_text().split()]
    return found


def sweep(docker: APIClient, agent: Agent, before: Things) -> None:
    """Take away everything of the agent and of its tasks, however it ended."""
    agent.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        agent.stop()
    mine = {"label": [f"{CLUSTER_LABEL}={agent.cluster}"]}
    for each in docker.containers(all=True, filters=mine):
        with contextlib.suppress(NotFound):
            docker.remove_container(each["Id"], v=True, force=True)
    end_keepers(docker, agent.data / "keeper")
    for each in docker.volumes(filters=mine)["Volumes"] or ():
        docker.remove_volume(each["Name"])
    _remove_keeper(docker, agent)
    asyncio.run(_remove_network_of(agent, before))
    for path in sorted(set(control_groups()) - before["control group"]):
        eventually(f"{path} can be removed", partial(_is_removed, Path(path)), seconds=5)


def _remove_keeper(docker: APIClient, agent: Agent) -> None:
    """It would wait some minutes for another agent."""
    label = f"{KEEPER_LABEL}={agent.data / 'keeper'}"
    for each in docker.containers(all=True, filters={"label": [label]}):
        with contextlib.suppress(NotFound, APIError):  # it removes itself when it has ended
            docker.remove_container(each["Id"], force=True)


@contextlib.contextmanager
def reserved_ports(*ports: int) -> Iterator[None]:
    """Let the kernel give these to no client: one that asks again and again might be connected with itself."""
    setting = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
    before = setting.read_text()
    setting.write_text(",".join([*before.split(), *map(str, ports)]))
    try:
        yield
    finally:
        setting.write_text(before)


def tidy(docker: APIClient) -> None:
    """Take away what an agent without tasks has left, and all that is left of a test run that was cut off.

    An agent that runs, or that has tasks, is not touched.
    """
    with socket.socket() as asked:
        running = asked.connect_ex(("127.0.0.1", 51678)) == 0
    assert not running, "an agent runs on this machine, and there is room for one only: stop it"
    _remove_cut_off_runs(docker)
    if (LINKS / "berth0").exists():
        tasks = docker.containers(all=True, filters={"label": ["com.amazonaws.ecs.task-arn"]})
        assert not tasks, f"there are {len(tasks)} containers of an agent's tasks; try: make demo-down"
        asyncio.run(_remove_network(DEFAULT_VPC_CIDR, DEFAULT_NAMESPACE))


def _remove_cut_off_runs(docker: APIClient) -> None:
    """A run that was killed could not clean up. Its cluster and its namespace bear the number of its process."""
    for each in docker.containers(all=True, filters={"label": [CLUSTER_LABEL]}):
        if each["Labels"][CLUSTER_LABEL].startswith(TEST_CLUSTERS):
            docker.remove_container(each["Id"], v=True, force=True)
            task = each["Labels"]["com.amazonaws.ecs.task-arn"].rsplit("/", 1)[1]
            for group in (each for each in control_groups() if each.endswith(f"/{task}")):
                eventually(f"{group} can be removed", partial(_is_removed, Path(group)), seconds=5)
    for each in docker.volumes(filters={"label": [CLUSTER_LABEL]})["Volumes"] or ():
        if each["Labels"][CLUSTER_LABEL].startswith(TEST_CLUSTERS):
            docker.remove_volume(each["Name"])
    for namespace in _names(NAMESPACES):
        if namespace.startswith(TEST_NAMESPACES):
            run = int(namespace.removeprefix(TEST_NAMESPACES))
            asyncio.run(_remove_network(vpc_of_run(run), namespace))


async def _remove_network_of(agent: Agent, before: Things) -> None:
    # a bridge that was there before may have ports of others
    is_shared = "ecs-bridge" in before["link"]
    if "BERTH_VPC_CIDR" in agent.settings:
        cidr, namespace = (agent.settings[name] for name in ("BERTH_VPC_CIDR", "BERTH_VPC_NAMESPACE"))
        await _remove_network(cidr, namespace, is_shared=is_shared)
    else:  # its interfaces come from elsewhere
        await _remove_plumbing(is_shared=is_shared)


async def _remove_network(cidr: str, namespace: str, *, is_shared: bool = False) -> None:
    vpc = SimulatedVpc(default_plan("us-east-1", seed=ACCOUNT, ipv4_cidr=cidr), namespace=namespace)
    try:
        await vpc.destroy()
    finally:
        await vpc.aclose()
    await _remove_plumbing(is_shared=is_shared)


async def _remove_plumbing(*, is_shared: bool) -> None:
    until = time.monotonic() + 5
    # the ports of removed containers go a moment after them
    while (LINKS / "ecs-bridge").exists() and time.monotonic() < until:
        await HostPlumbing(FirewallPlan(), _Silence()).remove()
        if is_shared:
            break
        await asyncio.sleep(0.05)


class _Silence:
    """Nobody listens to the health of an agent that is being removed."""

    def report(self, component: str, problem: str | None) -> None:
        """Forget it."""


def _is_removed(group: Path) -> bool:
    with contextlib.suppress(OSError):
        for below in sorted(group.glob("**/"), reverse=True):
            below.rmdir()
    return not group.exists()


def _names(directory: Path) -> list[str]:
    try:
        return sorted(each.name for each in directory.iterdir())
    except FileNotFoundError:
        return []


def _mounted_namespaces() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split(" ")[4] for line in lines if " - nsfs " in line]
    # Docker's own: with the first container of the host's network it comes, and it stays
    return [point for point in points if not point.endswith("/docker/netns/default")]


def _firewall() -> list[str]:
    listed = subprocess.run(
        ["nft", "--stateless", "list", "ruleset"], capture_output=True, text=True, check=True
    ).stdout
    found, table = [], ""
    for line in listed.splitlines():
        if line.startswith("table "):
            table = line.removesuffix(" {")
        found.append(f"{table}: {line.strip()}")
    return found


def _plugin_processes() -> list[str]:
    """Those of this machine: a machine inside it (tests.machine) has processes of its own, which are seen here."""
    own = Path("/proc/self/ns/pid").readlink()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "ns/pid").readlink() != own:
                continue
            words = (process / "cmdline").read_bytes().split(b"\0")
            if any(b"/ecs-" in word and b"/cni/" in word for word in words):
                found.append(f"{process.name} {b' '.join(words).decode(errors='replace')}")
    return found


def _kernel_routing() -> dict[str, frozenset[str]]:
    with IPRoute() as kernel:
        addresses = [
            f"{each.get('address')}/{each['prefixlen']} on {each['index']}" for each in kernel.get_addr()
        ]
        rules = [_shown(each) for each in kernel.get_rules()]
        routes = [
            f"{_shown(each)} to {each.get('dst')}/{each['dst_len']} dev {each.get('oif')}"
            for each in kernel.get_routes()
        ]
    return {"address": frozenset(addresses), "rule": frozenset(rules), "route": frozenset(routes)}


def _shown(message: Any) -> str:
    words = [
        f"{name}={message.get(name)}" for name in ("family", "priority", "table", "fwmark", "iif", "src")
    ]
    return " ".join(words)
