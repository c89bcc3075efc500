"""ecs-eni in real namespaces. Names carry the ids of the conformance list."""

import json
import signal
import time

import pytest

from tests.cni_plugins.cnilab import Lab, eni_config, fresh_mac

pytestmark = pytest.mark.integration

DUAL = {
    "ip-addresses": ["10.0.1.5/24", "2001:db8:1::5/64"],
    "gateway-ip-addresses": ["10.0.1.1", "fe80::1"],
    "mtu": 9001,
}
BLACKHOLES = {"blackhole 169.254.169.254", "blackhole fd00:ec2::254"}


@pytest.mark.parametrize(
    ("change", "code", "fragment"),
    [
        pytest.param({"eni": None}, 7, "missing required parameter in config: 'eni'", id="E01"),
        pytest.param({"mac": None}, 7, "missing required parameter in config: 'mac'", id="E02"),
        pytest.param({"mac": "zz"}, 7, "malformatted mac address specified", id="E03"),
        pytest.param(
            {"ip-addresses": []}, 7, "missing required parameter in config: 'ip-addresses'", id="E04"
        ),
        pytest.param({"ip-addresses": ["10.0.0.1"]}, 7, "malformed IP address specified: 10.0.0.1", id="E05"),
        pytest.param({"ip-addresses": ["x/24"]}, 7, "malformed IP address specified: x/24", id="E06"),
        pytest.param({"mtu": "x"}, 6, "'mtu'", id="E07"),
        pytest.param(
            {"gateway-ip-addresses": ["zz"]}, 7, "malformed gateway IP address specified: zz", id="E15"
        ),
    ],
)
def test_a_wrong_config_leaves_the_device_where_it_is(lab: Lab, change, code, fragment) -> None:
    mac = lab.eni(fresh_mac())
    outcome = lab.run(
        "ecs-eni",
        "ADD",
        {
            **{k: v for k, v in eni_config(mac).items() if k not in change},
            **{k: v for k, v in change.items() if v is not None},
        },
        lab.sandbox(),
    )
    assert (outcome.exit, outcome.code) == (1, code)
    assert fragment in outcome.message
    assert lab.host.links()["eth7"]["address"] == mac


def test_e08_a_mac_that_is_not_there_means_try_again(lab: Lab) -> None:
    outcome = lab.run("ecs-eni", "ADD", eni_config("0e:aa:aa:aa:aa:aa"), lab.sandbox())
    assert (outcome.exit, outcome.code) == (1, 11)
    assert (
        "getInterfaceDeviceName engine: unable to get device with hardware address '0e:aa:aa:aa:aa:aa': "
        "engine: device with mac address not found" in outcome.message
    )


def test_e08_a_late_device_is_waited_for(lab: Lab) -> None:
    mac, sandbox = fresh_mac(), lab.sandbox()
    config = eni_config(mac, **{"wait-for-device-seconds": 20})
    process = lab.start("ecs-eni", config, lab.environment("ADD", sandbox, "eth0"))
    assert process.stdin is not None
    process.stdin.write(json.dumps(config).encode())
    process.stdin.close()
    process.stdin = None
    time.sleep(0.3)
    assert process.poll() is None
    lab.eni(mac)
    stdout, _ = process.communicate(timeout=20)
    assert process.returncode == 0, stdout
    assert "eth0" in sandbox.links()


def test_e10_dual_stack_with_block_and_mtu(lab: Lab) -> None:
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
    result = lab.run("ecs-eni", "ADD", eni_config(mac, **DUAL), sandbox).ok()
    link = sandbox.links()["eth0"]
    assert (link["mtu"], link["address"], "UP" in link["flags"]) == (9001, mac, True)
    assert {"10.0.1.5/24", "2001:db8:1::5/64"} <= sandbox.addresses("eth0")
    assert {"default via 10.0.1.1", "default via fe80::1", *BLACKHOLES} <= sandbox.routes()
    assert result["interfaces"][0] == {"name": "eth7", "mac": mac}
    assert [entry["address"] for entry in result["ips"]] == DUAL["ip-addresses"]
    assert result["dns"] == {}
    assert "eth7" not in lab.host.links()


def test_e10_the_oldest_dialect_says_what_the_old_plugin_said(lab: Lab) -> None:
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
    result = lab.run("ecs-eni", "ADD", eni_config(mac, "0.3.0"), sandbox).ok()
    assert result == {
        "interfaces": [{"name": "eth7", "mac": mac}],
        "ips": [{"version": "4", "address": "10.0.1.5/24"}],
        "dns": {},
    }


def test_e11_stay_down_only_moves_the_device(lab: Lab) -> None:
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
    lab.run("ecs-eni", "ADD", eni_config(mac, "0.3.0", **{"stay-down": True}), sandbox).ok()
    link = sandbox.links()["eth7"]
    assert (link["address"], "UP" in link["flags"]) == (mac, False)
    assert sandbox.addresses("eth7") == set()
    assert sandbox.routes() == set()


