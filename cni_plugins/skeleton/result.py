"""What a plugin answers, written in the dialect that the caller's config speaks."""

from __future__ import annotations

from cni_plugins.skeleton.config import NetworkConfig
from cni_plugins.skeleton.errors import DECODING_FAILURE, INVALID_CONFIG, CniError
from cni_plugins.skeleton.prefix import Address, Prefix, parse_address, parse_prefix
from cni_plugins.skeleton.record import Record


class Interface(Record):
    """One link: `sandbox` is the namespace path, empty on the host side; `mac` may be empty, `mtu` 0."""

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int = 0


class AssignedAddress(Record):
    """One address; `interface` is an index into the result's interfaces, None in an IPAM result."""

    prefix: Prefix
    gateway: Address | None = None
    interface: int | None = None


class Route(Record):
    """One route; `gateway` None means on link or "the gateway of the address"."""

    destination: Prefix
    gateway: Address | None = None


class Result(Record):
    """A plugin's answer to ADD."""

    interfaces: tuple[Interface, ...] = ()
    addresses: tuple[AssignedAddress, ...] = ()
    routes: tuple[Route, ...] = ()


def render(result: Result, config: NetworkConfig) -> dict[str, object]:
    """The result object in the config's version, merged behind prevResult if the plugin was chained."""
    version = config.version
    own: dict[str, object] = {} if version == "0.3.0" else {"cniVersion": version}
    if result.interfaces:
        own["interfaces"] = [_interface(link, version) for link in result.interfaces]
    if result.addresses:
        own["ips"] = [_address(address, version) for address in result.addresses]
    if result.routes:
        own["routes"] = [_route(route) for route in result.routes]
    own["dns"] = {}
    return own if config.previous is None else _behind(config.previous, own)


def parse(keys: dict[str, object]) -> Result:
    """A result from another plugin or from prevResult, any version since 0.3.0. Raises CniError 6 or 7."""
    interfaces = tuple(
        Interface(
            name=str(entry.get("name", "")),
            mac=str(entry.get("mac", "")),
            sandbox=str(entry.get("sandbox", "")),
        )
        for entry in _objects(keys, "interfaces")
    )
    return Result(
        interfaces=interfaces,
        addresses=tuple(_parsed_address(entry, len(interfaces)) for entry in _objects(keys, "ips")),
        routes=tuple(_parsed_route(entry) for entry in _objects(keys, "routes")),
    )


def _interface(link: Interface, version: str) -> dict[str, object]:
    shown: dict[str, object] = {"name": link.name}
    if link.mac:
        shown["mac"] = link.mac
    if link.sandbox:
        shown["sandbox"] = link.sandbox
    if link.mtu and version == "1.1.0":
        shown["mtu"] = link.mtu
    return shown


def _address(assigned: AssignedAddress, version: str) -> dict[str, object]:
    shown: dict[str, object] = {}
    if version.startswith("0."):
        shown["version"] = assigned.prefix.address.version
    if assigned.interface is not None:
        shown["interface"] = assigned.interface
    shown["address"] = str(assigned.prefix)
    if assigned.gateway is not None:
        shown["gateway"] = str(assigned.gateway)
    return shown


def _route(route: Route) -> dict[str, object]:
    shown: dict[str, object] = {"dst": str(route.destination)}
    if route.gateway is not None:
        shown["gw"] = str(route.gateway)
    return shown


def _behind(previous: dict[str, object], own: dict[str, object]) -> dict[str, object]:
    """PrevResult as it was, with our links, addresses and routes appended and our indices moved up."""
    before = len(_objects(previous, "interfaces"))
    merged = dict(previous)
    moved: list[dict[str, object]] = []
    for entry in _objects(own, "ips"):
        index = entry.get("interface")
        moved.append({**entry, "interface": index + before} if isinstance(index, int) else entry)
    for key, ours in (
        ("interfaces", _objects(own, "interfaces")),
        ("ips", moved),
        ("routes", _objects(own, "routes")),
    ):
        if ours:
            merged[key] = [*_objects(previous, key), *ours]
    merged.setdefault("dns", {})
    if "cniVersion" in own:
        merged["cniVersion"] = own["cniVersion"]
    return merged


def _objects(keys: dict[str, object], key: str) -> list[dict[str, object]]:
    listed = keys.get(key)
    if listed is None:
        return []
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise CniError(DECODING_FAILURE, f"{key!r} of a result is not a list of objects")
    return listed


def _parsed_address(entry: dict[str, object], links: int) -> AssignedAddress:
    prefix = parse_prefix(entry.get("address"))
    if prefix is None:
        raise CniError(INVALID_CONFIG, f"invalid address in a result: {entry.get('address')!r}")
    gateway = parse_address(entry.get("gateway"))
    if gateway is None and entry.get("gateway"):
        raise CniError(INVALID_CONFIG, f"invalid gateway in a result: {entry.get('gateway')!r}")
    index = entry.get("interface")
    if index is not None and (not isinstance(index, int) or not 0 <= index < links):
        raise CniError(INVALID_CONFIG, f"address {prefix} of a result names interface {index!r} of {links}")
    return AssignedAddress(prefix, gateway, index)


def _parsed_route(entry: dict[str, object]) -> Route:
    destination = parse_prefix(entry.get("dst"))
    if destination is None:
        raise CniError(INVALID_CONFIG, f"invalid route in a result: {entry.get('dst')!r}")
    gateway = parse_address(entry.get("gw"))
    if gateway is None and entry.get("gw"):
        raise CniError(INVALID_CONFIG, f"invalid route gateway in a result: {entry.get('gw')!r}")
    return Route(destination.masked(), gateway)
