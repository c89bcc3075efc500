"""The inside of the machine: its first process. Mounts, starts Docker, runs the command, and reaps what dies."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOCKET = "/run/docker.sock"
DOCKER_LOG = Path("/run/dockerd.log")
ADDRESS = "192.0.2.10/24"
GATEWAY = "192.0.2.1"
LINKS = 2
SECONDS = 30.0


def main() -> int:
    """Be the machine until its command has ended; the command's exit code."""
    orders: dict[str, Any] = json.loads(sys.argv[1])
    _mount(orders["hierarchies"])
    _make_network()
    _start_docker()
    for archive in orders["load"]:
        _do("docker", "load", "--quiet", "--input", archive)
    command = subprocess.Popen(orders["command"])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: command.send_signal(number))
    while True:
        process, status = os.wait()
        if process == command.pid:
            return os.waitstatus_to_exitcode(status) % 256


def _mount(hierarchies: Sequence[Mapping[str, str]]) -> None:
    """What the new namespaces show. All of it is private to this machine."""
    _do("mount", "-t", "proc", "proc", "/proc")
    _do("mount", "-t", "sysfs", "sysfs", "/sys")
    _do("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/sys/fs/cgroup")
    for each in hierarchies:
        place = Path("/sys/fs/cgroup", each["place"])
        place.mkdir(exist_ok=True)
        options = ("-o", each["options"]) if each["options"] else ()
        _do("mount", "-t", each["type"], *options, each["type"], str(place))
    for place, size in (("/run", "64m"), ("/var/lib", "6g"), ("/var/log", "256m")):
        _unmount_below(place)
        _do("mount", "-t", "tmpfs", "-o", f"mode=755,size={size}", "tmpfs", place)
    kept = Path("/run/etc")
    shutil.copytree("/etc", kept, symlinks=True)
    _do("mount", "--bind", str(kept), "/etc")
    Path("/run/netns").mkdir()
    # as systemd has it: what is mounted below is seen by containers that have this directory
    _do("mount", "--make-rshared", "/run")


def _unmount_below(place: str) -> None:
    """What is mounted there would be covered, and still be in the list of mounts that others read."""
    points = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted(points, reverse=True):
        if point.startswith(f"{place}/"):
            _do("umount", "--lazy", point)


def _make_network() -> None:
    """A loopback, and an interface that is the machine's own; nobody answers at its gateway."""
    _do("ip", "link", "set", "lo", "up")
    _do("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "uplink")
    _do("ip", "link", "set", "uplink", "up")
    _do("ip", "link", "set", "eth0", "up")
    _do("ip", "address", "add", ADDRESS, "dev", "eth0")
    _do("ip", "route", "add", "default", "via", GATEWAY)
    _await_ipv6()


def _await_ipv6() -> None:
    """The kernel gives each link an address of its own by and by; tests compare before and after."""
    if not Path("/proc/net/if_inet6").exists():
        return  # a kernel without IPv6
    until = time.monotonic() + SECONDS
    while True:
        shown = _said("ip", "-6", "-oneline", "address", "show", "scope", "link")
        if len(shown.splitlines()) >= LINKS and "tentative" not in shown:
            return
        if time.monotonic() > until:
            sys.exit(f"the machine's links have no IPv6 addresses of their own:\n{shown}")
        time.sleep(0.05)


def _start_docker() -> None:
    """A daemon whose ``--privileged`` works although this kernel gives nobody CAP_SYS_RESOURCE."""
    with DOCKER_LOG.open("wb") as log:
        subprocess.Popen(
            ["dockerd", "--host", f"unix://{SOCKET}", "--add-runtime", f"limited={HERE / 'runtime.sh'}",
             "--default-runtime", "limited"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    until = time.monotonic() + SECONDS
    while not _docker_answers():
        if time.monotonic() > until:
            sys.exit(f"the machine's dockerd does not answer:\n{DOCKER_LOG.read_text()[-4000:]}")
        time.sleep(0.05)


def _docker_answers() -> bool:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(2)
        try:
            asking.connect(SOCKET)
            asking.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b"200 OK" in asking.recv(4096)
        except OSError:
            return False


def _do(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
