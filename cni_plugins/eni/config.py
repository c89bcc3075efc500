"""What ecs-eni is asked for, from JSON. Pure; all problems are told at once."""

from __future__ import annotations

from cni_plugins.skeleton.errors import DECODING_FAILURE, INVALID_CONFIG, CniError
from cni_plugins.skeleton.prefix import Address, Prefix, mac_text, parse_address, parse_mac, parse_prefix
from cni_plugins.skeleton.record import Record

_SMALLEST_MTU, _LARGEST_MTU = 68, 65535
_LONGEST_WAIT_S = 60


class EniConfig(Record):
    """A validated ecs-eni configuration.

    Attributes:
        eni: the ENI's id, for logs only.
        mac: six bytes, by which the device is found.
        mac_as_written: echoed in the result.
        addresses: at least one, with prefix length.
        gateways: a default route each.
        blocks_metadata: whether the instance metadata service is cut off inside the task.
        stays_down: only move the device, nothing else.
        mtu: 0 leaves it.
        wait_s: how long to wait for a device that is not there yet.
    """

    eni: str
    mac: bytes
    mac_as_written: str
    addresses: tuple[Prefix, ...]
    gateways: tuple[Address, ...]
    blocks_metadata: bool
    stays_down: bool
    mtu: int
    wait_s: int


def parse_config(keys: dict[str, object]) -> EniConfig:
    """Read the configuration for ADD and CHECK. Raises CniError 6 for wrong types, 7 for wrong values."""
    types = _Types(keys)
    mtu, wait_s = types.integer("mtu"), types.integer("wait-for-device-seconds")
    block, down = types.boolean("block-instance-metadata"), types.boolean("stay-down")
    eni, mac = types.string("eni"), types.string("mac")
    addresses, gateways = types.strings("ip-addresses"), types.strings("gateway-ip-addresses")
    types.raise_if_wrong()

    missing = [key for key, value in (("eni", eni), ("mac", mac), ("ip-addresses", addresses)) if not value]
    problems = [f"missing required parameter in config: '{key}'" for key in missing]
    if mac and parse_mac(mac) is None:
        problems.append(f"malformatted mac address specified: {mac!r}, expected six pairs of hex digits")
    problems += [
        f"malformed IP address specified: {text}, expected an address with prefix length"
        for text in addresses
        if parse_prefix(text) is None
    ]
    problems += [
        f"malformed gateway IP address specified: {text}" for text in gateways if parse_address(text) is None
    ]
    if mtu and not _SMALLEST_MTU <= mtu <= _LARGEST_MTU:
        problems.append(f"invalid mtu specified: {mtu}, expected 0 or {_SMALLEST_MTU} to {_LARGEST_MTU}")
    if not 0 <= wait_s <= _LONGEST_WAIT_S:
        problems.append(f"invalid wait-for-device-seconds: {wait_s}, expected 0 to {_LONGEST_WAIT_S}")
    if problems:
        raise CniError(INVALID_CONFIG, "newconf types: " + "; ".join(problems))
    return EniConfig(
        eni=eni,
        mac=parse_mac(mac) or b"",
        mac_as_written=mac,
        addresses=tuple(prefix for text in addresses if (prefix := parse_prefix(text))),
        gateways=tuple(address for text in gateways if (address := parse_address(text))),
        blocks_metadata=block,
        stays_down=down,
        mtu=mtu,
        wait_s=wait_s,
    )


def parse_mac_of(keys: dict[str, object]) -> bytes | None:
    """All that DEL wants to know, None if absent: an old caller may send nothing but the version."""
    return parse_mac(keys.get("mac"))


def described(config: EniConfig) -> str:
    """The ENI in words, for messages."""
    return f"{config.eni} ({mac_text(config.mac)})"


class _Types:
    """Reads keys by type and collects what has the wrong one."""

    def __init__(self, keys: dict[str, object]) -> None:
        self._keys = keys
        self._wrong: list[str] = []

    def string(self, key: str) -> str:
        value = self._keys.get(key)
        if isinstance(value, str):
            return value
        self._refuse(key, value, "a string")
        return ""

    def integer(self, key: str) -> int:
        value = self._keys.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        self._refuse(key, value, "an integer")
        return 0

    def boolean(self, key: str) -> bool:
        value = self._keys.get(key)
        if isinstance(value, bool):
            return value
        self._refuse(key, value, "true or false")
        return False

    def strings(self, key: str) -> list[str]:
        value = self._keys.get(key)
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            return value
        self._refuse(key, value, "a list of strings")
        return []

    def raise_if_wrong(self) -> None:
        if self._wrong:
            raise CniError(
                DECODING_FAILURE, "newconf types: failed to parse config: " + "; ".join(self._wrong)
            )

    def _refuse(self, key: str, value: object, expected: str) -> None:
        if value is not None:
            self._wrong.append(f"{key!r} is {value!r}, expected {expected}")
