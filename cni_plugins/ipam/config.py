"""What ecs-ipam is asked for, from JSON and two environment variables. Pure."""

from __future__ import annotations

from cni_plugins.skeleton import document
from cni_plugins.skeleton.errors import DECODING_FAILURE, INVALID_CONFIG, INVALID_ENVIRONMENT, CniError
from cni_plugins.skeleton.prefix import BITS, IPV4, IPV6, Address, Prefix, parse_address, parse_prefix
from cni_plugins.skeleton.record import Record
from cni_plugins.skeleton.result import Route

DEFAULT_DIRECTORY = "/run/ecs-ipam"  # tmpfs: leases end with the boot, as the links do
DEFAULT_COOLDOWN_S = 30
_DEFAULT_TIMEOUT_S = 5.0
_HOST_BITS_NEEDED = 2
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Pool(Record):
    """The part of the configuration for one family.

    Attributes:
        subnet: as written; the host bits matter for the default gateway.
        gateway: never leased.
        wanted: a fixed address with its own mask, or None for the next free one.
        routes: handed to the caller untouched.
    """

    subnet: Prefix
    gateway: Address
    wanted: Prefix | None
    routes: tuple[Route, ...]


class IpamConfig(Record):
    """A validated ecs-ipam configuration: one or two pools, IPv4 first."""

    id: str
    pools: tuple[Pool, ...]
    cooldown_s: int


class Place(Record):
    """Where the store is, and how long to wait for its lock."""

    directory: str
    timeout_s: float


def parse_config(keys: dict[str, object]) -> IpamConfig:
    """Read the `ipam` section for ADD, CHECK and STATUS. Raises CniError 6 or 7."""
    section = read_section(keys)
    if not section.get("ipv4-subnet") and not section.get("ipv6-subnet"):
        raise _invalid("loadIPAMConfig config: at least one subnet (ipv4 or ipv6) is required")
    pools = tuple(
        _parse_pool(section, family, keys)
        for family, name in ((IPV4, "ipv4"), (IPV6, "ipv6"))
        if section.get(f"{name}-subnet")
    )
    return IpamConfig(read_id(section), pools, read_cooldown(section))


def read_section(keys: dict[str, object]) -> dict[str, object]:
    """The `ipam` section. Raises CniError 7 if there is none."""
    section = keys.get("ipam")
    if not isinstance(section, dict):
        shown = document.encode(keys)
        raise _invalid(f"loadIPAMConfig config: 'IPAM' field missing in configuration: {shown}")
    return section


def read_id(section: dict[str, object]) -> str:
    """The caller's own name for a lease; may be empty."""
    value = section.get("id", "")
    if not isinstance(value, str):
        raise CniError(DECODING_FAILURE, f"failed to load netconf: ipam.id is {value!r}, not a string")
    return value


def read_cooldown(section: dict[str, object]) -> int:
    """How many seconds a released address rests."""
    value = section.get("cooldown-seconds", DEFAULT_COOLDOWN_S)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _invalid(f"invalid ipam.cooldown-seconds: {value!r}, expected seconds, 0 or more")
    return value


def read_wanted(section: dict[str, object], keys: dict[str, object]) -> tuple[Address, ...]:
    """The addresses that a DEL names."""
    wanted = []
    for name in ("ipv4", "ipv6"):
        prefix = _prefix(section.get(f"{name}-address"), keys)
        wanted += [prefix.address] if prefix is not None else []
    return tuple(wanted)


def read_place(environment: dict[str, str]) -> Place:
    """Where IPAM_DB_PATH and IPAM_DB_CONNECTION_TIMEOUT put the store. Raises CniError 4.

    A path that names the database file of the older plugin stands for a directory beside it.
    """
    path = environment.get("IPAM_DB_PATH") or DEFAULT_DIRECTORY
    directory = f"{path.removesuffix('.db')}.leases" if path.endswith(".db") else path
    text = environment.get("IPAM_DB_CONNECTION_TIMEOUT", "")
    timeout_s = parse_duration(text) if text else _DEFAULT_TIMEOUT_S
    if timeout_s is None:
        raise CniError(
            INVALID_ENVIRONMENT,
            f"loadDBConfig config: parsing timeout string failed: {text}",
            "IPAM_DB_CONNECTION_TIMEOUT is a duration such as 5s or 500ms",
        )
    return Place(directory, timeout_s)


def parse_duration(text: str) -> float | None:
    """A duration such as 1m30s or 250ms in seconds, or None if it is none."""
    total, number, rest = 0.0, "", text
    while rest:
        length = next((i for i, c in enumerate(rest) if c not in "0123456789."), len(rest))
        number, rest = rest[:length], rest[length:]
        unit = next((unit for unit in ("ns", "us", "µs", "ms", "s", "m", "h") if rest.startswith(unit)), "")
        if not unit or number.strip(".") == "" or number.count(".") > 1:
            return None
        total += float(number) * _UNITS_S[unit]
        rest = rest[len(unit) :]
    return total if text else None


def _parse_pool(section: dict[str, object], family: int, keys: dict[str, object]) -> Pool:
    name = "ipv4" if family == IPV4 else "ipv6"
    subnet = _prefix(section[f"{name}-subnet"], keys)
    if subnet is None or subnet.family != family:
        raise _invalid(f"failed to load netconf, {document.encode(keys)}: invalid CIDR address: {subnet}")
    if BITS[family] - subnet.length < _HOST_BITS_NEEDED:
        raise _invalid(f"no available ip in the subnet {subnet}")
    wanted = _prefix(section.get(f"{name}-address"), keys)
    written = section.get(f"{name}-gateway")
    gateway = parse_address(written) if written else subnet.address.plus(1)
    if gateway is None:
        raise _invalid(f"failed to load netconf, {document.encode(keys)}: invalid IP address: {written}")
    if wanted is not None:
        _verify(wanted.address, subnet, "ip")
        if wanted.address == gateway:
            raise _invalid(f"ip specified is the gateway: {gateway}")
    _verify(gateway, subnet, "gateway")
    return Pool(subnet, gateway, wanted, _routes(section.get(f"{name}-routes"), keys))


def _verify(address: Address, subnet: Prefix, kind: str) -> None:
    if not subnet.holds(address):
        raise _invalid(f"verifyIPSubnet config: ip {address} is not within the subnet {subnet.masked()}")
    reserved = (subnet.network, subnet.last) if subnet.family == IPV4 else (subnet.network,)
    if address in reserved:
        raise _invalid(f"{kind} specified is reserved by default: {address}")


def _routes(listed: object, keys: dict[str, object]) -> tuple[Route, ...]:
    if listed is None:
        return ()
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise CniError(
            DECODING_FAILURE, f"failed to load netconf, {document.encode(keys)}: routes are not a list"
        )
    routes = []
    for entry in listed:
        destination = _prefix(entry.get("dst") or "", keys)
        gateway = parse_address(entry.get("gw"))
        if destination is None or (entry.get("gw") and gateway is None):
            raise _invalid(
                f"failed to load netconf, {document.encode(keys)}: invalid IP address: {entry.get('gw')}"
            )
        routes.append(Route(destination.masked(), gateway))
    return tuple(routes)


def _prefix(text: object, keys: dict[str, object]) -> Prefix | None:
    """The prefix, None if nothing was given. Raises CniError 7 if it is something else."""
    if text is None:
        return None
    prefix = parse_prefix(text)
    if prefix is None:
        raise _invalid(f"failed to load netconf, {document.encode(keys)}: invalid CIDR address: {text}")
    return prefix


def _invalid(message: str) -> CniError:
    return CniError(INVALID_CONFIG, message)
