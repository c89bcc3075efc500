"""Chains as the agent, netlib and libcni run them. Names carry the ids of the conformance list."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cni_plugins.cnilab import Lab, Namespace, bridge_config, eni_config, fresh_mac
from tests.cni_plugins.conflist import ListFailed, Runner

pytestmark = pytest.mark.integration


def state(lab: Lab) -> dict[str, Any]:
    """All that must be as before after a task has come and gone."""
    return {
        "links": {name: link.get("ifalias") for name, link in lab.host.links().items()},
        "leases": lab.leases(),
        "neighbours": lab.host.sh("ip neigh show dev ecs-bridge 2>/dev/null || true"),
        "rules": lab.host.sh("ip rule; ip -6 rule"),
    }


def add(lab: Lab, mac: str, sandbox: Namespace, container: str) -> None:
    lab.run("ecs-eni", "ADD", eni_config(mac), sandbox, "eth0", container).ok()
    lab.run("ecs-bridge", "ADD", bridge_config(mac), sandbox, "ecs-eth0", container).ok()


def remove(lab: Lab, mac: str, sandbox: Namespace, container: str) -> None:
    lab.run("ecs-bridge", "DEL", bridge_config(mac), sandbox, "ecs-eth0", container).ok()
    lab.run("ecs-eni", "DEL", eni_config(mac), sandbox, "eth0", container).ok()


def warm_bridge(lab: Lab) -> None:
    """The bridge outlives its tasks, so it belongs to the state before."""
    sandbox = lab.sandbox()
    lab.run("ecs-bridge", "ADD", bridge_config("warm"), sandbox, "w0", "w").ok()
    lab.run("ecs-bridge", "DEL", bridge_config("warm"), sandbox, "w0", "w").ok()
    sandbox.end()


def test_c01_the_agents_chain_and_back(lab: Lab) -> None:
    warm_bridge(lab)
    mac = lab.eni(fresh_mac())
    before, sandbox = state(lab), lab.sandbox()
    add(lab, mac, sandbox, "c1")
    assert set(sandbox.links()) == {"lo", "eth0", "ecs-eth0"}
    assert sandbox.routes() >= {
        "default via 10.0.1.1",
        "169.254.170.2 via 169.254.172.1",
        "blackhole 169.254.169.254",
    }
    lab.run("ecs-bridge", "DEL", bridge_config(mac, ipam=None), sandbox, "ecs-eth0").ok()
    lab.run("ecs-eni", "DEL", eni_config(mac), sandbox, "eth0").ok()
    lab.run("ecs-ipam", "DEL", bridge_config(mac), sandbox, "ecs-eth0").ok()
    assert state(lab) == before
    assert list(sandbox.links()) == ["lo"]


def test_c02_bridge_first_then_the_eni_as_a_second_interface(lab: Lab) -> None:
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
    lab.run("ecs-bridge", "ADD", bridge_config(sandbox.path, "0.3.0"), sandbox, "eth0", "container-id").ok()
    lab.run("ecs-eni", "ADD", eni_config(mac, "0.3.0", mtu=9001), sandbox, "eth1", "container-id").ok()
    assert sandbox.links()["eth1"]["mtu"] == 9001
    (default,) = sandbox.ip("-4 route show default")
    assert (default["dev"], default["gateway"]) == ("eth1", "10.0.1.1")


@pytest.mark.parametrize("done", [0, 1, 2])
def test_c03_clean_up_works_from_wherever_the_chain_was_cut(lab: Lab, done: int) -> None:
    warm_bridge(lab)
    mac = lab.eni(fresh_mac())
    before, sandbox = state(lab), lab.sandbox()
    if done > 0:
        lab.run("ecs-eni", "ADD", eni_config(mac), sandbox, "eth0").ok()
    if done > 1:
        lab.run("ecs-bridge", "ADD", bridge_config(mac), sandbox, "ecs-eth0").ok()
    for _ in range(2):
        remove(lab, mac, sandbox, "c1")
        assert state(lab) == before


class WarmHost:
    """ecs-plugin-host in the lab's host namespace."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.socket, theirs = socket.socketpair()
        command = ["nsenter", f"--net={lab.host.path}", str(lab.plugins / "ecs-plugin-host")]
        self.process = subprocess.Popen(command, stdin=theirs)
        theirs.close()
        self.socket.settimeout(40)
        self.lines = self.socket.makefile("rb")

    def ask(self, identity: int, *calls: tuple[str, str, dict[str, Any], Namespace, str]) -> None:
        chain = [
            {
                "type": plugin,
                "env": self.lab.environment(command, sandbox, ifname, f"c{identity}"),
                "config": config,
            }
            for plugin, command, config, sandbox, ifname in calls
        ]
        stops = calls[0][1] == "ADD"
        request = {"id": identity, "stop_on_error": stops, "calls": chain}
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        response = json.loads(self.lines.readline())
        assert [reply["exit"] for reply in response["replies"]] == [0, 0], response
        return response

    def end(self) -> int:
        self.lines.close()
        self.socket.close()
        return self.process.wait(20)


