"""The units for systemd, compared with what the agent really does."""

import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from agent import daemon
from agent.adapters.host.capabilities import NEEDED
from agent.daemon.life import STOP_LIMIT
from agent.daemon.pulse import EXTEND_BY
from agent.daemon.watchdog import STALLED
from agent.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
NATIVE, IN_CONTAINER = "berth.service", "berth-container.service"
BOTH = pytest.mark.parametrize("name", [NATIVE, IN_CONTAINER])


def lines(name: str) -> list[tuple[str, str, str]]:
    """Section, key and value of each line."""
    found = []
    section = ""
    for line in (DEPLOY / name).read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            section = heading[1]
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.append((section, key, value))
    return found


def values(name: str, key: str) -> list[str]:
    return [value for _, each, value in lines(name) if each == key]


def value(name: str, key: str) -> str:
    (found,) = values(name, key)
    return found


def seconds(text: str) -> float:
    units = {"s": 1.0, "min": 60.0, "h": 3600.0}
    parts = re.findall(r"(\d+)(s|min|h)", text)
    assert "".join(number + unit for number, unit in parts) == text
    return sum(int(number) * units[unit] for number, unit in parts)


@BOTH
def test_exactly_the_final_exit_code_is_not_started_again(name: str) -> None:
    assert value(name, "RestartPreventExitStatus").split() == [str(daemon.TERMINAL)]
    assert value(name, "Restart") == "on-failure"  # which leaves a clean end alone
    assert values(name, "SuccessExitStatus") == []  # 0 and nothing else
    assert daemon.CLEAN == 0
    assert {daemon.RETRIABLE, STALLED} == {1}


@BOTH
def test_starting_is_never_given_up_and_never_a_storm(name: str) -> None:
    assert ("Unit", "StartLimitIntervalSec", "0") in lines(name)
    assert 1 <= seconds(value(name, "RestartSec")) <= 10


@BOTH
def test_the_order_is_after_docker_network_and_cloud_init(name: str) -> None:
    after = " ".join(values(name, "After")).split()
    assert {"docker.service", "network-online.target", "cloud-final.service"} <= set(after)
    assert {"docker.service", "network-online.target"} <= set(" ".join(values(name, "Wants")).split())
    # a restart of Docker must not take the agent down for good
    assert values(name, "Requires") == values(name, "BindsTo") == values(name, "PartOf") == []


@BOTH
def test_no_kill_mode_reaches_tasks_and_nothing_orders_systemd_to_stop_them(name: str) -> None:
    assert value(name, "KillMode") == "mixed"
    assert all("ecs" not in stop for stop in values(name, "ExecStop"))
    assert values(name, "Slice") == []


@BOTH
def test_the_two_units_exclude_each_other(name: str) -> None:
    other = {NATIVE: IN_CONTAINER, IN_CONTAINER: NATIVE}[name]
    assert value(name, "Conflicts") == other


@BOTH
def test_the_agent_notices_a_stall_before_systemd_does(name: str) -> None:
    own = Settings.load({}).watchdog_limit
    assert timedelta(seconds=seconds(value(name, "WatchdogSec"))) >= own + timedelta(seconds=30)


@BOTH
def test_the_settings_are_those_of_the_ecs_agent_and_may_be_absent(name: str) -> None:
    assert "-/etc/ecs/ecs.config" in values(name, "EnvironmentFile")


def test_systemd_listens_to_the_agent_itself_and_gives_it_time_as_often_as_it_asks() -> None:
    assert value(NATIVE, "Type") == "notify"
    assert value(NATIVE, "NotifyAccess") == "main"
    assert seconds(value(NATIVE, "TimeoutStartSec")) >= 60
    assert EXTEND_BY >= 60  # each beat of a start asks for so much more


def test_systemd_kills_an_end_that_hangs_before_the_agent_would() -> None:
    assert seconds(value(NATIVE, "TimeoutStopSec")) <= STOP_LIMIT


def test_the_directories_are_the_agents_own_and_the_addresses_in_use_outlive_it() -> None:
    settings = Settings.load({})
    assert settings.data_directory == Path("/var/lib") / value(NATIVE, "StateDirectory")
    assert settings.run_directory == Path("/run") / value(NATIVE, "RuntimeDirectory")
    assert value(NATIVE, "RuntimeDirectoryPreserve") == "yes"
    assert int(value(NATIVE, "StateDirectoryMode"), 8) == 0o700


def test_the_agent_may_do_exactly_what_it_looks_for_at_its_start() -> None:
    allowed = " ".join(values(NATIVE, "CapabilityBoundingSet")).split()
    assert sorted(allowed) == sorted(f"CAP_{each.name}" for each in NEEDED)


def test_nothing_gives_the_unit_mounts_of_its_own_or_another_network() -> None:
    """Namespaces that the agent names in /run/netns must be seen by Docker, plugins and people."""
    harmful = {
        "PrivateTmp",
        "PrivateDevices",
        "PrivateMounts",
        "PrivateNetwork",
        "PrivateUsers",
        "ProtectSystem",
        "ProtectHome",
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectControlGroups",
        "ProtectProc",
        "ProtectHostname",
        "ProtectClock",
        "RestrictNamespaces",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "InaccessiblePaths",
        "TemporaryFileSystem",
        "BindPaths",
        "RootDirectory",
        "RootImage",
        "DynamicUser",
        "MountFlags",
        "DevicePolicy",
    }
    assert {key for _, key, _ in lines(NATIVE)} & harmful == set()


def test_no_core_file_is_written_for_it_would_hold_secrets() -> None:
    assert value(NATIVE, "LimitCORE") == "0"


def test_the_sockets_of_the_credentials_address_can_be_stored() -> None:
    assert int(value(NATIVE, "FileDescriptorStoreMax")) >= 16


def test_each_line_of_the_native_unit_that_restricts_or_grants_is_explained() -> None:
    """A comment stands before each group of lines of the service."""
    text = (DEPLOY / NATIVE).read_text(encoding="utf-8").partition("[Service]")[2].partition("[Install]")[0]
    groups = [group.strip() for group in text.split("\n\n") if group.strip()]
    assert [group for group in groups if not group.startswith("#")] == []


def test_the_pauses_of_a_newer_systemd_grow() -> None:
    pauses = "berth-pauses.conf"
    assert int(value(pauses, "RestartSteps")) > 1
    for name in (NATIVE, IN_CONTAINER):
        assert seconds(value(pauses, "RestartMaxDelaySec")) > seconds(value(name, "RestartSec"))


@pytest.mark.integration
@pytest.mark.parametrize("name", [NATIVE, IN_CONTAINER])
def test_systemd_finds_no_fault_with_the_unit(name: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    units = tmp_path / "usr/lib/systemd/system"
    shutil.copytree("/usr/lib/systemd/system", units, symlinks=True)
    shutil.copy(DEPLOY / name, units)
    for program in ("usr/bin/berth", "usr/lib/berth/berth-container.sh"):
        path = tmp_path / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n", encoding="utf-8")
        path.chmod(0o755)
    command = [analyze, "verify", "--man=no", f"--root={tmp_path}", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    # and it does find one where there is one
    (units / name).write_text((DEPLOY / name).read_text().replace("KillMode=mixed", "KillMode=gentle"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "kill mode" in done.stderr
