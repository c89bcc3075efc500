"""What a backend lays over the create call of a container: which of its keys count. Pure.

Docker reads keys in any case, also with the letters that Unicode folds to ``k`` and ``s``. So keys are told
apart here as Docker does it; otherwise ``networkMode`` would lead a container out of its task's network.
Per key: docs/decisions/0020-what-an-overlay-may-change.md.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.model.errors import CannotCreateContainer
from agent.model.spec import ContainerSpec

Document = dict[str, Any]

LONGEST_SHOWN = 60
"""Characters of a refused value that an error shows."""

_COMPUTED = (
    *("Env", "Labels", "Cmd", "Entrypoint", "WorkingDir", "User", "Tty", "OpenStdin", "Healthcheck"),
    *("CpuShares", "Memory", "MemoryReservation", "Binds", "Ulimits", "Privileged", "ReadonlyRootfs"),
    *("SecurityOpt", "Sysctls", "LogConfig", "Init", "CapAdd", "CapDrop", "ShmSize", "Tmpfs", "Devices"),
)

# Nothing that a program can see is lost: the agent decides these for every container, or they say what the
# task's interface and its pause container say already. Docker refuses most of them where networks are joined.
_AGENTS_OWN = (
    *("Image", "HostConfig", "NetworkMode", "CgroupParent"),
    *("NetworkingConfig", "NetworkDisabled", "MacAddress", "ExposedPorts", "PortBindings", "PublishAllPorts"),
)

_NAMES = "names belong to the task's network interface, which all its containers share"
_SHARED = "it would reach out of the task"
_LIFE = "the agent itself decides about a container's life"
_OTHERS = "other containers are not known by the names that a task gives them"

# A program would see the difference, so leaving them out would be running something else than was ordered.
_REFUSED = {
    "Hostname": _NAMES,
    "Domainname": _NAMES,
    "Dns": _NAMES,
    "DnsSearch": _NAMES,
    "DnsOptions": _NAMES,
    "ExtraHosts": _NAMES,
    "UTSMode": _NAMES,
    "Links": _OTHERS,
    "VolumesFrom": _OTHERS,
    "PidMode": _SHARED,
    "IpcMode": _SHARED,
    "Cgroup": _SHARED,
    "CgroupnsMode": _SHARED,
    "UsernsMode": _SHARED,
    "RestartPolicy": _LIFE,
    "AutoRemove": _LIFE,
}

_OWN_IPC = ("", "none", "private", "shareable")

_SPELLING = {name.casefold(): name for name in (*_COMPUTED, *_AGENTS_OWN, *_REFUSED)}


@dataclass(frozen=True, slots=True)
class Overlay:
    """The keys that count, as Docker spells them."""

    config: Document
    host_config: Document


def read_overlay(spec: ContainerSpec) -> Overlay:
    """The overlay of a container. Raise ``CannotCreateContainer`` for what cannot be done, by its key."""
    return Overlay(
        _counting(spec, "config", spec.overlay.config),
        _counting(spec, "hostConfig", spec.overlay.host_config),
    )


def texts(spec: ContainerSpec, name: str, value: object) -> list[str]:
    """The value of a key that must be a list of texts. Raise ``CannotCreateContainer``."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise CannotCreateContainer(f"container {spec.name}: {name} is wrong; expected a list of texts")
    return value


def text_map(spec: ContainerSpec, name: str, value: object) -> dict[str, str]:
    """The value of a key that must be an object of texts. Raise ``CannotCreateContainer``."""
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise CannotCreateContainer(f"container {spec.name}: {name} is wrong; expected an object of texts")
    return value


def log_wish(spec: ContainerSpec, value: object) -> tuple[str | None, dict[str, str] | None]:
    """Driver and options of a ``LogConfig``, as far as it has them. Raise ``CannotCreateContainer``."""
    if not isinstance(value, dict):
        raise CannotCreateContainer(f"container {spec.name}: LogConfig is wrong; expected an object")
    wish = _spelled(value, {"type": "Type", "config": "Config"})
    driver, options = wish.get("Type") or None, wish.get("Config")
    if driver is not None and not isinstance(driver, str):
        raise CannotCreateContainer(f"container {spec.name}: LogConfig.Type is wrong; expected a text")
    return driver, None if options is None else text_map(spec, "LogConfig.Config", options)


def _counting(spec: ContainerSpec, what: str, text: str) -> Document:
    try:
        document = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise CannotCreateContainer(f"container {spec.name}: its {what} is not JSON") from error
    if not isinstance(document, dict):
        raise CannotCreateContainer(f"container {spec.name}: its {what} is no JSON object")
    spelled = _spelled(document, _SPELLING)
    for name, value in spelled.items():
        if name in _REFUSED and not _asks_for_nothing(name, value):
            raise CannotCreateContainer(
                f"container {spec.name}: {what}.{name} is {json.dumps(value)[:LONGEST_SHOWN]}, which no "
                f"container of an awsvpc task can have: {_REFUSED[name]}"
            )
    return {
        name: value
        for name, value in spelled.items()
        if name not in _AGENTS_OWN and (name == "IpcMode" or name not in _REFUSED)
    }


def _asks_for_nothing(name: str, value: Any) -> bool:
    if name == "IpcMode":
        return value in _OWN_IPC
    if name == "RestartPolicy" and isinstance(value, dict):
        return _spelled(value, {"name": "Name"}).get("Name") in (None, "", "no")
    return value in ("", False, 0, [], {})


def _spelled(document: Document, spelling: Mapping[str, str]) -> Document:
    """Known keys as Docker spells them, the last one of each; ``null`` says nothing."""
    return {spelling.get(key.casefold(), key): value for key, value in document.items() if value is not None}