@pytest.fixture
def warm(lab: Lab) -> Iterator[WarmHost]:
    made = WarmHost(lab)
    yield made
    assert made.end() == 0


def chain(
    command: str, mac: str, sandbox: Namespace
) -> list[tuple[str, str, dict[str, Any], Namespace, str]]:
    calls = [
        ("ecs-eni", command, eni_config(mac), sandbox, "eth0"),
        ("ecs-bridge", command, bridge_config(mac), sandbox, "ecs-eth0"),
    ]
    return calls if command == "ADD" else calls[::-1]


def test_c04_a_hundred_tasks_leave_nothing_behind(lab: Lab, warm: WarmHost) -> None:
    warm_bridge(lab)
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()

    def counts() -> tuple[object, ...]:
        fds = len(list(Path(f"/proc/{warm.process.pid}/fd").iterdir()))
        children = Path(f"/proc/{warm.process.pid}/task/{warm.process.pid}/children").read_text()
        return state(lab), fds, children, sandbox.links(), sandbox.routes()

    warm.ask(0, *chain("ADD", mac, sandbox))
    warm.hear()
    warm.ask(0, *chain("DEL", mac, sandbox))
    warm.hear()
    time.sleep(0.2)
    before = counts()
    for number in range(1, 101):
        warm.ask(number, *chain("ADD", mac, sandbox))
        warm.hear()
        warm.ask(number, *chain("DEL", mac, sandbox))
        warm.hear()
    time.sleep(0.2)
    after = counts()
    # indices grow with every veth; everything else is as it was
    assert after[0] == before[0]
    assert after[1:3] == before[1:3]
    assert (set(after[3]), after[4]) == (set(before[3]), before[4])


def test_a_chain_may_take_away_and_bring_back_the_same_link(lab: Lab, warm: WarmHost) -> None:
    sandbox, config = lab.sandbox(), bridge_config("m")
    lab.run("ecs-bridge", "ADD", config, sandbox, "ecs-eth0", "c1").ok()
    calls = [("ecs-bridge", command, config, sandbox, "ecs-eth0") for command in ("DEL", "ADD")]
    warm.ask(1, *calls)
    warm.hear()
    assert list(lab.leases()) == ["169.254.172.3"]
    assert list(sandbox.links()) == ["lo", "ecs-eth0"]


def test_twenty_four_chains_at_once_through_the_host(lab: Lab, warm: WarmHost) -> None:
    warm_bridge(lab)
    tasks = [(lab.eni(fresh_mac(), f"eth{100 + n}"), lab.sandbox()) for n in range(24)]
    before = state(lab)
    for command in ("ADD", "DEL"):
        for number, (mac, sandbox) in enumerate(tasks):
            warm.ask(number, *chain(command, mac, sandbox))
        responses = [warm.hear() for _ in tasks]
        assert {response["id"] for response in responses} == set(range(24))
        if command == "ADD":
            found = {
                json.loads(response["replies"][1]["stdout"])["ips"][0]["address"] for response in responses
            }
            assert len(found) == 24
    assert state(lab) == before


