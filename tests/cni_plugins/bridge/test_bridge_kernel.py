"""ecs-bridge in real namespaces. Names carry the ids of the conformance list."""

import json
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cni_plugins.cnilab import Lab, bridge_config

pytestmark = pytest.mark.integration

DUAL = {
    "type": "ecs-ipam",
    "id": "dual",
    "ipv4-subnet": "169.254.172.0/22",
    "ipv4-routes": [{"dst": "169.254.170.2/32"}],
    "ipv6-subnet": "fd00:ec2::172:0/112",
    "ipv6-routes": [{"dst": "fd00:ec2::1700:2/128"}],
}


def ports(lab: Lab) -> list[str]:
    return [name for name, link in lab.host.links().items() if link.get("master") == "ecs-bridge"]


def assert_untouched(lab: Lab) -> None:
    assert list(lab.host.links()) == ["lo"]
    assert lab.leases() == {}


def test_b01_the_bridge_key_is_needed_for_add_and_del(lab: Lab) -> None:
    for command in ("ADD", "DEL"):
        outcome = lab.run("ecs-bridge", command, bridge_config(bridge=None), lab.sandbox())
        assert (outcome.exit, outcome.code) == (1, 7)
        assert (
            outcome.message == "bridge parsing config: missing required parameter in config named: 'bridge'"
        )


def test_b02_the_first_add_makes_exactly_this(lab: Lab) -> None:
    sandbox = lab.sandbox()
    result = lab.run("ecs-bridge", "ADD", bridge_config(), sandbox, "ecs-eth0").ok()
    bridge, (port,), leg = lab.host.links()["ecs-bridge"], ports(lab), sandbox.links()["ecs-eth0"]
    assert lab.host.addresses("ecs-bridge") >= {"169.254.172.1/22"}
    assert sandbox.addresses("ecs-eth0") == {"169.254.172.2/22"}  # and no fe80 address
    assert (leg["address"], leg["mtu"], "UP" in leg["flags"]) == ("0a:58:a9:fe:ac:02", 1500, True)
    assert sandbox.routes() == {"169.254.172.1 via 169.254.172.1", "169.254.170.2 via 169.254.172.1"}
    assert result["interfaces"] == [
        {"name": "ecs-bridge", "mac": bridge["address"]},
        {"name": port, "mac": lab.host.links()[port]["address"]},
        {"name": "ecs-eth0", "mac": leg["address"], "sandbox": sandbox.path},
    ]
    assert result["ips"] == [{"interface": 2, "address": "169.254.172.2/22", "gateway": "169.254.172.1"}]
    assert result["routes"] == [
        {"dst": "169.254.170.2/32"},
        {"dst": "169.254.172.1/32", "gw": "169.254.172.1"},
    ]
    assert lab.host.links()[port]["ifalias"] == "ecs:c1:ecs-bridge:ecs-eth0"
    options = lab.host.links()[port]["linkinfo"]["info_slave_data"]
    assert (options["isolated"], options["learning"]) == (True, False)


def test_b03_the_same_ifname_again_is_refused_without_a_trace(lab: Lab) -> None:
    sandbox = lab.sandbox()
    lab.run("ecs-bridge", "ADD", bridge_config(), sandbox, "ecs-eth0").ok()
    before = (ports(lab), lab.leases())
    outcome = lab.run("ecs-bridge", "ADD", bridge_config("0e:00:00:00:00:02"), sandbox, "ecs-eth0", "c2")
    assert "container veth name provided (ecs-eth0) already exists" in outcome.message
    assert (ports(lab), lab.leases()) == before


def test_b04_the_same_id_again_leaks_nothing_and_keeps_the_first_lease(lab: Lab) -> None:
    sandbox = lab.sandbox()
    lab.run("ecs-bridge", "ADD", bridge_config(), sandbox, "ecs-eth0").ok()
    before = (ports(lab), lab.leases())
    outcome = lab.run("ecs-bridge", "ADD", bridge_config(), sandbox, "other0")
    assert (outcome.exit, "id already exists" in outcome.message) == (1, True)
    assert (ports(lab), lab.leases(), list(sandbox.links())) == (*before, ["lo", "ecs-eth0"])


