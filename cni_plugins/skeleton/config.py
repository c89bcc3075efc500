"""The part of a network configuration that every plugin has, and which dialects are spoken."""

from __future__ import annotations

from cni_plugins.skeleton import document
from cni_plugins.skeleton.arguments import is_identifier
from cni_plugins.skeleton.errors import DECODING_FAILURE, INCOMPATIBLE_VERSION, INVALID_CONFIG, CniError
from cni_plugins.skeleton.record import Record

SUPPORTED_VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST_VERSION = SUPPORTED_VERSIONS[-1]
_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
_VALID_ATTACHMENT_KEYS = ("cni.dev/valid-attachments", "cni.dev/attachments")


class NetworkConfig(Record):
    """What was on stdin.

    Attributes:
        version: one of SUPPORTED_VERSIONS.
        keys: the whole document, unknown keys included.
        previous: prevResult, or None if the caller sent none.
        stdin: the bytes as they came, for delegation.
    """

    version: str
    keys: dict[str, object]
    previous: dict[str, object] | None
    stdin: bytes

    def at_least(self, version: str) -> bool:
        """Whether the config speaks `version` or a newer dialect."""
        return SUPPORTED_VERSIONS.index(self.version) >= SUPPORTED_VERSIONS.index(version)

    def valid_attachments(self) -> frozenset[tuple[str, str]]:
        """For GC: (container id, interface name) of all that must be kept. Raises CniError 7."""
        for key in _VALID_ATTACHMENT_KEYS:
            listed = self.keys.get(key)
            if listed is not None:
                return frozenset(_attachments(key, listed))
        raise CniError(INVALID_CONFIG, f"GC needs {_VALID_ATTACHMENT_KEYS[0]!r} in the network config")


def read_config(stdin: bytes, command: str) -> NetworkConfig:
    """Decode stdin and check version, name and prevResult. Raises CniError 1, 6 or 7."""
    keys = read_object(stdin)
    version = keys.get("cniVersion", "")
    if not isinstance(version, str):
        raise CniError(
            DECODING_FAILURE, f"decoding version from network config: cniVersion is {version!r}, not a string"
        )
    if version not in SUPPORTED_VERSIONS:
        raise _incompatible(version)
    needed = _SINCE.get(command)
    if needed is not None and SUPPORTED_VERSIONS.index(version) < SUPPORTED_VERSIONS.index(needed):
        raise CniError(
            INCOMPATIBLE_VERSION, f"config version {version!r} does not know {command}", f"it needs {needed}"
        )
    name = keys.get("name", "")
    if not isinstance(name, str) or (name and not is_identifier(name)):
        raise CniError(
            INVALID_CONFIG, f"invalid network name: {name!r}", "expected letters, digits, '_', '.', '-'"
        )
    if not name and version in ("1.0.0", "1.1.0"):
        raise CniError(INVALID_CONFIG, "missing network name")
    previous = keys.get("prevResult")
    if previous is not None and not isinstance(previous, dict):
        raise CniError(DECODING_FAILURE, "prevResult is not an object")
    return NetworkConfig(version, keys, previous, stdin)


def dialect(stdin: bytes) -> str:
    """The version in which to answer even a wrong config: its own, or the newest if that is unknown."""
    try:
        version = read_object(stdin).get("cniVersion")
    except CniError:
        return NEWEST_VERSION
    return version if isinstance(version, str) and version in SUPPORTED_VERSIONS else NEWEST_VERSION


def read_object(stdin: bytes) -> dict[str, object]:
    """Decode stdin as one JSON object. Raises CniError 6."""
    try:
        keys = document.decode(stdin)
    except ValueError as error:
        raise CniError(DECODING_FAILURE, f"decoding version from network config: {error}") from error
    if not isinstance(keys, dict):
        raise CniError(DECODING_FAILURE, "decoding version from network config: not a JSON object")
    return keys


def _incompatible(version: str) -> CniError:
    shown = version or "0.1.0"  # the specification's reading of an empty version
    supported = document.encode(list(SUPPORTED_VERSIONS))
    return CniError(
        INCOMPATIBLE_VERSION, "incompatible CNI versions", f'config is "{shown}", plugin supports {supported}'
    )


def _attachments(key: str, listed: object) -> list[tuple[str, str]]:
    if not isinstance(listed, list):
        raise CniError(INVALID_CONFIG, f"{key!r} is not a list")
    kept = []
    for entry in listed:
        if not isinstance(entry, dict):
            raise CniError(INVALID_CONFIG, f"{key!r} holds {entry!r}, not an object")
        kept.append((str(entry.get("containerID", "")), str(entry.get("ifname", ""))))
    return kept