def test_a14_forty_executables_at_once(lab: Lab) -> None:
    warm_bridge(lab)
    before = state(lab)
    sandboxes = [lab.sandbox() for _ in range(40)]

    def plug(number: int) -> str:
        config = bridge_config(f"0e:00:00:00:01:{number:02x}")
        result = lab.run("ecs-bridge", "ADD", config, sandboxes[number], "ecs-eth0", f"c{number}").ok()
        return result["ips"][0]["address"]

    def unplug(number: int) -> None:
        config = bridge_config(f"0e:00:00:00:01:{number:02x}")
        lab.run("ecs-bridge", "DEL", config, sandboxes[number], "ecs-eth0", f"c{number}").ok()

    with ThreadPoolExecutor(40) as pool:
        assert len(set(pool.map(plug, range(40)))) == 40
        list(pool.map(unplug, range(40)))
    assert state(lab) == before


def test_c05_coming_and_going_tasks_do_not_disturb_each_other(lab: Lab) -> None:
    macs = [lab.eni(fresh_mac(), f"eth{7 + n}") for n in range(2)]

    def live(number: int) -> None:
        sandbox = lab.sandbox()
        for _ in range(6):
            add(lab, macs[number], sandbox, f"c{number}")
            remove(lab, macs[number], sandbox, f"c{number}")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(live, range(2)))
    assert (lab.leases(), len(lab.host.links())) == ({}, 6)  # lo, the bridge, two ENIs, two far ends


def a_list(version: str, *plugins: dict[str, object]) -> dict[str, Any]:
    kept = [
        {key: value for key, value in plugin.items() if key not in ("cniVersion", "name")}
        for plugin in plugins
    ]
    return {"cniVersion": version, "name": "berthnet", "plugins": kept}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


TUNING = {"type": "tuning", "sysctl": {"net.ipv4.conf.all.arp_filter": "1"}}


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_c06_a_network_list_runs_through_every_verb(lab: Lab, cache: Path, version: str) -> None:
    net, mac = f"{lab.plugins}:/usr/lib/cni", lab.eni(fresh_mac())
    chained = version != "1.1.0" and Path("/usr/lib/cni/tuning").exists()  # Debian's stops at 1.0.0
    bridge = a_list(version, bridge_config(mac), *([TUNING] if chained else []))
    for network in (bridge, a_list(version, eni_config(mac))):
        runner, sandbox = Runner(lab, network, net, cache), lab.sandbox()
        if version == "1.1.0":
            runner.status()
        result = runner.add("c1", sandbox, "eth0")
        assert any(link["name"] == "eth0" and link.get("sandbox") for link in result["interfaces"])
        runner.check("c1", sandbox, "eth0")
        if version == "1.1.0":
            runner.collect([("c1", "eth0")])
            runner.check("c1", sandbox, "eth0")
        runner.delete("c1", sandbox.path, "eth0")
        assert list(sandbox.links()) == ["lo"]
        with pytest.raises(ListFailed):
            runner.check("c1", sandbox, "eth0")
        runner.delete("c1", sandbox.path, "eth0")


def test_c06_gc_of_a_list_frees_what_the_runtime_forgot(lab: Lab, cache: Path) -> None:
    runner = Runner(lab, a_list("1.1.0", bridge_config("0e:00:00:00:00:09")), str(lab.plugins), cache)
    sandbox = lab.sandbox()
    runner.add("c1", sandbox, "eth0")
    next(cache.iterdir()).unlink()
    runner.collect([])
    assert (lab.leases(), list(sandbox.links())) == ({}, ["lo"])