@pytest.mark.parametrize(
    ("ipam", "fragment"), [(None, "no plugin name provided"), ({"type": "nope"}, "nope")]
)
def test_b05_without_a_usable_ipam_nothing_is_made(lab: Lab, ipam, fragment) -> None:
    outcome = lab.run("ecs-bridge", "ADD", bridge_config(ipam=ipam), lab.sandbox())
    assert (outcome.exit, fragment in outcome.message) == (1, True)
    assert_untouched(lab)


def test_b06_the_mtu_is_that_of_all_three_links(lab: Lab) -> None:
    sandbox = lab.sandbox()
    lab.run("ecs-bridge", "ADD", bridge_config(mtu=1400), sandbox, "ecs-eth0").ok()
    links = [lab.host.links()["ecs-bridge"], lab.host.links()[ports(lab)[0]], sandbox.links()["ecs-eth0"]]
    assert [link["mtu"] for link in links] == [1400] * 3


def test_b07_another_subnet_on_the_same_bridge_is_refused_and_rolled_back(lab: Lab) -> None:
    lab.run("ecs-bridge", "ADD", bridge_config(), lab.sandbox(), "ecs-eth0").ok()
    before = (ports(lab), lab.leases())
    other, sandbox = {"type": "ecs-ipam", "id": "x", "ipv4-subnet": "10.9.0.0/24"}, lab.sandbox()
    outcome = lab.run("ecs-bridge", "ADD", bridge_config(ipam=other), sandbox, "ecs-eth0", "c2")
    assert "bridge configure: mismatch in bridge ecs-bridge address for family 2" in outcome.message
    assert (ports(lab), lab.leases(), list(sandbox.links())) == (*before, ["lo"])


def test_b08_a_link_of_another_kind_under_the_bridges_name_is_left_alone(lab: Lab) -> None:
    lab.host.sh("ip link add ecs-bridge type ifb")
    outcome = lab.run("ecs-bridge", "ADD", bridge_config(), lab.sandbox())
    assert "interface named ecs-bridge already exists, but is not a bridge" in outcome.message
    assert (list(lab.host.links()), lab.leases()) == (["lo", "ecs-bridge"], {})
    assert lab.run("ecs-bridge", "STATUS", bridge_config(version="1.1.0")).exit == 1


def test_b09_dual_stack(lab: Lab) -> None:
    sandbox = lab.sandbox()
    lab.run("ecs-bridge", "ADD", bridge_config(ipam=DUAL), sandbox, "ecs-eth0").ok()
    assert sandbox.links()["ecs-eth0"]["address"] == "0a:58:a9:fe:ac:02"
    assert sandbox.addresses("ecs-eth0") == {"169.254.172.2/22", "fd00:ec2::172:2/112"}
    assert sandbox.routes() == {
        "169.254.172.1 via 169.254.172.1",
        "169.254.170.2 via 169.254.172.1",
        "fd00:ec2::172:1 via fd00:ec2::172:1",
        "fd00:ec2::1700:2 via fd00:ec2::172:1",
    }
    assert lab.host.addresses("ecs-bridge") >= {"169.254.172.1/22", "fd00:ec2::172:1/112"}
    probe = (
        "import socket; s=socket.create_server(('fd00:ec2::172:2',0),family=socket.AF_INET6); print('bound')"
    )
    assert sandbox.sh(f'/usr/bin/python3 -c "{probe}"') == "bound\n"  # no duplicate detection to wait for


def test_b10_ipv6_alone(lab: Lab) -> None:
    sandbox = lab.sandbox()
    ipam = {"type": "ecs-ipam", "id": "six", "ipv6-subnet": "fd00:ec2::172:0/112"}
    lab.run("ecs-bridge", "ADD", bridge_config(ipam=ipam), sandbox, "ecs-eth0").ok()
    assert int(sandbox.links()["ecs-eth0"]["address"][:2], 16) & 3 == 2  # local, unicast
    assert sandbox.routes() == {"fd00:ec2::172:1 via fd00:ec2::172:1"}
    assert "fd00:ec2::172:1/112" in lab.host.addresses("ecs-bridge")


