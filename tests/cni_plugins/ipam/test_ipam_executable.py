"""ecs-ipam as an executable; needs no root. Names carry the ids of the conformance list."""

import fcntl
import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cni_plugins.cnilab import Outcome, ipam_config

pytestmark = pytest.mark.integration  # needs no root, but many processes


class Ipam:
    """One store and the executable."""

    def __init__(self, executable: Path, directory: Path) -> None:
        self.executable = executable
        self.directory = directory
        self.state = directory / "leases.json"

    def environment(
        self, command: str, container: str = "c1", ifname: str = "eth0", **more: str
    ) -> dict[str, str]:
        return {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": "/unused",
            "CNI_IFNAME": ifname,
            "CNI_PATH": "/nowhere",
            "IPAM_DB_PATH": str(self.directory),
            **more,
        }

    def run(
        self, command: str, config: object, container: str = "c1", ifname: str = "eth0", **more: str
    ) -> Outcome:
        done = subprocess.run(
            [str(self.executable)],
            input=json.dumps(config).encode(),
            capture_output=True,
            env=self.environment(command, container, ifname, **more),
            timeout=30,
            check=False,
        )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    def add(self, identifier: str, **ipam: object) -> str:
        result = self.run("ADD", ipam_config(id=identifier, **ipam)).ok()
        return ",".join(entry["address"] for entry in result["ips"])

    def held(self) -> set[str]:
        return set(json.loads(self.state.read_text())["held"])


@pytest.fixture
def ipam(plugins: Path, tmp_path: Path) -> Ipam:
    return Ipam(plugins / "ecs-ipam", tmp_path / "leases")


NO_REST = {"cooldown-seconds": 0}
TINY = {"ipv4-subnet": "169.254.172.0/29"}


@pytest.mark.parametrize(
    ("section", "fragment"),
    [
        pytest.param({"ipv4-subnet": None}, "at least one subnet (ipv4 or ipv6) is required", id="I01"),
        pytest.param({"ipv4-subnet": "x"}, "invalid CIDR address: x", id="I02"),
        pytest.param({"ipv4-subnet": "10.0.0.0/31"}, "no available ip in the subnet", id="I03"),
        pytest.param({"ipv6-subnet": "fd00::/127"}, "no available ip in the subnet", id="I03-v6"),
        pytest.param(
            {"ipv4-address": "10.9.9.9/24"},
            "verifyIPSubnet config: ip 10.9.9.9 is not within the subnet",
            id="I04",
        ),
        pytest.param(
            {"ipv4-address": "169.254.175.255/22"},
            "ip specified is reserved by default: 169.254.175.255",
            id="I05",
        ),
        pytest.param({"ipv4-address": "169.254.172.9"}, "invalid CIDR address: 169.254.172.9", id="I06"),
        pytest.param(
            {"ipv4-gateway": "169.254.172.0"},
            "gateway specified is reserved by default: 169.254.172.0",
            id="I07",
        ),
        pytest.param(
            {"ipv4-gateway": "10.0.0.1"},
            "verifyIPSubnet config: ip 10.0.0.1 is not within the subnet",
            id="I08",
        ),
        pytest.param({"ipv4-routes": [{"dst": "x"}]}, "invalid CIDR address: x", id="I09"),
    ],
)
def test_a_wrong_config_is_named(ipam: Ipam, section, fragment) -> None:
    outcome = ipam.run("ADD", ipam_config(**section))
    assert (outcome.exit, outcome.code, fragment in outcome.message) == (1, 7, True), outcome.message
    assert not ipam.state.exists()


def test_i09_a_config_without_ipam_is_named(ipam: Ipam) -> None:
    outcome = ipam.run("ADD", {"cniVersion": "1.0.0", "name": "n"})
    assert "loadIPAMConfig config: 'IPAM' field missing in configuration: " in outcome.message


def test_i10_the_default_gateway_is_the_written_address_plus_one(ipam: Ipam) -> None:
    result = ipam.run("ADD", ipam_config(**{"ipv4-subnet": "10.0.0.5/24"})).ok()
    assert result["ips"] == [{"address": "10.0.0.1/24", "gateway": "10.0.0.6"}]


def test_i11_a_full_subnet_says_so_and_a_rested_address_is_the_next(ipam: Ipam) -> None:
    assert [ipam.add(f"e{n}", **TINY) for n in range(5)] == [f"169.254.172.{n}/29" for n in range(2, 7)]
    outcome = ipam.run("ADD", ipam_config(id="e9", **TINY))
    assert "getAvailableIP ipstore: failed to find available ip addresses in the subnet" in outcome.message
    ipam.run("DEL", ipam_config(id="e3", **TINY)).ok()
    outcome = ipam.run("ADD", ipam_config(id="e9", **TINY))
    assert "4 are leased, 1 were released a moment ago and rest" in outcome.message
    assert ipam.add("e9", **TINY, **NO_REST) == "169.254.172.5/29"


