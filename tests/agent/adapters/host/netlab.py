"""A small network for tests: a host of its own with tasks, a Docker-like bridge and a machine next door."""

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
_ASK = """
import socket, sys
target, path, source, timeout = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
extra = sys.argv[5] if len(sys.argv) > 5 else ""
with socket.create_connection((target, 80), timeout, (source, 0) if source else None) as s:
    s.sendall(f"GET {path} HTTP/1.1\\r\\nHost: 169.254.170.2\\r\\n{extra}Connection: close\\r\\n\\r\\n".encode())
    text = b""
    while more := s.recv(65536):
        text += more
sys.stdout.buffer.write(text)
"""
_SCAN = """
import errno, json, select, socket, sys, time
address, first, last, wait = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
open_ports = []
for start in range(first, last + 1, 4000):
    poll, waiting = select.epoll(), {}
    for port in range(start, min(start + 4000, last + 1)):
        [(family, _, _, _, place), *_] = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
        s = socket.socket(family)
        s.setblocking(False)
        if s.connect_ex(place) not in (0, errno.EINPROGRESS):
            s.close()
            continue
        waiting[s.fileno()] = (s, port)
        poll.register(s, select.EPOLLOUT)
    until = time.monotonic() + wait
    while waiting and (left := until - time.monotonic()) > 0:
        for number, _ in poll.poll(left):
            s, port = waiting.pop(number)
            if s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                open_ports.append(port)
            poll.unregister(number)
            s.close()
    for s, _ in waiting.values():
        s.close()
    poll.close()
print(json.dumps(open_ports))
"""


def run(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command[:8])}: exit {done.returncode}: {done.stderr.strip()}")
    return done


class Lab:
    """Namespaces with unique names; ``close`` removes them all, and with them everything inside."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self._spaces: list[str] = []
        self._processes: list[subprocess.Popen[str]] = []
        self.host = ""

    def open(self) -> None:
        self.host = self.space("host")
        self.inside(self.host, "ip", "link", "set", "lo", "up")
        self.inside(self.host, "sysctl", "-qw", "net.ipv4.ip_forward=1")  # as Docker does

    def space(self, name: str) -> str:
        full = f"berth-{self.tag}-{name}"
        run("ip", "netns", "add", full)
        self._spaces.append(full)
        return full

    def inside(self, space: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run("nsenter", f"--net=/run/netns/{space}", *command, check=check)

    def task(self, name: str, address: str) -> str:
        """A namespace joined to the tasks' bridge as the plugins do it, on an isolated port."""
        space = self._joined(name, "ecs-bridge", isolated=True)
        self.inside(space, "ip", "addr", "add", f"{address}/32", "dev", "eth0")
        self.inside(space, "ip", "route", "add", "169.254.172.1", "dev", "eth0")
        self.inside(space, "ip", "route", "add", "default", "via", "169.254.172.1")
        return space

    def docker_bridge(self, name: str = "docker0", address: str = "172.17.0.1/16") -> None:
        self.inside(self.host, "ip", "link", "add", name, "type", "bridge")
        self.inside(self.host, "ip", "addr", "add", address, "dev", name)
        self.inside(self.host, "ip", "link", "set", name, "up")

    def container(self, name: str, address: str = "172.17.0.2/16", bridge: str = "docker0") -> str:
        space = self._joined(name, bridge, isolated=False)
        self.inside(space, "ip", "addr", "add", address, "dev", "eth0")
        self.inside(space, "ip", "route", "add", "default", "via", "172.17.0.1")
        return space

    def neighbour(self, name: str = "next") -> str:
        """Another machine on the host's network: 10.77.0.2, the host is 10.77.0.1."""
        space = self.space(name)
        run(
            "ip",
            "link",
            "add",
            "eth0",
            "netns",
            space,
            "type",
            "veth",
            "peer",
            "name",
            "eth9",
            "netns",
            self.host,
        )
        self.inside(self.host, "ip", "addr", "add", "10.77.0.1/24", "dev", "eth9")
        self.inside(self.host, "ip", "link", "set", "eth9", "up")
        self.inside(space, "ip", "link", "set", "lo", "up")
        self.inside(space, "ip", "addr", "add", "10.77.0.2/24", "dev", "eth0")
        self.inside(space, "ip", "link", "set", "eth0", "up")
        self.inside(space, "ip", "route", "add", "default", "via", "10.77.0.1")
        return space

    def start(self, space: str, *command: str) -> subprocess.Popen[str]:
        """Run something there until the lab is closed."""
        process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{space}", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        self._processes.append(process)
        return process

    def serve(self, *tasks: str, port: int = 80) -> subprocess.Popen[str]:
        """The agent's endpoint in the host's namespace, for tasks with these addresses."""
        process = self.start(
            self.host,
            sys.executable,
            "-u",
            "-m",
            "tests.agent.adapters.host.endpoint_process",
            str(port),
            *tasks,
        )
        wait_for_line(process, "ready")
        return process

    def ask(
        self,
        space: str,
        path: str,
        *,
        source: str = "",
        timeout: float = 1.0,
        to: str = "169.254.170.2",
        extra: str = "",
    ) -> tuple[int, str]:
        """(status, body), or (0, error) when there was no answer."""
        done = self.inside(
            space, sys.executable, "-I", "-S", "-c", _ASK, to, path, source, str(timeout), extra, check=False
        )
        if done.returncode != 0:
            return 0, done.stderr.strip().splitlines()[-1]
        head, _, body = done.stdout.partition("\n\n")  # text mode turns CR LF into LF
        return int(head.split()[1]), body

    def open_ports(self, space: str, address: str, first: int, last: int, wait: float = 0.4) -> list[int]:
        done = self.inside(
            space, sys.executable, "-I", "-S", "-c", _SCAN, address, str(first), str(last), str(wait)
        )
        return json.loads(done.stdout)

    def settled(self, space: str) -> None:
        """Wait until the kernel has finished looking for duplicates of IPv6 addresses there."""
        until = time.monotonic() + 10
        while self.inside(space, "ip", "-6", "addr", "show", "tentative").stdout:
            if time.monotonic() > until:
                raise AssertionError(f"addresses in {space} are still tentative")
            time.sleep(0.1)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
        for space in self._spaces:
            run("ip", "netns", "del", space, check=False)

    def _joined(self, name: str, bridge: str, *, isolated: bool) -> str:
        space = self.space(name)
        port = f"v{len(self._spaces)}"
        run(
            "ip",
            "link",
            "add",
            "eth0",
            "netns",
            space,
            "type",
            "veth",
            "peer",
            "name",
            port,
            "netns",
            self.host,
        )
        self.inside(self.host, "ip", "link", "set", port, "master", bridge, "up")
        if isolated:
            self.inside(self.host, "bridge", "link", "set", "dev", port, "isolated", "on")
        self.inside(space, "ip", "link", "set", "lo", "up")
        self.inside(space, "ip", "link", "set", "eth0", "up")
        return space


def wait_for_line(process: subprocess.Popen[str], wanted: str) -> str:
    """The next line of output that contains ``wanted``."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        if wanted in line:
            return line
        seen.append(line)
    raise AssertionError(f"the process ended without {wanted!r}: {''.join(seen)}")
