"""Two questions to the world: the kernel's opinion of its clock, and whether a server answers."""

import ctypes
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass

from agent.adapters.ecs.endpoint import tls_context

LIMIT = 4.0
"""Seconds for one server."""

_UNSYNCHRONISED = 0x40  # STA_UNSYNC, adjtimex(2)
_ERROR = 5  # TIME_ERROR


class _Timex(ctypes.Structure):
    """``struct timex`` of adjtimex(2), as far as it is read; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_char * 256),
    )


def is_synchronised() -> bool | None:
    """Whether somebody keeps the kernel's clock right. None: the kernel does not say."""
    asked = _Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(asked))
    if state < 0:
        return None
    return not (asked.status & _UNSYNCHRONISED or state == _ERROR)


@dataclass(frozen=True, slots=True)
class Reached:
    """What a look at a server gave. ``problem`` None: it answers. ``proxy``: what stood on the way."""

    url: str
    problem: str | None
    date: str | None = None
    proxy: str | None = None


def look_at(url: str, verify: bool) -> Reached:
    """One GET, through the proxy that the environment names."""
    proxies = urllib.request.getproxies()
    host = url.partition("://")[2].partition("/")[0]
    proxy = None if urllib.request.proxy_bypass(host) else proxies.get(url.partition(":")[0])
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler(), urllib.request.HTTPSHandler(context=tls_context(verify))
    )
    try:
        with opener.open(f"{url}/", timeout=LIMIT) as answer:
            return Reached(url, None, answer.headers.get("Date"), proxy)
    except urllib.error.HTTPError as error:
        with error:
            # refused without a signature, as it should be; 407 is the proxy's word, and 5xx a broken one's
            through = error.code not in (407, 502, 503, 504)
            problem = None if through else f"{error.code} {error.reason}"
            return Reached(url, problem, error.headers.get("Date") if through else None, proxy)
    except (OSError, ValueError) as error:
        return Reached(url, _named(error), None, proxy)


def _named(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason.verify_message} (does a proxy open TLS?)"
    if isinstance(reason, ssl.SSLError):
        return f"TLS failed: {reason.reason or reason}"
    if isinstance(reason, TimeoutError):
        return f"no answer within {LIMIT:g} s"
    if isinstance(reason, OSError) and type(reason).__name__ == "gaierror":
        return f"its name cannot be resolved: {reason.strerror}"
    return str(getattr(reason, "strerror", None) or reason)