def test_i12_a_released_address_is_not_the_next(ipam: Ipam) -> None:
    assert ipam.add("a", **NO_REST) == "169.254.172.2/22"
    ipam.run("DEL", ipam_config(id="a", **NO_REST)).ok()
    assert ipam.add("b", **NO_REST) == "169.254.172.3/22"


def test_i12_an_address_rests_until_its_cooldown_is_over(ipam: Ipam) -> None:
    small = {"ipv4-subnet": "169.254.172.0/30", "cooldown-seconds": 1}
    ipam.add("a", **small)
    ipam.run("DEL", ipam_config(id="a", **small)).ok()
    assert ipam.run("ADD", ipam_config(id="b", **small)).exit == 1
    time.sleep(1.1)
    assert ipam.add("b", **small) == "169.254.172.2/30"


def test_i13_id_and_address_are_unique(ipam: Ipam) -> None:
    ipam.add("a")
    assert "id already exists" in ipam.run("ADD", ipam_config(id="a")).message
    taken = ipam.run("ADD", ipam_config(id="b", **{"ipv4-address": "169.254.172.2/22"}))
    assert "failed to mark this ip 169.254.172.2 as used: Previous K/V pair exists" in taken.message
    assert ipam.run("ADD", ipam_config(id="b", **{"ipv4-address": "169.254.172.1/22"})).exit == 1
    gateway = ipam.run("ADD", ipam_config(id="b", **{"ipv4-gateway": "169.254.172.2"}))
    assert "verifyGateway commands: ip of gateway has already been used" in gateway.message
    assert ipam.held() == {"169.254.172.2"}


def test_i14_addresses_need_not_begin_with_a_one(ipam: Ipam) -> None:
    net = {"ipv4-subnet": "200.8.0.0/28"}
    ipam.add("a", **net)
    assert "id already exists" in ipam.run("ADD", ipam_config(id="a", **net)).message
    ipam.run("DEL", ipam_config(id="a", **net)).ok()
    assert ipam.held() == set()


def test_i15_del_of_what_is_not_leased_is_success_but_it_must_name_something(ipam: Ipam) -> None:
    ipam.run("DEL", ipam_config(id="unknown")).ok()
    ipam.run("DEL", ipam_config(id=None, **{"ipv4-address": "169.254.172.99/22"})).ok()
    nobody = ipam.run("DEL", ipam_config("0.3.0", id=None), container="")
    assert "del commands: ip address and id can not all be empty for deletion" in nobody.message


def test_del_by_address_and_del_by_container(ipam: Ipam) -> None:
    for container in ("c1", "c2", "c3"):
        ipam.run("ADD", ipam_config(id=None), container).ok()
    ipam.run("DEL", ipam_config(id=None, **{"ipv4-address": "169.254.172.2/22"}), "c9").ok()
    assert ipam.held() == {"169.254.172.3", "169.254.172.4"}
    ipam.run("DEL", ipam_config(id=None), "c3", "other").ok()
    assert ipam.held() == {"169.254.172.3", "169.254.172.4"}
    ipam.run("DEL", ipam_config(id=None), "c3").ok()
    assert ipam.held() == {"169.254.172.3"}


def test_i16_both_families_move_on_together(ipam: Ipam) -> None:
    both = {"ipv6-subnet": "fd00:ec2::172:0/112"}
    assert ipam.add("a", **both) == "169.254.172.2/22,fd00:ec2::172:2/112"
    assert ipam.run("ADD", ipam_config(id="a", **both)).exit == 1
    for _ in range(2):
        ipam.run("DEL", ipam_config(id="a", **both)).ok()
    assert ipam.add("a", **both) == "169.254.172.3/22,fd00:ec2::172:3/112"


@pytest.mark.parametrize("content", [b"\x00\xff garbage", b"{", b"[]", b'{"format": 99}', b'{"format":1}'])
def test_i17_a_corrupt_store_is_moved_aside_and_usable_at_once(ipam: Ipam, content: bytes) -> None:
    ipam.directory.mkdir()
    ipam.state.write_bytes(content)
    assert ipam.add("a") == "169.254.172.2/22"
    (aside,) = ipam.directory.glob("leases.json.corrupt-*")
    assert aside.read_bytes() == content


def test_i17_an_empty_store_is_fine(ipam: Ipam) -> None:
    ipam.directory.mkdir()
    ipam.state.write_bytes(b"")
    assert ipam.add("a") == "169.254.172.2/22"


