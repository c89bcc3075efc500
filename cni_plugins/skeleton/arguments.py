"""Which environment variable each command needs, as a table, and what a valid value looks like."""

from __future__ import annotations

from cni_plugins.skeleton.errors import INVALID_ENVIRONMENT, CniError
from cni_plugins.skeleton.record import Record

REQUIRED = {
    "ADD": ("CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_IFNAME", "CNI_PATH"),
    "GC": ("CNI_PATH",),
    "STATUS": ("CNI_PATH",),
    "VERSION": (),
}
PER_CONTAINER = ("ADD", "CHECK", "DEL")
LONGEST_INTERFACE_NAME = 15
_TRUE = ("1", "true", "TRUE", "True")


class Arguments(Record):
    """One call's environment.

    Attributes:
        command: ADD, DEL, CHECK, GC, STATUS or VERSION.
        container_id: may be empty for configs older than 1.0.0.
        netns: path of the namespace file; empty only for DEL, GC and STATUS.
        ifname: name of the interface inside the namespace.
        path: directories in which delegated plugins are looked up, in order.
        may_share_netns: the caller waives the check that the plugin is not inside the netns already.
        environment: all variables, for delegation.
    """

    command: str
    container_id: str
    netns: str
    ifname: str
    path: tuple[str, ...]
    may_share_netns: bool
    environment: dict[str, str]


def read_arguments(environment: dict[str, str]) -> Arguments:
    """Check the CNI_* variables; raise CniError 4 that names every missing or wrong one."""
    command = environment.get("CNI_COMMAND", "")
    if not command:
        raise CniError(INVALID_ENVIRONMENT, "required env variables [CNI_COMMAND] missing")
    if command not in REQUIRED:
        known = ", ".join(REQUIRED)
        raise CniError(INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {command}", f"expected one of {known}")
    missing = [name for name in REQUIRED[command] if not environment.get(name)]
    if missing:
        raise CniError(INVALID_ENVIRONMENT, f"required env variables [{','.join(missing)}] missing")
    arguments = Arguments(
        command=command,
        container_id=environment.get("CNI_CONTAINERID", ""),
        netns=environment.get("CNI_NETNS", ""),
        ifname=environment.get("CNI_IFNAME", ""),
        path=tuple(part for part in environment.get("CNI_PATH", "").split(":") if part),
        may_share_netns=environment.get("CNI_NETNS_OVERRIDE", "") in _TRUE,
        environment=environment,
    )
    if command in PER_CONTAINER:
        _check_identifier("CNI_CONTAINERID", arguments.container_id)
        _check_interface_name(arguments.ifname)
        _check_extra(environment.get("CNI_ARGS", ""))
    return arguments


def is_identifier(text: str) -> bool:
    """Whether a container id or network name has the specification's form."""
    return text.isascii() and text[:1].isalnum() and all(c.isalnum() or c in "_.-" for c in text)


def require_container_id(arguments: Arguments) -> None:
    """Raise CniError 4 if the container id is missing (old configs may leave it out, new ones may not)."""
    if arguments.command in PER_CONTAINER and not arguments.container_id:
        raise CniError(INVALID_ENVIRONMENT, "required env variables [CNI_CONTAINERID] missing")


def _check_identifier(variable: str, value: str) -> None:
    if value and not is_identifier(value):
        raise CniError(
            INVALID_ENVIRONMENT,
            f"invalid {variable}: {value!r}",
            "expected a letter or digit, then letters, digits, '_', '.' or '-'",
        )


def _check_interface_name(name: str) -> None:
    wrong = (
        len(name.encode()) > LONGEST_INTERFACE_NAME
        or name in (".", "..")
        or any(c in "/:" or c.isspace() for c in name)
    )
    if wrong:
        raise CniError(
            INVALID_ENVIRONMENT,
            f"invalid CNI_IFNAME: {name!r}",
            "expected 1 to 15 bytes, not '.' or '..', without '/', ':' and white space",
        )


def _check_extra(extra: str) -> None:
    """CNI_ARGS: these plugins know no key, so anything but IgnoreUnknown needs IgnoreUnknown."""
    pairs = [pair.partition("=") for pair in extra.split(";") if pair]
    malformed = [key for key, equals, _ in pairs if not equals]
    if malformed:
        raise CniError(
            INVALID_ENVIRONMENT, f"invalid CNI_ARGS: {malformed[0]!r}", "expected KEY=VALUE;KEY=VALUE"
        )
    unknown = [key for key, _, _ in pairs if key != "IgnoreUnknown"]
    ignored = any(key == "IgnoreUnknown" and value in _TRUE for key, _, value in pairs)
    if unknown and not ignored:
        raise CniError(
            INVALID_ENVIRONMENT, f"unknown keys in CNI_ARGS: {', '.join(unknown)}", "set IgnoreUnknown=1"
        )
