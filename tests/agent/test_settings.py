from dataclasses import fields
from datetime import timedelta
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from agent.model.errors import BadSettings
from agent.model.spec import PullBehavior
from agent.model.state import Policy
from agent.settings import Address, Settings, Whereabouts
from agent.settings.ineffective import INEFFECTIVE
from agent.settings.kinds import BadValue, read_duration, show_duration
from agent.settings.libraries import FOR_LIBRARIES
from agent.settings.variables import VARIABLES, Beyond, Machine

NOTHING_EXISTS = Machine(cores=2, exists=lambda _: False)

LOGINS = '{"https://registry.example.com":{"username":"u","password":"fake-secret-1"}}'

GOOD = {
    "BERTH_BACKEND": ("ECS", "ecs"),
    "ECS_CLUSTER": ("prod", "prod"),
    "ECS_BACKEND_HOST": ("ecs.example.com/", "https://ecs.example.com"),
    "BERTH_TLS_VERIFY": ("true", True),
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": ("http://[fd00:ec2::254]/", "http://[fd00:ec2::254]"),
    "AWS_EC2_METADATA_DISABLED": ("TRUE", True),
    "ECS_CONTAINER_INSTANCE_TAGS": ('{"team":"a"}', (("team", "a"),)),
    "ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM": ("ec2_instance", "ec2_instance"),
    "ECS_ENABLE_SPOT_INSTANCE_DRAINING": ("true", True),
    "ECS_WARM_POOLS_CHECK": ("1", True),
    "ECS_RESERVED_PORTS": ("[22, 80, 22]", (22, 80)),
    "ECS_RESERVED_PORTS_UDP": ("[53]", (53,)),
    "ECS_AVAILABLE_LOGGING_DRIVERS": ('["awslogs","awsfirelens"]', ("awslogs", "awsfirelens")),
    "ECS_DISABLE_PRIVILEGED": ("true", True),
    "ECS_SELINUX_CAPABLE": ("true", True),
    "ECS_APPARMOR_CAPABLE": ("true", True),
    "ECS_DISABLE_DOCKER_HEALTH_CHECK": ("true", True),
    "ECS_DETAILED_OS_FAMILY": ("debian_12", "debian_12"),
    "ECS_DISABLE_METRICS": ("true", True),
    "ECS_ENGINE_AUTH_TYPE": ("docker", "docker"),
    "ECS_ENGINE_AUTH_DATA": (LOGINS, LOGINS),
    "AWS_DEFAULT_REGION": ("eu-central-1", "eu-central-1"),
    "BERTH_ACCOUNT_ID": ("000000000042", "000000000042"),
    "ECS_DATADIR": ("/srv/berth", Path("/srv/berth")),
    "BERTH_IN_CONTAINER": ("true", True),
    "ECS_HOST_DATA_DIR": ("/srv/ecs", Path("/srv/ecs")),
    "BERTH_RUN_DIRECTORY": ("/run/other", Path("/run/other")),
    "DOCKER_HOST": ("tcp://127.0.0.1:2375", "tcp://127.0.0.1:2375"),
    "ECS_RESERVED_MEMORY": ("1gb", 1024),
    "ECS_INSTANCE_ATTRIBUTES": ('{"rack":"7","hall":"b"}', (("hall", "b"), ("rack", "7"))),
    "BERTH_MAX_INTERFACES": ("15", 15),
    "BERTH_INTERFACE_WAIT_LIMIT": ("90s", timedelta(seconds=90)),
    "BERTH_INSTANCE_INTERFACE": ("false", False),
    "BERTH_ENDPOINT_PORT": ("51679", 51679),
    "ECS_CONTAINER_CREATE_TIMEOUT": ("1m30s", timedelta(seconds=90)),
    "ECS_CONTAINER_START_TIMEOUT": ("45s", timedelta(seconds=45)),
    "ECS_CONTAINER_STOP_TIMEOUT": ("1.5s", timedelta(seconds=1.5)),
    "ECS_IMAGE_PULL_TIMEOUT": ("1h30m", timedelta(minutes=90)),
    "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT": ("2m", timedelta(minutes=2)),
    "BERTH_ATTACH_LIMIT": ("20s", timedelta(seconds=20)),
    "BERTH_DETACH_LIMIT": ("20s", timedelta(seconds=20)),
    "BERTH_REMOVE_LIMIT": ("20s", timedelta(seconds=20)),
    "BERTH_DEPENDENCY_WAIT_LIMIT": ("1h", timedelta(hours=1)),
    "BERTH_UNAVAILABLE_LIMIT": ("1m", timedelta(minutes=1)),
    "BERTH_WATCHDOG_LIMIT": ("90s", timedelta(seconds=90)),
    "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION": ("10m", timedelta(minutes=10)),
    "ECS_IMAGE_PULL_BEHAVIOR": ("Always", PullBehavior.ALWAYS),
    "BERTH_PULL_SLOTS": ("5", 5),
    "BERTH_START_SLOTS": ("+8", 8),
    "BERTH_PAUSE_PATH": ("/opt/pause", Path("/opt/pause")),
    "ECS_ENABLE_TASK_CPU_MEM_LIMIT": ("F", False),
    "ECS_CGROUP_PATH": ("/cgroups", Path("/cgroups")),
    "ECS_CGROUP_CPU_PERIOD": ("10ms", timedelta(milliseconds=10)),
    "ECS_CNI_PLUGINS_PATH": ("/opt/cni", Path("/opt/cni")),
    "BERTH_PLUGIN_HOST": ("0", False),
    "ECS_AWSVPC_BLOCK_IMDS": ("false", False),
    "ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES": ('["10.0.0.0/8","fd00::/8"]', ("10.0.0.0/8", "fd00::/8")),
    "BERTH_VPC_CIDR": ("192.168.0.0/20", IPv4Network("192.168.0.0/20")),
    "BERTH_VPC_NAMESPACE": ("my-vpc", "my-vpc"),
    "BERTH_SOCKET_KEEPER": ("Container", "container"),
    "BERTH_SOCKET_KEEPER_PATIENCE": ("90s", timedelta(seconds=90)),
    "BERTH_CREDENTIALS_SOURCE": ("STS", "sts"),
    "BERTH_STS_ENDPOINT": ("http://127.0.0.1:5000/", "http://127.0.0.1:5000"),
    "BERTH_API_ADDRESS": ("127.0.0.1:5000", Address("127.0.0.1", 5000)),
    "BERTH_INTROSPECTION_ADDRESS": ("[::1]:80", Address("::1", 80)),
    "ECS_AUDIT_LOGFILE": ("/log/audit.log", Path("/log/audit.log")),
    "ECS_AUDIT_LOGFILE_DISABLED": ("True", True),
    "ECS_LOGLEVEL": ("WARN", "warn"),
    "BERTH_LOG_CONSOLE": ("json", "json"),
    "BERTH_LOG_LINES_PER_SECOND": ("7", 7),
    "ECS_LOGFILE": ("/log/agent.log", Path("/log/agent.log")),
    "ECS_LOGLEVEL_ON_INSTANCE": ("crit", "crit"),
    "ECS_LOG_OUTPUT_FORMAT": ("json", "json"),
    "ECS_LOG_ROLLOVER_TYPE": ("hourly", "hourly"),
    "ECS_LOG_MAX_FILE_SIZE_MB": ("0.5", 0.5),
    "ECS_LOG_MAX_ROLL_COUNT": ("3", 3),
}  # fmt: skip

