"""``make demo-down``: removes every trace of a demonstration, also of one that was cut off."""

import asyncio
import json
import shutil
import sys
from pathlib import Path

from agent import logs
from agent.adapters.host.plumbing import HostPlumbing
from agent.adapters.host.rules import FirewallPlan
from deploy.demo import agent, neighbour
from deploy.demo.stage import PLACE, Untrue, quiet, show, truth

_CLUSTER = f"label=com.amazonaws.ecs.cluster={agent.CLUSTER}"
_BASELINE = PLACE / "before.json"


def main() -> int:
    """Remove everything and say so. The exit code."""
    logs.configure(level="error")
    try:
        agent.refuse_another()
        sweep()
        found = leftovers()
        show("docker", "ps", "--all", "--filter", _CLUSTER, "--format", "{{.Names}}")
        truth(f"nothing of the demonstration is left ({len(found)} leftovers)", not found)
    except Untrue as untruth:
        print(f"[FAILED] {untruth}", file=sys.stderr)
        return 1
    return 0


def sweep() -> None:
    """Stop the agent; remove containers, networks, rules and files. Raise ``Untrue`` if a part resists."""
    agent.write_settings()
    agent.stop()
    containers = quiet("docker", "ps", "-aq", "--filter", _CLUSTER).split()
    if containers:
        quiet("docker", "rm", "--force", "--volumes", *containers)
    volumes = quiet("docker", "volume", "ls", "-q", "--filter", _CLUSTER).split()
    if volumes:
        quiet("docker", "volume", "rm", *volumes)
    asyncio.run(neighbour.remove())
    asyncio.run(_remove_plumbing())
    for group in _things_of_the_kernel():
        if group.startswith("/sys/fs/cgroup/"):
            Path(group).rmdir()
    shutil.rmtree(PLACE, ignore_errors=True)


def remember() -> None:
    """Note what is on this machine before the demonstration, so that it is never taken for a leftover."""
    PLACE.mkdir(parents=True, exist_ok=True)
    _BASELINE.unlink(missing_ok=True)
    _BASELINE.write_text(json.dumps(_things_of_the_kernel()))


def leftovers() -> list[str]:
    """Names of everything on this machine that belongs to tasks of the demonstration."""
    found = quiet("docker", "ps", "-aq", "--filter", _CLUSTER).split()
    found += quiet("docker", "volume", "ls", "-q", "--filter", _CLUSTER).split()
    return found + _things_of_the_kernel()


async def _remove_plumbing() -> None:
    await HostPlumbing(FirewallPlan(), _Silence()).remove()


def _things_of_the_kernel() -> list[str]:
    """Control groups, bridge ports and interfaces of tasks, without those that were there before."""
    root = Path("/sys/fs/cgroup")
    found = [
        str(group) for parent in (root, *root.iterdir()) for group in parent.glob("ecs/*/") if group.is_dir()
    ]
    ports = Path("/sys/class/net/ecs-bridge/brif")
    found += [port.name for port in ports.iterdir()] if ports.is_dir() else []
    found += [link.name for link in Path("/sys/class/net").iterdir() if link.name.startswith("berth-")]
    before = json.loads(_BASELINE.read_text()) if _BASELINE.exists() else []
    return sorted(set(found) - set(before))


class _Silence:
    """Nobody listens to the health of an agent that is being removed."""

    def report(self, component: str, problem: str | None) -> None:
        if problem is not None:
            print(f"{component}: {problem}")


if __name__ == "__main__":
    sys.exit(main())