def test_b11_a_bridge_that_is_there_keeps_its_mac_and_ports(lab: Lab) -> None:
    lab.host.sh("ip link add ecs-bridge address 0a:00:00:00:00:99 type bridge")
    lab.host.sh("ip addr add 169.254.172.1/22 dev ecs-bridge; ip addr add fe80::99/64 dev ecs-bridge")
    lab.host.sh("ip link add other type veth peer name rehto; ip link set other master ecs-bridge")
    sandbox = lab.sandbox()
    lab.run("ecs-bridge", "ADD", bridge_config(ipam=DUAL), sandbox, "ecs-eth0").ok()
    assert lab.host.links()["ecs-bridge"]["address"] == "0a:00:00:00:00:99"
    assert "other" in ports(lab)
    (gateway,) = sandbox.ip("-4 neigh show dev ecs-eth0")
    assert gateway["lladdr"] == "0a:00:00:00:00:99"


def test_b12_two_first_tasks_at_once_both_succeed_and_the_mac_stays(lab: Lab) -> None:
    sandboxes = [lab.sandbox() for _ in range(4)]

    def add(number: int) -> dict[str, object]:
        config = bridge_config(f"0e:00:00:00:00:0{number}")
        return lab.run("ecs-bridge", "ADD", config, sandboxes[number], "ecs-eth0", f"c{number}").ok()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    mac = lab.host.links()["ecs-bridge"]["address"]
    for number in range(4):
        config = bridge_config(f"0e:00:00:00:00:0{number}")
        lab.run("ecs-bridge", "DEL", config, sandboxes[number], "ecs-eth0", f"c{number}").ok()
        assert lab.host.links()["ecs-bridge"]["address"] == mac


def test_b13_routes_with_their_own_gateway_and_a_default_route(lab: Lab) -> None:
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "10.8.0.0/16", "gw": "169.254.172.9"}]
    ipam = {"type": "ecs-ipam", "id": "r", "ipv4-subnet": "169.254.172.0/22", "ipv4-routes": routes}
    sandbox = lab.sandbox()
    lab.run("ecs-bridge", "ADD", bridge_config(ipam=ipam), sandbox, "ecs-eth0").ok()
    assert sandbox.routes() >= {"default via 169.254.172.1", "10.8.0.0/16 via 169.254.172.9"}


FAKE_IPAM = """#!/bin/sh
echo "$CNI_COMMAND" >> "$FAKE_LOG"
[ "$CNI_COMMAND" = ADD ] && cat "$FAKE_RESULT"
exit 0
"""


@pytest.mark.parametrize(
    ("ips", "fragment"),
    [
        ([], "got 0"),
        ([{"address": f"10.0.0.{n}/24", "gateway": "10.0.0.1"} for n in (2, 3, 4)], "got 3"),
        ([{"address": "10.0.0.2/24"}], "without a gateway"),
        ([{"address": f"10.0.0.{n}/24", "gateway": "10.0.0.1"} for n in (2, 3)], "same family"),
    ],
)
def test_b14_a_useless_ipam_result_is_refused_and_given_back(lab: Lab, ips, fragment) -> None:
    directory = lab.scratch / "bin"
    directory.mkdir()
    (directory / "fake").write_text(FAKE_IPAM)
    (directory / "fake").chmod(0o755)
    (lab.scratch / "result").write_text(json.dumps({"cniVersion": "1.0.0", "ips": ips}))
    environment = {
        "CNI_PATH": str(directory),
        "FAKE_LOG": str(lab.scratch / "log"),
        "FAKE_RESULT": str(lab.scratch / "result"),
    }
    outcome = lab.run("ecs-bridge", "ADD", bridge_config(ipam={"type": "fake"}), lab.sandbox(), **environment)
    assert (outcome.exit, fragment in outcome.message) == (1, True)
    assert (lab.scratch / "log").read_text().split() == ["ADD", "DEL"]
    assert list(lab.host.links()) == ["lo"]