BAD = {
    "BERTH_BACKEND": "ec2",
    "ECS_CLUSTER": "two words",
    "ECS_BACKEND_HOST": "https://ecs.example.com/path",
    "BERTH_TLS_VERIFY": "perhaps",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": "169.254.169.254",
    "ECS_CONTAINER_INSTANCE_TAGS": '{"team":7}',
    "ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM": "somewhere",
    "ECS_RESERVED_PORTS": "[0]",
    "ECS_RESERVED_PORTS_UDP": "[true]",
    "ECS_AVAILABLE_LOGGING_DRIVERS": "json-file",
    "ECS_DETAILED_OS_FAMILY": "two words",
    "ECS_ENGINE_AUTH_TYPE": "basic",
    "AWS_DEFAULT_REGION": "Frankfurt",
    "BERTH_ACCOUNT_ID": "42",
    "ECS_DATADIR": "data",
    "BERTH_IN_CONTAINER": "docker",
    "DOCKER_HOST": "/var/run/docker.sock",
    "ECS_RESERVED_MEMORY": "much",
    "BERTH_MAX_INTERFACES": "0",
    "ECS_INSTANCE_ATTRIBUTES": "[]",
    "BERTH_INTERFACE_WAIT_LIMIT": "0s",
    "BERTH_INSTANCE_INTERFACE": "perhaps",
    "BERTH_ENDPOINT_PORT": "65536",
    "ECS_CONTAINER_START_TIMEOUT": "3 minutes",
    "ECS_IMAGE_PULL_BEHAVIOR": "never",
    "BERTH_START_SLOTS": "two",
    "ECS_ENABLE_TASK_CPU_MEM_LIMIT": "yes",
    "ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES": '["10.0.0.1/8"]',
    "BERTH_VPC_CIDR": "10.211.0.1/16",
    "BERTH_VPC_NAMESPACE": "../escape",
    "BERTH_SOCKET_KEEPER": "yes",
    "BERTH_SOCKET_KEEPER_PATIENCE": "0s",
    "BERTH_CREDENTIALS_SOURCE": "imds",
    "BERTH_STS_ENDPOINT": "sts.example.com",
    "BERTH_API_ADDRESS": "0.0.0.0:51670",
    "BERTH_INTROSPECTION_ADDRESS": "127.0.0.1",
    "ECS_AUDIT_LOGFILE": "audit\x00.log",
    "ECS_LOGLEVEL": "loud",
    "ECS_LOG_MAX_FILE_SIZE_MB": "5m",
}


