"""What plugins answer, and what it means. Pure."""

import json
import signal
from dataclasses import dataclass
from ipaddress import IPv4Interface
from typing import Any

from agent.model.errors import CannotAttachNetwork

TRY_AGAIN_LATER = 11
"""The CNI error code with which a plugin asks to be called again (cni 1.5)."""

_UNABLE = (1, 4)
"""The codes for a dialect or a verb that the plugin does not know (cni 1.4)."""

_SHOWN = 200


@dataclass(frozen=True, slots=True)
class PluginReply:
    """How a plugin ended: exit status (negative: the signal that killed it), and what it printed."""

    exit: int
    stdout: str
    stderr: str


class PluginBusy(CannotAttachNetwork):
    """The plugin cannot do it now and wants to be asked again."""


class PluginUnable(CannotAttachNetwork):
    """The plugin does not know the verb, the dialect or a variable: asking again will not help."""


class PluginTimedOut(CannotAttachNetwork):
    """The plugin did not end in time and was killed."""


def require_success(plugin: str, reply: PluginReply) -> None:
    """Return if the plugin ended well, else raise ``CannotAttachNetwork`` with what it said.

    The code decides whether that is a ``PluginBusy`` or a ``PluginUnable``.
    """
    if reply.exit == 0:
        return
    refusal = _object(reply.stdout)
    code, message = (refusal.get("code"), refusal.get("msg")) if refusal is not None else (None, None)
    if refusal is None or type(code) is not int or not isinstance(message, str):
        raise CannotAttachNetwork(f"{plugin}: {_ending(reply.exit)} {_said(reply)}")
    details = refusal.get("details")
    text = f"{plugin}: {message} (code {code})" + (f": {details}" if details else "")
    if code == TRY_AGAIN_LATER:
        raise PluginBusy(text)
    raise PluginUnable(text) if code in _UNABLE else CannotAttachNetwork(text)


def read_result(plugin: str, reply: PluginReply) -> dict[str, Any]:
    """The CNI result of a successful ADD. Raise as ``require_success``, or if it is no result."""
    require_success(plugin, reply)
    result = _object(reply.stdout)
    if result is None:
        raise CannotAttachNetwork(
            f"{plugin}: expected a CNI result (a JSON object) on stdout, {_said(reply)}"
        )
    return result


def supported_versions(reply: PluginReply) -> frozenset[str]:
    """What a plugin answers to VERSION. Empty if it says nothing that can be understood: then it is old."""
    listed = (_object(reply.stdout) or {}).get("supportedVersions")
    if reply.exit != 0 or not isinstance(listed, list):
        return frozenset()
    return frozenset(version for version in listed if isinstance(version, str))


def local_ipv4(plugin: str, result: dict[str, Any]) -> str:
    """The first IPv4 address of a CNI result, without its prefix. Raise ``CannotAttachNetwork``."""
    listed = result.get("ips")
    for entry in listed if isinstance(listed, list) else ():
        address = entry.get("address") if isinstance(entry, dict) else None
        try:
            return str(IPv4Interface(address if isinstance(address, str) else "").ip)
        except ValueError:
            continue  # an IPv6 address, most likely
    raise CannotAttachNetwork(f"{plugin}: its result has no IPv4 address: ips is {_cut(json.dumps(listed))}")


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _ending(status: int) -> str:
    if status > 0:
        return f"ended with status {status} and no CNI error,"
    try:
        return f"was killed by {signal.Signals(-status).name},"
    except ValueError:
        return f"was killed by signal {-status},"


def _said(reply: PluginReply) -> str:
    """The beginning of what it printed and the end of what it complained of."""
    parts = []
    if reply.stdout.strip():
        parts.append(f"printed {_cut(reply.stdout.strip())!r}")
    if reply.stderr.strip():
        parts.append(f"complained {_cut_left(reply.stderr.strip())!r}")
    return " and ".join(parts) or "printed nothing"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _cut_left(text: str) -> str:
    return text if len(text) <= _SHOWN else "…" + text[-_SHOWN:]