@pytest.mark.skipif(
    not Path("/usr/lib/cni/host-local").exists(), reason="the reference plugins are not installed"
)
def test_b14_host_local_serves_as_ipam(lab: Lab) -> None:
    ipam = {
        "type": "host-local",
        "dataDir": str(lab.scratch / "hl"),
        "ranges": [[{"subnet": "169.254.172.0/22", "gateway": "169.254.172.1"}]],
        "routes": [{"dst": "169.254.170.2/32"}],
    }
    sandbox, config = lab.sandbox(), bridge_config(version="0.4.0", ipam=ipam)
    result = lab.run("ecs-bridge", "ADD", config, sandbox, "ecs-eth0", CNI_PATH="/usr/lib/cni").ok()
    assert result["ips"][0]["version"] == "4"
    assert "169.254.170.2 via 169.254.172.1" in sandbox.routes()
    check = {**config, "prevResult": result}
    lab.run("ecs-bridge", "CHECK", check, sandbox, "ecs-eth0", CNI_PATH="/usr/lib/cni").ok()
    lab.run("ecs-bridge", "DEL", config, sandbox, "ecs-eth0", CNI_PATH="/usr/lib/cni").ok()
    assert [path.name for path in (lab.scratch / "hl").rglob("169.254*")] == []


def test_the_bundled_ipam_behaves_the_same_in_process_and_by_exec(lab: Lab) -> None:
    elsewhere = lab.scratch / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(lab.plugins / "ecs-ipam", elsewhere / "ecs-ipam")
    results = []
    for number, path in enumerate((str(lab.plugins), str(elsewhere))):
        sandbox, config = lab.sandbox(), bridge_config(f"0e:00:00:00:00:0{number}")
        more = {"CNI_PATH": path, "IPAM_DB_PATH": str(lab.scratch / f"leases{number}")}
        result = lab.run("ecs-bridge", "ADD", config, sandbox, "ecs-eth0", **more).ok()
        again = lab.run("ecs-bridge", "ADD", config, sandbox, "eth5", **more)
        assert (again.exit, "id already exists" in again.message) == (1, True)
        lab.run("ecs-bridge", "DEL", config, sandbox, "ecs-eth0", **more).ok()
        held = json.loads((lab.scratch / f"leases{number}" / "leases.json").read_text())["held"]
        assert (held, ports(lab)) == ({}, [])
        results.append((result["ips"], result["routes"]))
    assert results[0] == results[1]


def test_b20_del_without_ipam_keeps_lease_and_bridge(lab: Lab) -> None:
    sandbox = lab.sandbox()
    lab.run("ecs-bridge", "ADD", bridge_config(), sandbox, "ecs-eth0").ok()
    for _ in range(2):
        lab.run("ecs-bridge", "DEL", bridge_config(ipam=None), sandbox, "ecs-eth0").ok()
        assert (list(sandbox.links()), ports(lab)) == (["lo"], [])
    assert list(lab.leases()) == ["169.254.172.2"]
    assert "169.254.172.1/22" in lab.host.addresses("ecs-bridge")
    assert lab.host.ip("neigh show dev ecs-bridge") == []
    lab.run("ecs-ipam", "DEL", bridge_config()).ok()
    assert lab.leases() == {}


@pytest.mark.parametrize("path", ["", "/proc/1234567/ns/net"])
def test_b21_del_after_the_namespace_is_gone_frees_everything(lab: Lab, path: str) -> None:
    sandbox, keeper = lab.sandbox(), lab.sandbox()
    lab.run("ecs-bridge", "ADD", bridge_config(), sandbox, "ecs-eth0").ok()
    # Something keeps the far end alive, so the port is still there when the path is gone.
    sandbox.sh(f"ip link set ecs-eth0 netns {keeper.path.split('/')[2]}")
    sandbox.end()
    assert len(ports(lab)) == 1
    lab.run("ecs-bridge", "DEL", bridge_config(), None, "ecs-eth0", CNI_NETNS=path or "UNSET").ok()
    assert (ports(lab), lab.leases(), lab.host.ip("neigh show dev ecs-bridge")) == ([], {}, [])


def test_b22_a_leg_without_addresses_is_deleted_too(lab: Lab) -> None:
    sandbox = lab.sandbox()
    lab.run("ecs-bridge", "ADD", bridge_config(), sandbox, "ecs-eth0").ok()
    sandbox.sh("ip addr flush dev ecs-eth0")
    lab.run("ecs-bridge", "DEL", bridge_config(), sandbox, "ecs-eth0").ok()
    assert (list(sandbox.links()), ports(lab)) == (["lo"], [])


