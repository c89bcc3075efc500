"""A machine of its own is switched off and on: everything that lives in the kernel is gone, the disk is what it was.

Only where the first process is that of ``tests.machine``, never on a real machine.
"""

import contextlib
import os
import signal
import subprocess
import uuid
from pathlib import Path

from tests.e2e.agent_process import eventually
from tests.e2e.container.installed import DATA

OUTSIDE = "fke"
"""How the stand-in of EC2's network names what it makes: that is no part of the machine."""

_NAMESPACES = Path("/run/netns")
_LINKS = Path("/sys/class/net")
_STAYS = frozenset({"lo", "eth0", "uplink", "docker0"})


def reboot() -> None:
    """Kill Docker and all that it runs, forget namespaces, links and rules, and start Docker again."""
    assert b"tests.machine.inside" in Path("/proc/1/cmdline").read_bytes(), "this is no machine of a test"
    words = _end_docker()
    for name in _NAMESPACES.iterdir():
        if name.name.startswith(OUTSIDE):
            continue
        subprocess.run(["umount", "--lazy", str(name)], check=False, capture_output=True)
        name.unlink()
    for link in _LINKS.iterdir():
        if link.name not in _STAYS and not link.name.startswith(OUTSIDE):
            # the second end of a pair is gone with the first
            subprocess.run(["ip", "link", "delete", link.name], check=False, capture_output=True)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    _forget_the_boot()
    Path("/run/docker.pid").unlink(missing_ok=True)
    with Path("/run/dockerd.log").open("ab") as log:
        # its parent is the machine's first process, as before
        subprocess.run(
            ["setsid", "--fork", *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True
        )
    eventually("Docker is there again", _answers, seconds=30)


def _end_docker() -> list[str]:
    """Docker's processes, and those of its containers; the words that Docker was started with."""
    daemon: list[str] = []
    ending = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            name = Path(line[0]).name if line else ""
            groups = (process / "cgroup").read_text()
            is_docker = name in {"dockerd", "containerd", "containerd-shim-runc-v2"}
            if is_docker or "/docker/" in groups or "/ecs/" in groups:
                ending.append(int(process.name))
            if name == "dockerd":
                daemon = line
    assert daemon, "no dockerd runs"
    # the daemon first: it must not see the others die
    for pid in sorted(ending):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in ending:
        eventually(f"process {pid} is dead", lambda one=pid: not _lives(one), seconds=10)
    return daemon


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def _forget_the_boot() -> None:
    """The kernel still has its number of this boot; what was kept under it becomes that of an earlier one."""
    for kept in (DATA / "boots").iterdir():
        kept.rename(kept.with_name(str(uuid.uuid4())))


def _answers() -> bool:
    return subprocess.run(["docker", "version"], capture_output=True, check=False, timeout=30).returncode == 0