def test_e12_an_upper_case_mac_matches_and_is_echoed(lab: Lab) -> None:
    mac, sandbox = lab.eni(fresh_mac()).upper(), lab.sandbox()
    assert lab.run("ecs-eni", "ADD", eni_config(mac), sandbox).ok()["interfaces"][0]["mac"] == mac


def test_e13_ipv6_only_behind_a_link_local_gateway(lab: Lab) -> None:
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
    config = eni_config(mac, **{"ip-addresses": ["2001:db8::9/64"], "gateway-ip-addresses": ["fe80::1"]})
    lab.run("ecs-eni", "ADD", config, sandbox).ok()
    assert "default via fe80::1" in sandbox.routes()


def test_e14_an_off_link_gateway_brings_the_device_back_and_a_retry_works(lab: Lab) -> None:
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
    lab.host.sh("ip link set eth7 mtu 1400 alias spare up")
    wrong = eni_config(mac, mtu=1450, **{"gateway-ip-addresses": ["192.0.2.1"]})
    outcome = lab.run("ecs-eni", "ADD", wrong, sandbox)
    assert outcome.exit == 1
    assert "unable to add the route for the gateway: network is unreachable" in outcome.message
    link = lab.host.links()["eth7"]
    assert (link["address"], link["mtu"], link["ifalias"], "UP" in link["flags"]) == (
        mac,
        1400,
        "spare",
        True,
    )
    assert list(sandbox.links()) == ["lo"]
    assert sandbox.routes() == set()
    lab.run("ecs-eni", "ADD", eni_config(mac), sandbox).ok()


def test_e17_a_namespace_without_ipv6_still_gets_its_ipv4_block(lab: Lab) -> None:
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
    sandbox.sh(
        "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6"
    )
    lab.run("ecs-eni", "ADD", eni_config(mac), sandbox).ok()
    assert "blackhole 169.254.169.254" in sandbox.routes()


def test_e18_a_path_that_is_no_namespace_is_refused_before_the_move(lab: Lab, tmp_path) -> None:
    mac = lab.eni(fresh_mac())
    (tmp_path / "file").write_text("")
    for netns in (str(tmp_path / "file"), str(tmp_path / "absent"), "/proc/self/ns/mnt"):
        outcome = lab.run("ecs-eni", "ADD", eni_config(mac), CNI_NETNS=netns)
        assert outcome.exit == 1
        assert netns in outcome.message
    assert lab.host.links()["eth7"]["address"] == mac


def test_e20_del_without_a_namespace_is_success(lab: Lab) -> None:
    for netns in ("", "/proc/1234567/ns/net", "/run/netns/absent"):
        lab.run("ecs-eni", "DEL", {"cniVersion": "0.3.0"}, CNI_NETNS=netns or "UNSET").ok()


def test_e21_del_brings_the_device_home_under_its_own_name(lab: Lab) -> None:
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
    lab.run("ecs-eni", "ADD", eni_config(mac), sandbox).ok()
    lab.run("ecs-eni", "DEL", eni_config(mac), sandbox).ok()
    link = lab.host.links()["eth7"]
    assert (link["address"], "UP" in link["flags"], link.get("ifalias")) == (mac, False, None)
    assert lab.host.addresses("eth7") == set()
    assert (list(sandbox.links()), sandbox.routes()) == (["lo"], set())
    lab.run("ecs-eni", "DEL", eni_config(mac), sandbox).ok()


def test_e21_a_taken_name_is_replaced_by_one_from_the_whole_mac(lab: Lab) -> None:
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
    lab.run("ecs-eni", "ADD", eni_config(mac), sandbox).ok()
    lab.host.sh("ip link add eth7 type bridge")
    lab.run("ecs-eni", "DEL", eni_config(mac), sandbox).ok()
    assert lab.host.links()[f"eni{mac.replace(':', '')}"]["address"] == mac


def test_e21_when_both_names_are_taken_the_kernel_counts(lab: Lab) -> None:
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
    lab.run("ecs-eni", "ADD", eni_config(mac), sandbox).ok()
    lab.host.sh(f"ip link add eth7 type bridge; ip link add eni{mac.replace(':', '')} type bridge")
    lab.run("ecs-eni", "DEL", {"cniVersion": "0.3.0"}, sandbox).ok()
    assert lab.host.links()["eni0"]["address"] == mac


def test_e22_a_device_that_came_home_by_itself_is_collected(lab: Lab) -> None:
    mac, sandbox = fresh_mac(), lab.sandbox()
    lab.host.sh(f"ip link add ifbeni address {mac} type ifb")
    lab.run("ecs-eni", "ADD", eni_config(mac), sandbox).ok()
    # What the kernel does with a physical device when its namespace dies: back, under the inner name, alias kept.
    sandbox.sh("ip link set eth0 down")
    sandbox.sh(f"ip link set eth0 netns {lab.host.path.split('/')[2]}")
    keep = {
        **eni_config(mac, "1.1.0"),
        "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}],
    }
    lab.run("ecs-eni", "GC", keep).ok()
    assert lab.host.links()["eth0"]["ifalias"].startswith("ecs:c1:ecs-eni")
    lab.run("ecs-eni", "GC", {**keep, "cni.dev/valid-attachments": []}).ok()
    link = lab.host.links()["ifbeni"]
    assert (link["address"], link.get("ifalias")) == (mac, None)
    lab.run("ecs-eni", "ADD", eni_config(mac), lab.sandbox()).ok()