def test_b23_del_without_a_lease_is_success(lab: Lab) -> None:
    lab.run("ecs-bridge", "DEL", bridge_config(), lab.sandbox(), "ecs-eth0").ok()


def test_b25_check_names_what_is_wrong(lab: Lab) -> None:
    sandbox = lab.sandbox()
    result = lab.run("ecs-bridge", "ADD", bridge_config(), sandbox, "ecs-eth0").ok()
    config = {**bridge_config(), "prevResult": result}

    def check() -> str:
        outcome = lab.run("ecs-bridge", "CHECK", config, sandbox, "ecs-eth0")
        return outcome.message if outcome.exit else ""

    sandbox.sh("ip route add 192.0.2.0/24 via 169.254.172.1 dev ecs-eth0 onlink")
    assert check() == ""
    sandbox.sh("ip route del 169.254.172.1")
    assert "the route 169.254.172.1/32 is missing" in check()
    sandbox.sh("ip link set ecs-eth0 address 0a:00:00:00:00:07")
    assert "expected 0a:58:a9:fe:ac:02" in check()
    port = ports(lab)[0]
    lab.host.sh(f"bridge link set dev {port} isolated off")
    assert "is not isolated" in check()
    lab.host.sh(f"ip link set {port} nomaster")
    assert "is not plugged into ecs-bridge" in check()
    sandbox.sh("ip link del ecs-eth0")
    assert "ecs-eth0 does not exist" in check()


def test_b26_gc_removes_only_what_is_not_valid(lab: Lab) -> None:
    for number in range(3):
        config = bridge_config(f"0e:00:00:00:00:0{number}", "1.1.0")
        lab.run("ecs-bridge", "ADD", config, lab.sandbox(), "ecs-eth0", f"c{number}").ok()
    lab.host.sh("ip link add foreign type veth peer name ngierof; ip link set foreign master ecs-bridge")
    valid = [{"containerID": f"c{number}", "ifname": "ecs-eth0"} for number in (0, 2)]
    for key in ("cni.dev/valid-attachments", "cni.dev/attachments"):
        lab.run("ecs-bridge", "GC", {**bridge_config(version="1.1.0"), key: valid}).ok()
        marks = {lab.host.links()[name].get("ifalias", "") for name in ports(lab)}
        assert marks == {"", "ecs:c0:ecs-bridge:ecs-eth0", "ecs:c2:ecs-bridge:ecs-eth0"}
        assert set(lab.leases()) == {"169.254.172.2", "169.254.172.4"}
        neighbours = {entry["dst"] for entry in lab.host.ip("-4 neigh show dev ecs-bridge")}
        assert neighbours == {"169.254.172.2", "169.254.172.4"}


def test_b27_status(lab: Lab) -> None:
    small = {"type": "ecs-ipam", "id": "only", "ipv4-subnet": "169.254.172.0/30"}
    config = bridge_config(version="1.1.0", ipam=small)
    lab.run("ecs-bridge", "STATUS", config).ok()
    lab.run("ecs-bridge", "ADD", config, lab.sandbox(), "ecs-eth0").ok()
    assert lab.run("ecs-bridge", "STATUS", config).code == 50


def test_a12_sigterm_in_the_middle_of_add_leaves_nothing_behind(lab: Lab) -> None:
    for pause in (0.012, 0.015, 0.018, 0.021, 0.025):
        sandbox, config = lab.sandbox(), bridge_config()
        process = lab.start("ecs-bridge", config, lab.environment("ADD", sandbox, "ecs-eth0"))
        assert process.stdin is not None
        process.stdin.write(json.dumps(config).encode())
        process.stdin.close()
        process.stdin = None
        time.sleep(pause)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        if process.returncode == 0:
            lab.run("ecs-bridge", "DEL", config, sandbox, "ecs-eth0").ok()
        assert (list(sandbox.links()), ports(lab)) == (["lo"], [])
        lab.run("ecs-bridge", "DEL", config, sandbox, "ecs-eth0").ok()
        assert lab.leases() == {}