@pytest.mark.parametrize("torn", [None, "", "{"])
def test_c07_c08_del_needs_no_previous_result(lab: Lab, cache: Path, torn: str | None) -> None:
    runner, sandbox = Runner(lab, a_list("1.0.0", bridge_config()), str(lab.plugins), cache), lab.sandbox()
    runner.add("c1", sandbox, "eth0")
    (cached,) = cache.iterdir()
    cached.unlink() if torn is None else cached.write_text(torn)
    runner.delete("c1", sandbox.path, "eth0")
    assert (lab.leases(), list(sandbox.links())) == ({}, ["lo"])


def test_c09_a_failed_add_and_a_del_without_namespace_leak_nothing(lab: Lab) -> None:
    warm_bridge(lab)
    before, sandbox = state(lab), lab.sandbox()
    routes = [{"dst": "10.0.0.0/8", "gw": "192.0.2.1"}]
    ipam = {"type": "ecs-ipam", "id": "x", "ipv4-subnet": "169.254.172.0/22", "ipv4-routes": routes}
    config = bridge_config(ipam=ipam)
    assert lab.run("ecs-bridge", "ADD", config, sandbox, "eth0").exit == 1
    assert state(lab) == before
    lab.run("ecs-bridge", "DEL", config, None, "eth0", CNI_NETNS="UNSET").ok()
    assert (state(lab), list(sandbox.links())) == (before, ["lo"])


@pytest.mark.parametrize("plugin", ["ecs-eni", "ecs-bridge"])
def test_a17_the_plugins_own_namespace_is_refused_unless_waived(lab: Lab, plugin: str) -> None:
    config = eni_config(lab.eni(fresh_mac())) if plugin == "ecs-eni" else bridge_config()
    assert lab.run(plugin, "ADD", config, lab.host, "eth0").code == 8
    assert lab.run(plugin, "DEL", config, lab.host, "eth7").code == 8
    assert "eth7" in lab.host.links() or plugin == "ecs-bridge"
    waived = lab.run(plugin, "ADD", config, lab.host, "eth0", CNI_NETNS_OVERRIDE="1")
    assert waived.exit == 0 or waived.code != 8


def test_b24_a_full_bridge_means_try_again_and_leaks_nothing(lab: Lab) -> None:
    warm_bridge(lab)
    batch = "".join(
        f"link add p{n} type veth peer name q{n}\nlink set p{n} master ecs-bridge\n" for n in range(1023)
    )
    file = lab.scratch / "batch"
    file.write_text(batch)
    lab.host.sh(f"ip -batch {file}")
    sandbox = lab.sandbox()
    outcome = lab.run("ecs-bridge", "ADD", bridge_config("last"), sandbox, "ecs-eth0")
    assert (outcome.exit, outcome.code, "exchange full" in outcome.message) == (1, 11, True)
    assert (lab.leases(), list(sandbox.links())) == ({}, ["lo"])


def test_the_kernel_as_pyroute2_sees_it(lab: Lab) -> None:
    """A second witness besides iproute2, with its own encoders and decoders."""
    mac, sandbox = lab.eni(fresh_mac()), lab.sandbox()
    add(lab, mac, sandbox, "c1")
    probe = (
        "import json\nfrom pyroute2 import IPRoute\n"
        "with IPRoute() as ip:\n"
        "  print(json.dumps([[l.get('ifname'), l.get('address'), l.get('ifalias')] for l in ip.get_links()]))\n"
        "  print(json.dumps([[r.get('dst'), r['dst_len'], r.get('gateway'), r['proto']] for r in ip.get_routes(table=254)]))\n"
    )
    file = lab.scratch / "probe.py"
    file.write_text(probe)
    import sys

    links, routes = map(json.loads, sandbox.sh(f"{sys.executable} -W ignore {file}").splitlines())
    assert ["eth0", mac, "ecs:c1:ecs-eni:eth7"] in links
    assert ["ecs-eth0", "0a:58:a9:fe:ac:02", None] in links
    ours = {(dst, length, gateway) for dst, length, gateway, protocol in routes if protocol == 190}
    assert ours >= {
        ("169.254.170.2", 32, "169.254.172.1"),
        ("169.254.169.254", 32, None),
        ("fd00:ec2::254", 128, None),
    }