def load(environ: dict[str, str] | None = None, **more) -> Settings:
    # an empty file stands in for /etc/ecs/ecs.config, which this machine may have
    return Settings.load({"BERTH_ENV_FILE": "/dev/null", **(environ or {})}, machine=NOTHING_EXISTS, **more)


def test_the_table_and_the_fields_of_settings_are_the_same_and_every_name_is_unique() -> None:
    own = {field.name for field in fields(Settings)} - {
        "sources",
        "ineffective",
        "for_libraries",
        "warnings",
    }
    assert sorted(variable.field for variable in VARIABLES) == sorted(own)
    names = [
        name for variable in VARIABLES for name in (variable.name, *variable.aliases, *variable.json_keys)
    ]
    names += [known.name for known in INEFFECTIVE]
    names += [known.name for known in FOR_LIBRARIES]
    assert len(names) == len(set(names))


def test_every_variable_has_an_example_in_these_tests() -> None:
    assert {variable.name for variable in VARIABLES} == set(GOOD)


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_every_variable_is_read_shown_and_traced_to_its_source(variable) -> None:
    text, value = GOOD[variable.name]
    settings = load({**beside(variable), variable.name: text})
    assert getattr(settings, variable.field) == value
    assert settings.sources[variable.field] == "the environment"
    assert settings.warnings == ()
    shown = next(item for item in settings.described() if item.name == variable.name)
    if variable.kind.is_secret:
        assert shown.value == "***"
        assert text not in repr(settings)
    else:
        assert variable.kind.read(shown.value) == value


def beside(variable) -> dict[str, str]:
    logins = {"ECS_ENGINE_AUTH_TYPE": "docker", "ECS_ENGINE_AUTH_DATA": LOGINS}
    return {
        "BERTH_BACKEND": variable.backend or "local",
        **(logins if variable.name in logins else {}),
    }


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_every_default_is_a_value_that_could_have_been_typed(variable) -> None:
    settings = load()
    shown = next(item for item in settings.described() if item.name == variable.name)
    assert shown.source == "default"
    if shown.value:
        assert variable.kind.read(shown.value) == getattr(settings, variable.field)


@pytest.mark.parametrize(("name", "text"), BAD.items())
def test_a_bad_value_is_refused_with_its_name_value_source_and_what_was_expected(
    name: str, text: str
) -> None:
    with pytest.raises(BadSettings) as error:
        load({name: text})
    (problem,) = error.value.problems
    assert problem.startswith(f"{name}={text!r} (the environment): expected ")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "ecs.config"
    file.write_text("# comment\nECS_LOGLEVEL=loud\nnonsense\nBERTH_PULL_SLOTS=0\n")
    with pytest.raises(BadSettings) as error:
        load({"ECS_DATADIR": "here", **BAD}, env_file=file)
    problems = "\n".join(error.value.problems)
    assert f"{file}, line 3: expected NAME=VALUE, found 'nonsense'" in problems
    assert f"BERTH_PULL_SLOTS='0' ({file}, line 4): expected at least 1" in problems
    assert len(error.value.problems) == len(BAD) + 2


