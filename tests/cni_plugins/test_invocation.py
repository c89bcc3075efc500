"""What every plugin has in common as a program; needs no root. Names carry the ids of the conformance list."""

import json
import subprocess
from pathlib import Path

import pytest

from cni_plugins.skeleton.config import SUPPORTED_VERSIONS
from tests.cni_plugins.cnilab import Outcome, bridge_config, eni_config, ipam_config

pytestmark = pytest.mark.integration  # needs no root, but many processes


NAMES = ("ecs-eni", "ecs-bridge", "ecs-ipam")
CONFIGS = {
    "ecs-eni": eni_config("0e:00:00:00:00:01"),
    "ecs-bridge": bridge_config(),
    "ecs-ipam": ipam_config(),
}
# a store that can never be: no test may touch the machine's own
FULL = {
    "IPAM_DB_PATH": "/dev/null/x",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/absent",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/nowhere",
}


@pytest.fixture(params=NAMES)
def plugin(request: pytest.FixtureRequest, plugins: Path) -> Path:
    return plugins / request.param


def run(plugin: Path, stdin: object, *options: str, **environment: str) -> Outcome:
    data = stdin if isinstance(stdin, bytes) else json.dumps(stdin).encode()
    done = subprocess.run(
        [str(plugin), *options], input=data, capture_output=True, env=environment, timeout=20, check=False
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a01_version_option(plugin: Path) -> None:
    outcome = run(plugin, b"", "--version")
    assert outcome.stdout.count("\n") == 1
    said = outcome.ok()
    assert set(said) == {"version", "dirty", "gitShortHash"}
    assert isinstance(said["dirty"], bool)
    assert said["version"] == "0.1.0" or said["version"][0].isdigit()


def test_a02_capabilities_option(plugin: Path) -> None:
    assert run(plugin, b"", "--capabilities").ok() == {"capabilities": ["awsvpc-network-mode"]}


def test_an_unknown_option_is_an_error(plugin: Path) -> None:
    assert run(plugin, b"", "--help").exit != 0


@pytest.mark.parametrize(
    ("stdin", "dialect"),
    [(b"", "1.1.0"), ({"cniVersion": "0.3.0"}, "0.3.0"), ({"cniVersion": "7.0"}, "1.1.0")],
)
def test_a03_version_lists_every_dialect(plugin: Path, stdin: object, dialect: str) -> None:
    said = run(plugin, stdin, CNI_COMMAND="VERSION").ok()
    assert said == {"cniVersion": dialect, "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]}


@pytest.mark.parametrize("missing", ["CNI_NETNS", "CNI_IFNAME", "CNI_PATH", "CNI_COMMAND"])
def test_a04_a_missing_variable_is_named(plugin: Path, missing: str) -> None:
    environment = {key: value for key, value in {"CNI_COMMAND": "ADD", **FULL}.items() if key != missing}
    outcome = run(plugin, CONFIGS[plugin.name], **environment)
    assert (outcome.exit, outcome.code, missing in outcome.message) == (1, 4, True)
    assert outcome.stderr == ""


def test_a04_all_missing_variables_are_named_at_once(plugin: Path) -> None:
    message = run(plugin, CONFIGS[plugin.name], CNI_COMMAND="ADD").message
    assert all(name in message for name in ("CNI_NETNS", "CNI_IFNAME", "CNI_PATH"))


@pytest.mark.parametrize("version", ["", "0.1.0", "0.2.0", "9.9.9"])
def test_a05_a_foreign_dialect_is_refused_with_details(plugin: Path, version: str) -> None:
    outcome = run(plugin, {**CONFIGS[plugin.name], "cniVersion": version}, CNI_COMMAND="ADD", **FULL)
    assert (outcome.exit, outcome.code, outcome.message) == (1, 1, "incompatible CNI versions")
    assert f'config is "{version or "0.1.0"}"' in outcome.document["details"]
    assert "1.1.0" in outcome.document["details"]


@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
def test_a05_every_supported_dialect_gets_past_the_version_check(plugin: Path, version: str) -> None:
    outcome = run(
        plugin,
        {**CONFIGS[plugin.name], "cniVersion": version},
        CNI_COMMAND="DEL",
        **FULL,
    )
    assert outcome.exit == 0 or outcome.code != 1


def test_a06_an_unknown_command_is_code_4(plugin: Path) -> None:
    outcome = run(plugin, CONFIGS[plugin.name], CNI_COMMAND="FOO", **FULL)
    assert (outcome.exit, outcome.code, "unknown CNI_COMMAND: FOO" in outcome.message) == (1, 4, True)


@pytest.mark.parametrize(("command", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "0.4.0")])
def test_a06_a_verb_newer_than_the_config_is_code_1(plugin: Path, command: str, version: str) -> None:
    outcome = run(plugin, {**CONFIGS[plugin.name], "cniVersion": version}, CNI_COMMAND=command, **FULL)
    assert (outcome.exit, outcome.code) == (1, 1)


@pytest.mark.parametrize("stdin", [b"{bad", b"", b"[]", b"\xff\xfe", b'{"cniVersion": 3}', b"{} x"])
def test_a07_what_is_no_config_is_code_6(plugin: Path, stdin: bytes) -> None:
    outcome = run(plugin, stdin, CNI_COMMAND="ADD", **FULL)
    assert (outcome.exit, outcome.code) == (1, 6)
    assert outcome.message.startswith("decoding version from network config: ")


def test_a08_a_container_id_is_needed_from_1_0_0_on(plugin: Path) -> None:
    without = {key: value for key, value in FULL.items() if key != "CNI_CONTAINERID"}
    new = run(plugin, CONFIGS[plugin.name], CNI_COMMAND="ADD", **without)
    assert (new.code, "CNI_CONTAINERID" in new.message) == (4, True)
    old = run(
        plugin, {**CONFIGS[plugin.name], "cniVersion": "0.3.0", "ipam": {}}, CNI_COMMAND="ADD", **without
    )
    assert "CNI_CONTAINERID" not in old.message


@pytest.mark.parametrize("container", ["../x", "-a", "a b", "a:b"])
def test_a08_a_malformed_container_id_is_code_4(plugin: Path, container: str) -> None:
    outcome = run(plugin, CONFIGS[plugin.name], CNI_COMMAND="ADD", **{**FULL, "CNI_CONTAINERID": container})
    assert (outcome.code, "CNI_CONTAINERID" in outcome.message) == (4, True)


@pytest.mark.parametrize("ifname", [".", "..", "a/b", "a:b", "a b", "x" * 16, "y" * 18])
def test_a09_e16_a_malformed_ifname_is_code_4(plugin: Path, ifname: str) -> None:
    outcome = run(plugin, CONFIGS[plugin.name], CNI_COMMAND="ADD", **{**FULL, "CNI_IFNAME": ifname})
    assert (outcome.code, "CNI_IFNAME" in outcome.message) == (4, True)


@pytest.mark.parametrize(
    ("extra", "refused"), [("K8S=1", True), ("K8S=1;IgnoreUnknown=1", False), ("x", True), ("", False)]
)
def test_a10_unknown_arguments_need_ignore_unknown(plugin: Path, extra: str, refused: bool) -> None:
    outcome = run(plugin, CONFIGS[plugin.name], CNI_COMMAND="ADD", CNI_ARGS=extra, TRACEPARENT="x", **FULL)
    assert ("CNI_ARGS" in outcome.stdout) == refused


@pytest.mark.parametrize("path", ["/nowhere/deep/x.log", "/proc/x", 'a"b<c', "/", "UNSET"])
def test_a11_whatever_the_log_file_is_stdout_holds_only_json(plugin: Path, path: str) -> None:
    outcome = run(plugin, CONFIGS[plugin.name], CNI_COMMAND="FOO", ECS_CNI_LOG_FILE=path, **FULL)
    assert json.loads(outcome.stdout)["code"] == 4
    assert outcome.stderr == ""


def test_the_log_file_says_what_failed(plugin: Path, tmp_path: Path) -> None:
    log = tmp_path / "plugin.log"
    run(plugin, CONFIGS[plugin.name], CNI_COMMAND="FOO", ECS_CNI_LOG_FILE=str(log), **FULL)
    (line,) = log.read_text().splitlines()
    entry = json.loads(line)
    assert (entry["event"], entry["level"], entry["plugin"], entry["code"]) == (
        "call.failed",
        "error",
        plugin.name,
        4,
    )
    run(
        plugin,
        CONFIGS[plugin.name],
        CNI_COMMAND="FOO",
        ECS_CNI_LOG_FILE=str(log),
        ECS_CNI_LOGLEVEL="critical",
        **FULL,
    )
    assert len(log.read_text().splitlines()) == 1


@pytest.mark.parametrize("name", ["a/b", "-x", 7])
def test_a_malformed_network_name_is_code_7(plugin: Path, name: object) -> None:
    outcome = run(plugin, {**CONFIGS[plugin.name], "name": name}, CNI_COMMAND="ADD", **FULL)
    assert (outcome.code, "network name" in outcome.message) == (7, True)


def test_an_error_object_speaks_the_configs_dialect(plugin: Path) -> None:
    outcome = run(
        plugin, {**CONFIGS[plugin.name], "cniVersion": "0.4.0", "name": "-"}, CNI_COMMAND="ADD", **FULL
    )
    assert outcome.document["cniVersion"] == "0.4.0"
