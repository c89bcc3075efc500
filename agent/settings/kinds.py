"""How the text of a variable becomes a value: one kind per type, each knowing what it expects."""

import ipaddress
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from agent.model.pulling import PullBehavior


class BadValue(Exception):
    """The text is not of its kind. The message says what was expected."""


class RefusedValue(BadValue):
    """The text is of its kind and holds something that is refused. The message is a whole sentence."""


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of value. ``read`` raises ``BadValue``; ``show`` writes a value as ``read`` accepts it.

    A secret's text is shown nowhere, and ``read`` does not put it into its errors.
    """

    name: str
    expected: str
    read: Callable[[str], Any]
    show: Callable[[Any], str] = str
    is_secret: bool = False


def choice(*allowed: str) -> Kind:
    """One of a few words, read without regard to case."""
    expected = "one of " + ", ".join(allowed)

    def read(text: str) -> str:
        if text.lower() not in allowed:
            raise BadValue(expected)
        return text.lower()

    return Kind("word", expected, read)


def show_duration(value: timedelta) -> str:
    """A duration as Go prints it: ``1h30m``, ``100ms``, ``0s``."""
    microseconds = value // timedelta(microseconds=1)
    if microseconds == 0:
        return "0s"
    text = ""
    for unit, size in (("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)):
        amount, microseconds = divmod(microseconds, size)
        if amount:
            text += f"{amount}{unit}"
    return text


def read_duration(text: str) -> timedelta:
    """A duration as Go reads it. Raise ``BadValue``."""
    if text == "0":
        return timedelta()
    if not _DURATION.fullmatch(text):
        raise BadValue(_DURATION_EXPECTED)
    # Decimal, because 0.1s must be exactly 100 ms
    microseconds = sum(Decimal(amount) * _MICROSECONDS[unit] for amount, unit in _PART.findall(text))
    try:
        return timedelta(microseconds=int(microseconds))
    except OverflowError as error:
        raise BadValue(_DURATION_EXPECTED) from error


_MICROSECONDS = {
    "ns": Decimal("0.001"),
    "us": Decimal(1),
    "µs": Decimal(1),
    "ms": Decimal(1_000),
    "s": Decimal(1_000_000),
    "m": Decimal(60_000_000),
    "h": Decimal(3_600_000_000),
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_DURATION = re.compile(rf"\+?(?:{_PART.pattern})+")
_DURATION_EXPECTED = "a duration such as 30s, 10m or 1h30m"
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_BINARY_UNITS = {"": 1, "m": 1, "mb": 1, "mib": 1, "g": 1024, "gb": 1024, "gib": 1024}
_HIGHEST_PORT = 65_535


def _read_text(text: str) -> str:
    if any(ord(character) < ord(" ") for character in text):
        raise BadValue("text without control characters")
    return text


def _read_truth(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise BadValue("true or false")


def _read_whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise BadValue("a whole number")
    return int(text)


def _read_decimal(text: str) -> float:
    if not re.fullmatch(r"[+-]?([0-9]{1,15}(\.[0-9]*)?|\.[0-9]+)", text):
        raise BadValue("a number such as 5 or 0.5")
    return float(text)


def _read_mebibytes(text: str) -> int:
    parts = re.fullmatch(r"([0-9]{1,12})\s*([A-Za-z]*)", text)
    if parts is None or parts[2].lower() not in _BINARY_UNITS:
        raise BadValue("a whole number of MiB, or a size such as 512m or 2g")
    return int(parts[1]) * _BINARY_UNITS[parts[2].lower()]


def _read_path(text: str) -> Path:
    path = Path(_read_text(text))
    if not path.is_absolute():
        raise BadValue("an absolute path")
    return path


def _read_loopback(text: str) -> Address:
    expected = "a loopback address and a port, such as 127.0.0.1:51678"
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > _HIGHEST_PORT:
        raise BadValue(expected)
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise BadValue(expected) from error
    if not is_loopback:
        raise BadValue(expected + " (nothing of the agent is offered to other machines)")
    return Address(host, int(port))


def _read_api_address(text: str) -> Address:
    address = _read_loopback(text)
    if address.host != "127.0.0.1":
        raise BadValue("127.0.0.1 and a port, such as 127.0.0.1:51670 (requests to other names are refused)")
    return address


def _read_network(text: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError as error:
        raise BadValue(f"an IPv4 network such as 10.211.0.0/16 ({error})") from error


def _read_url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
        raise BadValue("a URL such as https://sts.us-east-1.amazonaws.com")
    return text.rstrip("/")


def _read_backend_host(text: str) -> str:
    url = text if "://" in text else f"https://{text}"
    if not re.fullmatch(r"https?://[^\s/?#@]+/?", url):
        raise BadValue(_BACKEND_HOST)
    return url.rstrip("/")


_BACKEND_HOST = "a host such as ecs.us-east-1.amazonaws.com, or a URL without a path (https:// is assumed)"


def _read_docker_host(text: str) -> str:
    if not re.fullmatch(r"(unix:///\S+|tcp://\S+)", text):
        raise BadValue("unix:///path/of/the/socket or tcp://host:port")
    return text


def _read_account(text: str) -> str:
    if not re.fullmatch(r"[0-9]{12}", text):
        raise BadValue("an account id of twelve digits")
    return text


def _read_cluster(text: str) -> str:
    pattern = _CLUSTER_ARN if text.startswith("arn:") else _CLUSTER_NAME
    if not pattern.fullmatch(text):
        raise BadValue(
            "a cluster's name of at most 255 letters, digits, hyphens and underscores, or its ARN such as "
            "arn:aws:ecs:us-east-1:111122223333:cluster/name"
        )
    return text


_CLUSTER_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_CLUSTER_ARN = re.compile(r"arn:[a-z0-9-]+:ecs:[a-z0-9-]+:[0-9]{12}:cluster/[A-Za-z0-9_-]{1,255}")


def _read_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", text):
        raise BadValue("a name of at most 64 letters, digits, dots, hyphens and underscores")
    return text


def _read_region(text: str) -> str:
    if not re.fullmatch(r"[a-z]{2,}(-[a-z0-9]+)+", text):
        raise BadValue("a region such as us-east-1")
    return text


def _read_json(text: str, expected: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadValue(f"{expected} ({error})") from error


def _read_networks(text: str) -> tuple[str, ...]:
    expected = 'a JSON list of networks such as ["10.0.0.0/8"]'
    value = _read_json(text, expected)
    if not isinstance(value, list):
        raise BadValue(expected)
    try:
        return tuple(str(ipaddress.ip_network(item)) for item in value if _is_text(item, expected))
    except ValueError as error:
        raise BadValue(f"{expected} ({error})") from error


def _read_ports(text: str) -> tuple[int, ...]:
    value = _read_json(text, _PORTS)
    if not isinstance(value, list) or not all(_is_port(item) for item in value):
        raise BadValue(_PORTS)
    return tuple(dict.fromkeys(value))


def _is_port(item: object) -> bool:
    # true is a whole number for Python, and no port
    return type(item) is int and 0 < item <= _HIGHEST_PORT


def _read_logging_drivers(text: str) -> tuple[str, ...]:
    value = _read_json(text, _DRIVERS)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadValue(_DRIVERS)
    unknown = [item for item in value if item not in LOGGING_DRIVERS]
    if unknown:
        raise RefusedValue(
            f"Invalid logging drivers: {', '.join(unknown)}; known are {', '.join(LOGGING_DRIVERS)}"
        )
    return tuple(dict.fromkeys(value))


def _is_text(item: object, expected: str) -> bool:
    if not isinstance(item, str):
        raise BadValue(expected)
    return True


def _read_text_map(text: str) -> tuple[tuple[str, str], ...]:
    expected = 'a JSON object of strings such as {"rack":"7"}'
    value = _read_json(text, expected)
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise BadValue(expected)
    return tuple(sorted(value.items()))


def _show_map(value: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(value), separators=(",", ":"))


def _show_truth(value: bool) -> str:
    return "true" if value else "false"


def _show_list(value: tuple[Any, ...]) -> str:
    return json.dumps(list(value), separators=(",", ":"))


def _read_pull_behavior(text: str) -> PullBehavior:
    try:
        return PullBehavior(text.lower())
    except ValueError as error:
        raise BadValue(_PULL_BEHAVIORS) from error


_PORTS = "a JSON list of ports from 1 to 65535 such as [22,2375]"
_DRIVERS = 'a JSON list of log drivers such as ["json-file","none"]'

LOGGING_DRIVERS = (
    "json-file", "syslog", "journald", "none", "gelf", "fluentd", "awslogs", "splunk", "logentries",
    "sumologic", "awsfirelens",
)  # fmt: skip
"""Every name that may be listed (ecs-protocol 1.4, 8.1)."""

_PULL_BEHAVIORS = "one of " + ", ".join(PullBehavior)

TRUTH = Kind("boolean", "true or false", _read_truth, _show_truth)
WHOLE = Kind("whole number", "a whole number", _read_whole)
DECIMAL = Kind("number", "a number such as 5 or 0.5", _read_decimal, lambda value: f"{value:g}")
DURATION = Kind("duration", _DURATION_EXPECTED, read_duration, show_duration)
MEBIBYTES = Kind("size in MiB", "a whole number of MiB, or a size such as 512m or 2g", _read_mebibytes)
PATH = Kind("path", "an absolute path", _read_path)
LOOPBACK = Kind("address", "a loopback address and a port, such as 127.0.0.1:51678", _read_loopback)
API_ADDRESS = Kind("address", "127.0.0.1 and a port, such as 127.0.0.1:51670", _read_api_address)
NETWORK = Kind("network", "an IPv4 network such as 10.211.0.0/16", _read_network)
URL = Kind("URL", "a URL such as https://sts.us-east-1.amazonaws.com", _read_url)
BACKEND_HOST = Kind("host or URL", _BACKEND_HOST, _read_backend_host)
DOCKER_HOST = Kind("URL", "unix:///path/of/the/socket or tcp://host:port", _read_docker_host)
ACCOUNT = Kind("account", "an account id of twelve digits", _read_account)
CLUSTER = Kind("name or ARN", "a cluster name or a cluster ARN", _read_cluster)
NAME = Kind("name", "a name of at most 64 letters, digits, dots, hyphens and underscores", _read_name)
REGION = Kind("region", "a region such as us-east-1", _read_region)
TEXT_MAP = Kind("JSON object", 'a JSON object of strings such as {"rack":"7"}', _read_text_map, _show_map)
NETWORKS = Kind("JSON list", 'a JSON list of networks such as ["10.0.0.0/8"]', _read_networks, _show_list)
PORTS = Kind("JSON list", _PORTS, _read_ports, _show_list)
DRIVERS = Kind("JSON list", _DRIVERS, _read_logging_drivers, _show_list)
PULL_BEHAVIOR = Kind("word", _PULL_BEHAVIORS, _read_pull_behavior)