def test_e23_a_repeated_add_finds_nothing_to_do(lab: Lab) -> None:
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
    first = lab.run("ecs-eni", "ADD", eni_config(mac, **DUAL), sandbox).ok()
    before = (sandbox.ip("addr show"), sandbox.routes())
    assert lab.run("ecs-eni", "ADD", eni_config(mac, **DUAL), sandbox).ok() == first
    assert (sandbox.ip("addr show"), sandbox.routes()) == before


def test_e24_a_taken_interface_name_is_refused_before_the_move(lab: Lab) -> None:
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
    sandbox.sh("ip link add eth0 type bridge")
    outcome = lab.run("ecs-eni", "ADD", eni_config(mac), sandbox)
    assert (outcome.exit, "already exists" in outcome.message) == (1, True)
    assert lab.host.links()["eth7"]["address"] == mac


def test_e26_the_first_eni_keeps_the_default_route(lab: Lab) -> None:
    sandbox = lab.sandbox()
    first, second = lab.eni(fresh_mac(), "eth7"), lab.eni(fresh_mac(), "eth8")
    lab.run("ecs-eni", "ADD", eni_config(first), sandbox, "eth0").ok()
    other = eni_config(second, **{"ip-addresses": ["10.0.2.5/24"], "gateway-ip-addresses": ["10.0.2.1"]})
    lab.run("ecs-eni", "ADD", other, sandbox, "eth1").ok()
    assert "default via 10.0.1.1" in sandbox.routes()
    assert "default via 10.0.2.1" not in sandbox.routes()
    assert all("UP" in sandbox.links()[name]["flags"] for name in ("eth0", "eth1"))
    lab.run("ecs-eni", "DEL", eni_config(first), sandbox, "eth0").ok()
    assert sandbox.routes() >= BLACKHOLES  # the second one still needs them


def test_e28_check_names_what_is_wrong(lab: Lab) -> None:
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
    result = lab.run("ecs-eni", "ADD", eni_config(mac), sandbox).ok()
    config = {**eni_config(mac), "prevResult": result}
    lab.run("ecs-eni", "CHECK", config, sandbox).ok()
    sandbox.sh("ip route del 169.254.169.254")
    assert "169.254.169.254/32" in lab.run("ecs-eni", "CHECK", config, sandbox).message
    sandbox.sh("ip addr del 10.0.1.5/24 dev eth0")
    assert "10.0.1.5/24" in lab.run("ecs-eni", "CHECK", config, sandbox).message
    sandbox.sh("ip link set eth0 down")
    assert "set the link up" in lab.run("ecs-eni", "CHECK", config, sandbox).message
    lab.run("ecs-eni", "DEL", config, sandbox).ok()
    outcome = lab.run("ecs-eni", "CHECK", config, sandbox)
    assert (outcome.exit, "not in the namespace" in outcome.message) == (1, True)


def test_e29_the_metadata_service_is_unreachable_from_inside_at_once(lab: Lab) -> None:
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
    lab.run("ecs-eni", "ADD", eni_config(mac), sandbox).ok()
    probe = (
        "import socket,errno\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
        "try: s.connect(('169.254.169.254',80)); print('reached')\n"
        "except OSError as e: print(errno.errorcode[e.errno])\n"
        "s.connect(('10.0.1.77',80)); print('other')"
    )
    first, second = sandbox.sh(f'/usr/bin/python3 -c "{probe}"').split()
    assert first in ("EHOSTUNREACH", "EINVAL")
    assert second == "other"


def test_a12_sigterm_in_the_middle_of_add_leaves_nothing_behind(lab: Lab) -> None:
    for pause in (0.012, 0.016, 0.02, 0.024, 0.03):
        mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
        config = eni_config(mac)
        process = lab.start("ecs-eni", config, lab.environment("ADD", sandbox, "eth0"))
        assert process.stdin is not None
        process.stdin.write(json.dumps(config).encode())
        process.stdin.close()
        process.stdin = None
        time.sleep(pause)
        process.send_signal(signal.SIGTERM)
        stdout, _ = process.communicate(timeout=20)
        if process.returncode == 0:
            lab.run("ecs-eni", "DEL", config, sandbox).ok()
        elif stdout:
            assert json.loads(stdout)["msg"] == "terminated by a signal"
        assert lab.host.links()["eth7"]["address"] == mac
        assert list(sandbox.links()) == ["lo"]
        lab.host.sh("ip link del eth7")
