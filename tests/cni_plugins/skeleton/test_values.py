"""Records, addresses and results: the small values everything is made of."""

import pytest

from cni_plugins.kernel.marks import Mark, read_mark
from cni_plugins.skeleton.config import read_config
from cni_plugins.skeleton.errors import CniError
from cni_plugins.skeleton.prefix import parse_address, parse_mac, parse_prefix
from cni_plugins.skeleton.record import Record
from cni_plugins.skeleton.result import AssignedAddress, Interface, Result, Route, parse, render


class Point(Record):
    x: int
    y: int = 7


def test_records_are_values() -> None:
    assert Point(1) == Point(x=1, y=7) != Point(1, 2)
    assert hash(Point(1)) == hash(Point(1, 7))
    assert Point(1).replaced(y=3) == Point(1, 3)
    assert repr(Point(1)) == "Point(x=1, y=7)"


def test_records_are_frozen_and_complete() -> None:
    with pytest.raises(AttributeError):
        Point(1).x = 2  # type: ignore[misc]
    for values, named in (((), {}), ((1,), {"x": 1}), ((1,), {"z": 1}), ((1, 2, 3), {})):
        with pytest.raises(TypeError):
            Point(*values, **named)


@pytest.mark.parametrize(
    ("text", "network", "last"),
    [
        ("10.0.0.5/24", "10.0.0.0", "10.0.0.255"),
        ("10.0.0.5/32", "10.0.0.5", "10.0.0.5"),
        ("fd00::5/126", "fd00::4", "fd00::7"),
        ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
    ],
)
def test_prefixes(text: str, network: str, last: str) -> None:
    prefix = parse_prefix(text)
    assert prefix is not None
    assert (str(prefix), str(prefix.network), str(prefix.last)) == (text, network, last)
    assert prefix.holds(prefix.address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0.1",
        "10.0.0.1/33",
        "10.0.0.1/-1",
        "10.0.0/8",
        "x/24",
        "fe80::1/129",
        "1/2/3",
        None,
        7,
        "10.0.0.1/²",
    ],
)
def test_what_is_no_prefix(text: object) -> None:
    assert parse_prefix(text) is None


@pytest.mark.parametrize(
    "text", ["0e:11:22:33:44", "0e-11-22-33-44-55", "zz:11:22:33:44:55", "+f:11:22:33:44:55", "", None]
)
def test_what_is_no_mac(text: object) -> None:
    assert parse_mac(text) is None


def test_only_fe80_is_link_local() -> None:
    for text, expected in (("fe80::1", True), ("febf::1", True), ("fec0::1", False), ("169.254.1.1", False)):
        address = parse_address(text)
        assert address is not None
        assert address.is_link_local is expected


def a_result() -> Result:
    prefix, gateway = parse_prefix("10.0.0.2/24"), parse_address("10.0.0.1")
    destination = parse_prefix("0.0.0.0/0")
    assert prefix is not None
    assert destination is not None
    links = (
        Interface("br", "aa:aa:aa:aa:aa:aa", mtu=1500),
        Interface("eth0", "bb:bb:bb:bb:bb:bb", "/ns", 1500),
    )
    return Result(links, (AssignedAddress(prefix, gateway, 1),), (Route(destination, gateway),))


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_a15_a_result_speaks_the_configs_dialect(version: str) -> None:
    shown = render(a_result(), read_config(f'{{"cniVersion":"{version}","name":"n"}}'.encode(), "ADD"))
    assert shown.get("cniVersion") == (None if version == "0.3.0" else version)
    assert ("version" in shown["ips"][0]) == version.startswith("0.")
    assert ("mtu" in shown["interfaces"][0]) == (version == "1.1.0")
    assert shown["dns"] == {}
    read = parse(shown)
    assert (read.addresses, read.routes) == (a_result().addresses, a_result().routes)


def test_a_chained_result_comes_behind_the_previous_one() -> None:
    config = (
        b'{"cniVersion":"1.0.0","name":"n","prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"a"},{"name":"b"}],'
        b'"ips":[{"address":"192.0.2.1/24","interface":1}],"dns":{"nameservers":["192.0.2.53"]},"x":1}}'
    )
    shown = render(a_result(), read_config(config, "ADD"))
    assert [link["name"] for link in shown["interfaces"]] == ["a", "b", "br", "eth0"]
    assert [address["interface"] for address in shown["ips"]] == [1, 3]
    assert (shown["dns"], shown["x"]) == ({"nameservers": ["192.0.2.53"]}, 1)


@pytest.mark.parametrize(
    "keys",
    [
        {"ips": [{"address": "x"}]},
        {"ips": [{"address": "10.0.0.1/8", "gateway": "x"}]},
        {"ips": [{"address": "10.0.0.1/8", "interface": 0}]},
        {"routes": [{"dst": "x"}]},
        {"routes": [{"dst": "10.0.0.0/8", "gw": "x"}]},
        {"ips": {}},
        {"interfaces": [3]},
    ],
)
def test_a_malformed_result_is_refused(keys: dict[str, object]) -> None:
    with pytest.raises(CniError):
        parse(keys)


def test_marks_are_read_back_and_foreign_aliases_are_not_ours() -> None:
    mark = Mark("c1", "ecs-eni", "eth7")
    assert (str(mark), read_mark(str(mark))) == ("ecs:c1:ecs-eni:eth7", mark)
    assert read_mark("ecs:c1:ecs-bridge") == Mark("c1", "ecs-bridge", "")
    assert [read_mark(text) for text in ("", "uplink", "ecs", "eks:c1:ecs-eni:x")] == [None] * 4
