import socket
from pathlib import Path

from agent.adapters.host.listening import listeners


def test_listeners_over_ipv6_are_read_too() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        assert ("::1", listening.getsockname()[1]) in {
            (host, port) for host, port, _ in listeners(Path("/proc/net"))
        }