def test_environment_goes_before_env_file_before_json_file_before_default(tmp_path: Path) -> None:
    env_file = tmp_path / "ecs.config"
    json_file = tmp_path / "config.json"
    env_file.write_text(
        f"ECS_CLUSTER=from-env-file\nECS_LOGLEVEL=warn\nECS_AGENT_CONFIG_FILE_PATH={json_file}\n"
    )
    json_file.write_text(
        '{"Cluster": "from-json", "ECS_LOGLEVEL": "debug", "ReservedMemory": 256, "AWSRegion": "eu-west-1"}'
    )
    settings = load({"ECS_CLUSTER": "from-environment"}, env_file=env_file)
    assert settings.cluster == "from-environment"
    assert settings.log_level == "warn"
    assert settings.reserved_memory == 256
    assert settings.region == "eu-west-1"
    assert settings.sources["log_level"] == f"{env_file}, line 2"
    assert settings.sources["reserved_memory"] == str(json_file)
    assert settings.sources["max_interfaces"] == "default"


def test_an_empty_value_counts_as_not_set(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("ECS_CLUSTER=from-file\n")
    assert load({"ECS_CLUSTER": " "}, env_file=file).cluster == "from-file"


def test_an_alias_in_the_environment_goes_before_the_name_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("AWS_DEFAULT_REGION=eu-west-1\n")
    assert load({"AWS_REGION": "us-west-2"}, env_file=file).region == "us-west-2"
    assert load({"AWS_REGION": "us-west-2", "AWS_DEFAULT_REGION": "ap-south-1"}).region == "ap-south-1"


def test_a_json_file_takes_durations_as_text_or_as_go_writes_them(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(
        '{"TaskCleanupWaitDuration": 600000000000, "ECS_CONTAINER_STOP_TIMEOUT": "2m", "TaskCPUMemLimit": false}'
    )
    settings = load({"ECS_AGENT_CONFIG_FILE_PATH": str(file)})
    assert settings.retention == timedelta(minutes=10)
    assert settings.stop_grace == timedelta(minutes=2)
    assert settings.task_limits is False


@pytest.mark.parametrize(
    ("name", "text", "field", "used"),
    [
        ("ECS_CONTAINER_START_TIMEOUT", "10s", "start_limit", timedelta(seconds=45)),
        ("ECS_CONTAINER_CREATE_TIMEOUT", "1s", "create_limit", timedelta(minutes=1)),
        ("ECS_CONTAINER_STOP_TIMEOUT", "10ms", "stop_grace", timedelta(seconds=1)),
        ("ECS_CONTAINER_STOP_TIMEOUT", "0", "stop_grace", timedelta(seconds=30)),
        ("ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", "5s", "pull_idle_limit", timedelta(minutes=1)),
        ("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", "1ms", "retention", timedelta(hours=3)),
        ("ECS_CGROUP_CPU_PERIOD", "1s", "cgroup_cpu_period", timedelta(milliseconds=100)),
        ("ECS_CGROUP_CPU_PERIOD", "1ms", "cgroup_cpu_period", timedelta(milliseconds=100)),
    ],
)
def test_beyond_its_limits_the_ecs_agents_rule_holds_and_a_warning_says_so(name, text, field, used) -> None:
    settings = load({name: text})
    assert getattr(settings, field) == used
    (warning,) = settings.warnings
    assert warning.startswith(f"{name}={text!r} (the environment): expected at ")
    assert warning.endswith(f"; {show_duration(used)} is used")


def test_every_variable_with_limits_keeps_its_default_within_them() -> None:
    settings = load()
    for variable in VARIABLES:
        value = getattr(settings, variable.field)
        assert variable.low is None or value >= variable.low
        assert variable.high is None or value <= variable.high
        if variable.beyond is not Beyond.REFUSED:
            assert variable.low is not None or variable.high is not None


@pytest.mark.parametrize("known", INEFFECTIVE, ids=lambda known: known.name)
def test_a_variable_without_effect_warns_unless_it_says_what_holds_anyway(known) -> None:
    (warning,) = load({known.name: "surprise"}).warnings
    assert warning == f"{known.name} (the environment) has no effect: {known.reason}"
    if known.holds is not None:
        assert load({known.name: known.holds}).warnings == ()


def test_a_boolean_that_holds_anyway_may_be_spelled_as_go_spells_it() -> None:
    assert load({"ECS_ENABLE_TASK_ENI": "T", "ECS_UPDATES_ENABLED": "0"}).warnings == ()


def test_an_unknown_name_gets_a_suggestion() -> None:
    settings = load(
        {
            "ECS_CLUSTR": "x",
            "BERTH_ZZZZZZZZ": "1",
            "PATH": "/bin",
            "ECS_CONTAINER_METADATA_URI_V4": "http://x",
        }
    )
    assert settings.warnings == (
        "ECS_CLUSTR (the environment) is no variable of berth and has no effect; did you mean ECS_CLUSTER?",
        "BERTH_ZZZZZZZZ (the environment) is no variable of berth and has no effect; see docs/settings.md",
    )


def test_any_unknown_name_in_a_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("CLUSTER=x\n")
    (warning,) = load(env_file=file).warnings
    assert warning.startswith(f"CLUSTER ({file}, line 1) is no variable of berth")


def test_defaults_follow_the_machine() -> None:
    pause = Path("/usr/lib/berth/pause")
    cni = Path("/usr/lib/berth/cni")
    settings = Settings.load(
        {"BERTH_ENV_FILE": "/dev/null", "ECS_DATADIR": "/d", "ECS_LOGLEVEL": "error"},
        machine=Machine(cores=8, exists={pause, cni}.__contains__),
    )
    assert settings.start_slots == 16
    assert settings.pause_path == pause
    assert settings.plugins_path == cni
    assert settings.audit_file == Path("/d/audit.log")
    assert settings.file_log_level == "error"
    assert load().plugins_path.parts[-2:] == ("build", "cni")


def test_the_policy_of_tasks_is_what_the_settings_say() -> None:
    settings = load({"ECS_CONTAINER_STOP_TIMEOUT": "7s", "BERTH_DEPENDENCY_WAIT_LIMIT": "1h"})
    assert settings.policy == Policy(stop_grace=timedelta(seconds=7), dependency_limit=timedelta(hours=1))


def test_a_client_finds_the_agent_even_when_other_settings_are_wrong(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("ECS_LOGLEVEL=loud\nECS_DATADIR=/d\nBERTH_API_ADDRESS=127.0.0.1:99\n")
    where = Whereabouts.find({"ECS_CLUSTER": "c"}, file)
    addresses = (Path("/d"), Address("127.0.0.1", 99), Address("127.0.0.1", 51678))
    assert where == Whereabouts("ecs", *addresses, "c", "")
    local = Whereabouts.find({"ECS_CLUSTER": "c", "BERTH_BACKEND": "local"}, file)
    assert local == Whereabouts("local", *addresses, "c", "us-east-1")
    assert Whereabouts.find({}, file).cluster == "default"
    assert Whereabouts.find({"BERTH_BACKEND": "ecs"}, file).cluster == ""
    file.write_text("BERTH_API_ADDRESS=nowhere\nBERTH_BACKEND=cloud\n")
    with pytest.raises(BadSettings, match="loopback") as error:
        Whereabouts.find({}, file)
    assert len(error.value.problems) == 2


def test_a_client_does_not_look_for_another_agent_when_the_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="no such file"):
        Whereabouts.find({"BERTH_ENV_FILE": str(tmp_path / "gone")})


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [("0", 0), ("0s", 0), ("1h30m", 5_400_000_000), ("100ms", 100_000), ("1.5h", 5_400_000_000), (".5s", 500_000),
     ("1000ns", 1), ("3us", 3), ("2µs", 2), ("+1m", 60_000_000), ("1m1m", 120_000_000), ("0.1s", 100_000)],
)  # fmt: skip
def test_durations_are_read_as_go_reads_them(text: str, microseconds: int) -> None:
    value = read_duration(text)
    assert value == timedelta(microseconds=microseconds)
    assert read_duration(show_duration(value)) == value


@pytest.mark.parametrize(
    "text", ["", "10", "1 h", "h", "-5s", "1d", "1h-1m", "s1", "1..5s", ".s", "9" * 30 + "h"]
)
def test_what_go_would_not_take_is_no_duration(text: str) -> None:
    with pytest.raises(BadValue, match="duration"):
        read_duration(text)


def test_variables_of_other_programs_are_not_taken_for_keys_of_the_json_file(tmp_path: Path) -> None:
    """Many programs have a variable named Cluster or DataDir; only the file has such keys."""
    file = tmp_path / "config.json"
    file.write_text('{"Cluster": "from-the-file"}')
    settings = load({"Cluster": "oops", "DataDir": "/oops", "ECS_AGENT_CONFIG_FILE_PATH": str(file)})
    assert (settings.backend, settings.cluster) == ("ecs", "from-the-file")
    assert settings.data_directory == load().data_directory
