"""Who may ask the credentials endpoint at all: rules about a request that need no knowledge of tasks."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

ENDPOINT_ADDRESS = "169.254.170.2"

_LOOPBACK = ip_network("127.0.0.0/8")
_FORWARDING_HEADERS = ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused. ``code`` is a stable word, ``message`` a plain sentence."""

    status: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request came from. ``interface`` empty: the listening socket is bound to no interface."""

    address: str
    port: int
    interface: str = ""

    @property
    def remote(self) -> str:
        """``address:port``."""
        return f"{self.address}:{self.port}"

    @property
    def is_this_host(self) -> bool:
        """Whether a process of the host itself asks, in the host's own network namespace.

        The kernel accepts the host's own addresses as a source on ``lo`` only.
        """
        has_own_address = self.address == ENDPOINT_ADDRESS or ip_address(self.address) in _LOOPBACK
        return has_own_address and self.interface in ("", "lo")


def refusal_of(method: str, target: str, headers: Mapping[str, str]) -> Refusal | None:
    """Why this request must not be answered. ``target`` as it stood in the request line; None: it may be.

    A forwarded request, a foreign ``Host`` or a complete URI as target means that the one who asks is not the
    one who will get the answer.
    """
    if method != "GET":
        return Refusal(405, "MethodNotAllowed", f"Method {method} is not allowed; use GET")
    if not target.startswith("/"):
        return Refusal(403, "ProxyRequest", "The request target must be a path; this is not a proxy")
    for name in _FORWARDING_HEADERS:
        if name in headers:
            return Refusal(
                403, "ForwardedRequest", f"The request carries {name}; forwarded requests are refused"
            )
    host = headers.get("Host", "").lower()
    if host not in (ENDPOINT_ADDRESS, f"{ENDPOINT_ADDRESS}:80"):
        return Refusal(403, "WrongHost", f"The Host header must be {ENDPOINT_ADDRESS}")
    return None


def audit_path(target: str) -> str:
    """What of a request target may be written down: never an id."""
    path = target.partition("?")[0]
    for known in ("/v2/credentials", "/v1/credentials"):
        if path == known or path.startswith(f"{known}/"):
            return known
    return "-"
