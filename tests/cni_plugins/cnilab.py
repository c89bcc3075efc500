"""A private host namespace with sandboxes, bridges and pretend ENIs, in which the real executables run."""

import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUBNET = "169.254.172.0/22"


class Namespace:
    """A network namespace that lives as long as its sleeping process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "echo; exec sleep 300"], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._process.stdout.read(1)  # the newline is written inside
        self.path = f"/proc/{self._process.pid}/ns/net"
        self.alive = True

    def sh(self, command: str) -> str:
        """Run a shell command inside; fail loudly."""
        done = subprocess.run(
            ["nsenter", f"--net={self.path}", "sh", "-c", command],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def ip(self, command: str) -> Any:
        """`ip -j ...`, decoded: iproute2 is the independent witness."""
        said = self.sh(f"ip -d -j {command}")
        return json.loads(said) if said.strip() else []

    def links(self) -> dict[str, dict[str, Any]]:
        return {link["ifname"]: link for link in self.ip("link show")}

    def addresses(self, name: str) -> set[str]:
        (link,) = self.ip(f"addr show dev {name}")
        return {f"{info['local']}/{info['prefixlen']}" for info in link["addr_info"]}

    def routes(self) -> set[str]:
        """Main table, both families, as `dst via gw` or `blackhole dst`; without the multicast and local ones."""
        found = set()
        for family in ("-4", "-6"):
            for route in json.loads(self.sh(f"ip {family} -j route show table main") or "[]"):
                kind = "blackhole " if route.get("type") == "blackhole" else ""
                via = f" via {route['gateway']}" if "gateway" in route else ""
                found.add(f"{kind}{route['dst']}{via}")
        return found

    def end(self) -> None:
        if self.alive:
            self.alive = False
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()


@dataclass
class Outcome:
    """What one execution gave."""

    exit: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.stdout)

    @property
    def code(self) -> int:
        return self.document["code"]

    @property
    def message(self) -> str:
        return self.document["msg"]

    def ok(self) -> dict[str, Any]:
        assert self.exit == 0, self.stdout
        return self.document if self.stdout else {}


@dataclass
class Lab:
    """One test's world."""

    plugins: Path
    scratch: Path
    host: Namespace
    sandboxes: list[Namespace] = field(default_factory=list)

    def sandbox(self) -> Namespace:
        self.sandboxes.append(Namespace())
        return self.sandboxes[-1]

    def eni(self, mac: str, name: str = "eth7") -> str:
        """A link in the host namespace that plays an ENI; its other end is up, with the gateways' addresses."""
        peer = f"vpc-{name}"
        self.host.sh(f"ip link add {peer} type veth peer name {name} && ip link set {name} address {mac}")
        self.host.sh(f"ip link set {peer} up")
        return mac

    def environment(
        self, command: str, sandbox: Namespace | None, ifname: str, container: str = "c1", **more: str
    ) -> dict[str, str]:
        found = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": sandbox.path if sandbox is not None else "",
            "CNI_IFNAME": ifname,
            "CNI_PATH": str(self.plugins),
            "IPAM_DB_PATH": str(self.scratch / "leases"),
            "ECS_CNI_LOG_FILE": str(self.scratch / "plugin.log"),
            **more,
        }
        return {key: value for key, value in found.items() if value != "UNSET"}

    def start(self, plugin: str, config: object, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            ["nsenter", f"--net={self.host.path}", str(self.plugins / plugin)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], **environment},
        )

    def run(  # noqa: PLR0917 -- in the order in which one says it
        self,
        plugin: str,
        command: str,
        config: object,
        sandbox: Namespace | None = None,
        ifname: str = "eth0",
        container: str = "c1",
        **more: str,
    ) -> Outcome:
        """Execute a plugin in the host namespace, as a runtime would."""
        environment = self.environment(command, sandbox, ifname, container, **more)
        process = self.start(plugin, config, environment)
        stdin = config if isinstance(config, bytes) else json.dumps(config).encode()
        stdout, stderr = process.communicate(stdin, timeout=40)
        return Outcome(process.returncode, stdout.decode(), stderr.decode())

    def leases(self) -> dict[str, Any]:
        path = self.scratch / "leases" / "leases.json"
        return json.loads(path.read_text())["held"] if path.exists() else {}

    def end(self) -> None:
        for namespace in (*self.sandboxes, self.host):
            namespace.end()


@contextlib.contextmanager
def laboratory(plugins: Path, scratch: Path) -> Iterator[Lab]:
    lab = Lab(plugins, scratch, Namespace())
    try:
        lab.host.sh("ip link set lo up")
        yield lab
    finally:
        lab.end()


def fresh_mac() -> str:
    return "0e:" + ":".join(uuid.uuid4().hex[i : i + 2] for i in range(0, 10, 2))


def eni_config(mac: str, version: str = "1.0.0", **changes: object) -> dict[str, object]:
    config: dict[str, object] = {
        "cniVersion": version,
        "name": "berth",
        "type": "ecs-eni",
        "eni": "eni-0123",
        "mac": mac,
        "ip-addresses": ["10.0.1.5/24"],
        "gateway-ip-addresses": ["10.0.1.1"],
        "block-instance-metadata": True,
        "mtu": 0,
    }
    config.update(changes)
    return {key: value for key, value in config.items() if value is not None}


def bridge_config(
    mac: str = "0e:00:00:00:00:01", version: str = "1.0.0", **changes: object
) -> dict[str, object]:
    config: dict[str, object] = {
        "cniVersion": version,
        "name": "berth",
        "type": "ecs-bridge",
        "bridge": "ecs-bridge",
        "mtu": 1500,
        "ipam": {
            "type": "ecs-ipam",
            "id": mac,
            "ipv4-subnet": SUBNET,
            "ipv4-routes": [{"dst": "169.254.170.2/32"}],
        },
    }
    config.update(changes)
    return {key: value for key, value in config.items() if value is not None}


def ipam_config(version: str = "1.0.0", **ipam: object) -> dict[str, object]:
    section = {"type": "ecs-ipam", "id": "eni-1", "ipv4-subnet": SUBNET, **ipam}
    return {
        "cniVersion": version,
        "name": "berth",
        "type": "ecs-bridge",
        "ipam": {key: value for key, value in section.items() if value is not None},
    }