def test_i18_a_locked_store_fails_after_the_timeout_and_not_before(ipam: Ipam) -> None:
    ipam.add("a")
    with (ipam.directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        begun = time.monotonic()
        outcome = ipam.run("ADD", ipam_config(id="b"), IPAM_DB_CONNECTION_TIMEOUT="700ms")
        assert (outcome.code, "timeout" in outcome.message) == (11, True)
        assert 0.7 <= time.monotonic() - begun < 5
    bad = ipam.run("ADD", ipam_config(id="b"), IPAM_DB_CONNECTION_TIMEOUT="soon")
    assert (bad.code, "loadDBConfig config: parsing timeout string failed" in bad.message) == (4, True)


def test_i19_kill_at_any_moment_leaves_a_readable_store(ipam: Ipam) -> None:
    ipam.add("before")
    for number in range(25):
        process = subprocess.Popen(
            [str(ipam.executable)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=ipam.environment("ADD", f"k{number}"),
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(ipam_config(id=f"k{number}")).encode())
        process.stdin.close()
        time.sleep(0.008 + number * 0.0005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert "169.254.172.2" in ipam.held()
    ipam.run(
        "GC", {**ipam_config("1.1.0"), "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}
    ).ok()
    assert ipam.held() == {"169.254.172.2"}
    assert list(ipam.directory.glob("*.corrupt*")) == []


def test_i20_a_store_of_an_earlier_boot_is_empty(ipam: Ipam) -> None:
    ipam.add("a")
    state = json.loads(ipam.state.read_text())
    ipam.state.write_text(json.dumps({**state, "boot": "an earlier one"}))
    assert ipam.add("a") == "169.254.172.2/22"


def test_i21_fifty_at_once_get_fifty_addresses(ipam: Ipam) -> None:
    begun = time.monotonic()
    with ThreadPoolExecutor(50) as pool:
        addresses = list(pool.map(lambda n: ipam.add(f"e{n}"), range(50)))
    assert len(set(addresses)) == 50
    assert time.monotonic() - begun < 10  # 5 s on an idle machine


def test_i22_gc_releases_what_is_not_valid(ipam: Ipam) -> None:
    for number in range(3):
        ipam.run("ADD", ipam_config(id=f"e{number}"), f"c{number}").ok()
    valid = [{"containerID": "c1", "ifname": "eth0"}]
    ipam.run("GC", {**ipam_config("1.1.0"), "cni.dev/valid-attachments": valid}).ok()
    assert ipam.held() == {"169.254.172.3"}


def test_i23_leases_outside_a_changed_subnet_are_never_handed_out(ipam: Ipam) -> None:
    ipam.add("a")
    assert ipam.add("b", **{"ipv4-subnet": "10.1.0.0/24"}) == "10.1.0.2/24"
    assert ipam.add("a", **{"ipv4-subnet": "10.1.0.0/24"}) == "10.1.0.3/24"


def test_check_needs_the_lease(ipam: Ipam) -> None:
    config = {**ipam_config(id="a"), "prevResult": {}}
    assert "no lease in 169.254.172.0/22 for id 'a'" in ipam.run("CHECK", config).message
    ipam.add("a")
    ipam.run("CHECK", config).ok()


def test_status_tells_an_exhausted_subnet(ipam: Ipam) -> None:
    config = ipam_config("1.1.0", id="a", **{"ipv4-subnet": "169.254.172.0/30"})
    ipam.run("STATUS", config).ok()
    ipam.run("ADD", config).ok()
    assert ipam.run("STATUS", config).code == 50


def test_the_database_path_of_the_older_plugin_stands_for_a_directory_beside_it(
    ipam: Ipam, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    database = tmp_path / "data" / "eni-ipam.db"
    database.write_bytes(b"bolt")
    ipam.run("ADD", ipam_config(), IPAM_DB_PATH=str(database)).ok()
    assert (tmp_path / "data" / "eni-ipam.leases" / "leases.json").exists()
    assert database.read_bytes() == b"bolt"


def test_the_store_is_not_readable_by_others(ipam: Ipam) -> None:
    ipam.add("a")
    assert [oct(path.stat().st_mode & 0o777) for path in (ipam.state, ipam.directory)] == ["0o600", "0o750"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_cannot_be_used_is_an_io_failure(ipam: Ipam) -> None:
    ipam.directory.mkdir(mode=0o500)
    assert ipam.run("ADD", ipam_config()).code == 5


def test_a_file_in_the_place_of_the_store_is_an_io_failure(ipam: Ipam) -> None:
    ipam.directory.write_text("")
    assert ipam.run("ADD", ipam_config()).code == 5
