"""Network interfaces that appear on this machine as EC2 attaches them, with a subnet behind them. Needs root.

An interface is a veth pair. The peer stays on a bridge in a namespace of our own, which has the gateway's
address; so tasks reach each other and the gateway, and nothing else of this machine. The other end appears in
the host's namespace with its MAC address, and an agent moves it into a task's namespace.

Unlike an ENI a veth does not come back by itself when the namespace it was moved to ends: the kernel deletes
it, and its peer. An agent that moves it back before the end makes it ``host`` again.
"""

import os
import secrets
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface
from types import TracebackType
from typing import Self, TypeVar

from tests.fakes.ecs.tasks import Eni
from tests.namespaces import inside

T = TypeVar("T")

_BRIDGE = "br0"
_LIMIT_S = 10.0
_ECHO_REQUEST, _ECHO_REPLY = 8, 0


class EniLinks:
    """The subnet of one test. ``gateway`` with its prefix; tasks get addresses from the second 256 on.

    ``gateway_ipv6`` None: IPv4 only.
    """

    def __init__(
        self, gateway: str = "10.77.0.1/16", gateway_ipv6: str | None = None, prefix: str = "fke"
    ) -> None:
        self._gateway = IPv4Interface(gateway)
        self._gateway_ipv6 = IPv6Interface(gateway_ipv6) if gateway_ipv6 else None
        self._mark = secrets.token_hex(2)
        self._prefix = prefix
        self.namespace = f"{prefix}-{self._mark}"
        self._count = 0
        self._peers: dict[str, tuple[str, str]] = {}

    def start(self) -> Self:
        """Make the namespace with its bridge and gateway."""
        _ip("netns", "add", self.namespace)
        lines = [
            "link set lo up",
            f"link add {_BRIDGE} type bridge forward_delay 0",
            f"addr add {self._gateway} dev {_BRIDGE}",
            f"link set {_BRIDGE} up",
        ]
        if self._gateway_ipv6 is not None:
            lines.insert(3, f"addr add {self._gateway_ipv6} dev {_BRIDGE} nodad")
        try:
            self._batch(lines)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Remove everything, wherever agents have moved it."""
        for mac in list(self._peers):
            self.detach(mac)
        subprocess.run(
            ["ip", "netns", "del", self.namespace], check=False, capture_output=True, timeout=_LIMIT_S
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def plan(self) -> Eni:
        """An interface with the next free address. It does not exist yet."""
        self._count += 1
        number = self._count
        ipv6 = None
        if self._gateway_ipv6 is not None:
            ipv6 = str(self._gateway_ipv6.network[0x100 + number])
        return Eni(
            mac=f"0a:77:{self._mark[:2]}:{self._mark[2:]}:{number >> 8:02x}:{number & 255:02x}",
            ipv4=str(self._gateway.network[0x100 + number]),
            gateway=str(self._gateway),
            ec2_id=f"eni-0fk{self._mark}{number:010x}",
            ipv6=ipv6,
            ipv6_gateway=str(self._gateway_ipv6) if self._gateway_ipv6 else None,
        )

    def appear(self, eni: Eni) -> str:
        """The device of that interface appears on the host, connected; its name."""
        number = int(eni.mac.replace(":", "")[-4:], 16)
        ours, theirs = f"fkp{self._mark}{number:04x}", f"{self._prefix}{self._mark}{number:04x}"
        self._batch(
            [
                f"link add {ours} type veth peer name {theirs} address {eni.mac}",
                f"link set {ours} master {_BRIDGE} up",
                # Last, so that whoever sees the device finds everything behind it ready.
                f"link set {theirs} netns {os.getpid()}",
            ]
        )
        self._peers[eni.mac] = (ours, theirs)
        return theirs

    def detach(self, mac: str) -> bool:
        """The interface goes, wherever it is. False when it was gone already."""
        names = self._peers.pop(mac, None)
        if names is None:
            return False
        command = ["ip", "-n", self.namespace, "link", "del", names[0]]
        return subprocess.run(command, check=False, capture_output=True, timeout=_LIMIT_S).returncode == 0

    def where(self, mac: str) -> str:
        """``host``, ``moved`` (into some task's namespace) or ``gone``."""
        names = self._peers.get(mac)
        if names is None or not self.inside(lambda: _has_link(names[0])):
            return "gone"
        return "host" if _has_link(names[1]) else "moved"

    # -- as the gateway ------------------------------------------------------------------------

    def inside(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, done in the subnet's namespace, on a thread that ends with it.

        Sockets made there stay there.
        """
        return inside(f"/run/netns/{self.namespace}", work)

    def listen(self, port: int) -> socket.socket:
        """A listening TCP socket at the gateway's address, to be closed by the caller."""
        return self.inside(lambda: socket.create_server((str(self._gateway.ip), port)))

    def connect(self, address: str, port: int, seconds: float = 2.0) -> socket.socket:
        """A TCP connection from the gateway to a task, to be closed by the caller. Raise ``OSError``."""
        return self.inside(lambda: socket.create_connection((address, port), timeout=seconds))

    def ping(self, address: str, seconds: float = 2.0) -> bool:
        """Whether that IPv4 address answers the gateway's ICMP echo."""
        return self.inside(lambda: _ping(address, seconds))

    def _batch(self, lines: list[str]) -> None:
        _ip("-n", self.namespace, "-batch", "-", text="\n".join(lines))


def _ip(*words: str, text: str | None = None) -> None:
    done = subprocess.run(
        ["ip", *words], input=text, check=False, capture_output=True, text=True, timeout=_LIMIT_S
    )
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)} {text or ''}: {done.stderr.strip()}")


def _has_link(name: str) -> bool:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True


def _ping(address: str, seconds: float) -> bool:
    number = secrets.randbits(16)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as icmp:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            head = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, number, 1)
            icmp.sendto(struct.pack("!BBHHH", _ECHO_REQUEST, 0, _checksum(head), number, 1), (address, 0))
            icmp.settimeout(min(left, 0.2))
            try:
                packet, sender = icmp.recvfrom(1500)
            except TimeoutError:
                continue
            message = packet[(packet[0] & 15) * 4 :]
            if (
                sender[0] == address
                and message[0] == _ECHO_REPLY
                and message[4:6] == struct.pack("!H", number)
            ):
                return True
    return False


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
