"""What changes when a cluster of Amazon ECS gives the orders, and what is handed to libraries."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.model.errors import BadSettings
from agent.model.spec import PullBehavior
from agent.settings import Settings, hand_to_libraries
from agent.settings.libraries import FOR_LIBRARIES, handed_on
from agent.settings.variables import Machine

NOTHING_EXISTS = Machine(cores=2, exists=lambda _: False)
ARN = "arn:aws:ecs:eu-west-1:111122223333:cluster/prod"
SECRET = "fake-secret-1"


def load(environ: dict[str, str] | None = None, **more) -> Settings:
    # an empty file stands in for /etc/ecs/ecs.config, which this machine may have
    return Settings.load({"BERTH_ENV_FILE": "/dev/null", **(environ or {})}, machine=NOTHING_EXISTS, **more)


def described(settings: Settings, name: str):
    return next(item for item in settings.described() if item.name == name)


# --- the backend and what follows from it


@pytest.mark.parametrize(
    ("environ", "backend", "cluster"),
    [
        ({}, "local", "default"),
        ({"ECS_CLUSTER": " prod "}, "ecs", "prod"),
        ({"ECS_CLUSTER": "default"}, "ecs", "default"),
        ({"BERTH_BACKEND": "ecs"}, "ecs", ""),
        ({"BERTH_BACKEND": "local", "ECS_CLUSTER": "prod"}, "local", "prod"),
        ({"ECS_CLUSTER": ARN}, "ecs", ARN),
        ({"BERTH_BACKEND": "local", "ECS_CLUSTER": ARN}, "local", "prod"),
        ({"ECS_CLUSTER": "7_of-9"}, "ecs", "7_of-9"),
    ],
)
def test_a_cluster_is_what_makes_a_machine_one_of_amazon_ecs(environ, backend, cluster) -> None:
    settings = load(environ)
    assert (settings.backend, settings.cluster, settings.warnings) == (backend, cluster, ())


@pytest.mark.parametrize("text", ["arn:aws:ecs:eu-west-1:42:cluster/prod", "arn:aws:ecs:::cluster/a", "a/b"])
def test_what_is_neither_name_nor_arn_of_a_cluster_is_refused(text: str) -> None:
    with pytest.raises(BadSettings, match="a cluster's name"):
        load({"ECS_CLUSTER": text})


def test_a_cluster_in_the_json_file_chooses_the_backend_too(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"Cluster": "from-json"}')
    settings = load({"ECS_AGENT_CONFIG_FILE_PATH": str(file)})
    assert (settings.backend, settings.cluster) == ("ecs", "from-json")


def test_defaults_follow_from_the_backend() -> None:
    local, ecs = load(), load({"BERTH_BACKEND": "ecs"})
    assert (local.region, local.pull_behavior) == ("us-east-1", PullBehavior.PREFER_CACHED)
    assert (ecs.region, ecs.pull_behavior) == ("", PullBehavior.DEFAULT)
    assert described(ecs, "AWS_DEFAULT_REGION").value == ""


def test_what_is_for_the_other_backend_has_no_effect_and_a_warning_says_so() -> None:
    (warning,) = load({"ECS_DISABLE_METRICS": "true"}).warnings
    assert warning == (
        "ECS_DISABLE_METRICS (the environment) has no effect: it is for the backend ecs, and BERTH_BACKEND is"
        " local"
    )
    (warning,) = load({"BERTH_BACKEND": "ecs", "BERTH_VPC_CIDR": "10.0.0.0/16"}).warnings
    assert warning.startswith("BERTH_VPC_CIDR (the environment) has no effect: it is for the backend local")


def test_certificates_that_are_not_verified_are_doubted() -> None:
    settings = load({"ECS_CLUSTER": "c", "BERTH_TLS_VERIFY": "false"})
    assert settings.tls_verify is False
    (warning,) = settings.warnings
    assert warning.startswith("BERTH_TLS_VERIFY='false' (the environment): the certificates of Amazon ECS")


def test_a_cluster_of_another_region_is_doubted() -> None:
    (warning,) = load({"ECS_CLUSTER": ARN, "AWS_DEFAULT_REGION": "us-east-1"}).warnings
    assert warning.endswith("this cluster is not in the region us-east-1, where it will be looked for")
    assert load({"ECS_CLUSTER": ARN, "AWS_DEFAULT_REGION": "eu-west-1"}).warnings == ()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("ecs.example.com:8443", "https://ecs.example.com:8443"),
        ("http://127.0.0.1:5000/", "http://127.0.0.1:5000"),
    ],
)
def test_the_scheme_of_another_endpoint_is_https_unless_it_says_otherwise(text: str, url: str) -> None:
    assert load({"BERTH_BACKEND": "ecs", "ECS_BACKEND_HOST": text}).backend_host == url


def test_an_endpoint_with_a_password_in_it_is_refused() -> None:
    with pytest.raises(BadSettings, match="ECS_BACKEND_HOST"):
        load({"BERTH_BACKEND": "ecs", "ECS_BACKEND_HOST": "u:p@ecs.example.com"})


def test_unknown_log_drivers_are_named_as_the_ecs_agent_names_them() -> None:
    with pytest.raises(BadSettings, match=r"\(the environment\): Invalid logging drivers: a, b; known are "):
        load({"BERTH_BACKEND": "ecs", "ECS_AVAILABLE_LOGGING_DRIVERS": '["a","none","b"]'})


# --- logins to private registries

AUTH = base64.b64encode(f"user:{SECRET}".encode()).decode()
REGISTRY = "https://registry.example.com"


def logins(kind: str | None, data: object) -> Settings:
    text = data if isinstance(data, str) else json.dumps(data)
    return load({**({"ECS_ENGINE_AUTH_TYPE": kind} if kind else {}), "ECS_ENGINE_AUTH_DATA": text})


@pytest.mark.parametrize(
    ("kind", "entry"),
    [("docker", {"username": "u", "password": SECRET, "email": "e"}), ("dockercfg", {"auth": AUTH})],
)
def test_logins_are_kept_as_they_stand_and_shown_nowhere(kind: str, entry: dict[str, str]) -> None:
    settings = logins(kind, {REGISTRY: entry})
    assert settings.registry_auth_type == kind
    assert json.loads(settings.registry_auth_data or "") == {REGISTRY: entry}
    assert described(settings, "ECS_ENGINE_AUTH_DATA").value == "***"
    for hidden in (SECRET, AUTH):
        assert hidden not in repr(settings) + repr(settings.described())


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("docker", f"{{{SECRET}", "this is no JSON"),
        ("docker", [SECRET], "this is something else"),
        ("docker", {}, "or empty"),
        ("docker", {REGISTRY: SECRET}, "entry 1 is no object"),
        ("docker", {"a": {"username": "u", "password": SECRET}, SECRET: {"username": "u"}}, "entry 2 has no password"),
        ("docker", {SECRET: {"auth": AUTH}}, "entry 1 has no username and no password"),
        ("docker", {" ": {"username": "u", "password": SECRET}}, "entry 1 has no registry"),
        ("dockercfg", {REGISTRY: {"username": "u", "password": SECRET}}, "entry 1 has no auth"),
        ("dockercfg", {REGISTRY: {"auth": ""}}, "entry 1 has no auth"),
        ("dockercfg", {"auths": {REGISTRY: {"auth": AUTH}}}, "leave 'auths' and its braces out"),
        ("dockercfg", {REGISTRY: SECRET}, "entry 1 is no object"),
        (None, {REGISTRY: {"auth": AUTH}}, "expected ECS_ENGINE_AUTH_TYPE beside it"),
    ],
)  # fmt: skip
def test_bad_logins_are_refused_without_a_word_of_theirs(kind: str | None, data: object, said: str) -> None:
    with pytest.raises(BadSettings) as error:
        logins(kind, data)
    (problem,) = error.value.problems
    assert problem.startswith("ECS_ENGINE_AUTH_DATA (the environment): expected ")
    assert said in problem
    chain: BaseException | None = error.value
    while chain is not None:
        assert SECRET not in str(chain)
        assert AUTH not in str(chain)
        chain = chain.__cause__ or chain.__context__


def test_a_kind_of_logins_without_logins_is_refused() -> None:
    with pytest.raises(BadSettings, match="expected ECS_ENGINE_AUTH_DATA beside it"):
        load({"ECS_ENGINE_AUTH_TYPE": "docker"})


def test_logins_in_the_json_file_may_be_an_object(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"EngineAuthType": "dockercfg", "EngineAuthData": {REGISTRY: {"auth": AUTH}}}))
    settings = load({"ECS_AGENT_CONFIG_FILE_PATH": str(file)})
    assert json.loads(settings.registry_auth_data or "") == {REGISTRY: {"auth": AUTH}}


# --- user data


def test_user_data_is_the_layer_below_the_json_file(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"ReservedMemory": 256}')
    inner = {"ReservedMemory": 1, "Cluster": "from-user-data", "ReservedPorts": [22], "ECS_LOGLEVEL": "warn"}
    inner["TaskCleanupWaitDuration"] = 600_000_000_000
    settings = load(
        {"BERTH_BACKEND": "ecs", "ECS_AGENT_CONFIG_FILE_PATH": str(file), "ECS_LOGLEVEL": "debug"},
        user_data={"ECSAgentConfiguration": inner, "other": 1},
    )
    assert (settings.reserved_memory, settings.cluster) == (256, "from-user-data")
    assert (settings.reserved_ports, settings.log_level) == ((22,), "debug")
    assert settings.retention.total_seconds() == 600
    assert settings.sources["cluster"] == "the instance's user data"
    assert settings.warnings == ()


def test_user_data_may_be_text() -> None:
    text = json.dumps({"ECSAgentConfiguration": {"Cluster": "c"}})
    assert load({"BERTH_BACKEND": "ecs"}, user_data=text).cluster == "c"


@pytest.mark.parametrize(
    "text", ["", "#!/bin/bash\necho ECS_CLUSTER=x", "#cloud-config\n", '{"other": {}}', {}]
)
def test_user_data_for_somebody_else_says_nothing(text) -> None:
    settings = load({"BERTH_BACKEND": "ecs"}, user_data=text)
    assert (settings.cluster, settings.warnings) == ("", ())


@pytest.mark.parametrize(
    ("user_data", "said"),
    [
        ('{"ECSAgentConfiguration": {"Cluster": "c"', "expected one JSON object: "),
        ({"ECSAgentConfiguration": ["Cluster"]}, "ECSAgentConfiguration: expected one JSON object"),
    ],
)
def test_malformed_user_data_is_ignored_with_a_warning(user_data, said: str) -> None:
    (warning,) = load({"BERTH_BACKEND": "ecs"}, user_data=user_data).warnings
    assert warning.startswith(f"the instance's user data: {said}")
    assert warning.endswith("; it is ignored")


def test_a_bad_value_in_user_data_is_a_problem_like_any_other() -> None:
    with pytest.raises(BadSettings, match=r"ReservedPorts='\[0\]' \(the instance's user data\): expected"):
        load({"BERTH_BACKEND": "ecs"}, user_data={"ECSAgentConfiguration": {"ReservedPorts": [0]}})


def test_an_unknown_name_in_user_data_gets_a_suggestion() -> None:
    (warning,) = load({}, user_data={"ECSAgentConfiguration": {"Clusters": "x"}}).warnings
    assert warning.startswith("Clusters (the instance's user data) is no variable of berth")
    assert warning.endswith("did you mean Cluster?")


def test_credentials_in_user_data_are_not_taken() -> None:
    settings = load({}, user_data={"ECSAgentConfiguration": {"AWS_SECRET_ACCESS_KEY": SECRET}})
    (warning,) = settings.warnings
    assert "has no effect there: it is read from files and the environment only" in warning
    assert settings.for_libraries == ()
    assert described(settings, "AWS_SECRET_ACCESS_KEY").value == "***"


# --- what libraries read


def handed(settings: Settings, environ: dict[str, str] | None = None) -> dict[str, str]:
    return handed_on(
        {found.name: found.text for found in settings.for_libraries},
        environ or {},
        docker_host=settings.docker_host,
        metadata_endpoint=settings.metadata_endpoint,
        is_metadata_disabled=settings.metadata_disabled,
    )


@pytest.mark.parametrize("known", FOR_LIBRARIES, ids=lambda known: known.name)
def test_a_variable_of_a_library_is_handed_on_from_a_file(known, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text(f"{known.name}=something-hidden\n")
    settings = load(env_file=file)
    assert settings.warnings == ()
    assert handed(settings)[known.name] == "something-hidden"
    shown = described(settings, known.name)
    assert (shown.has_effect, shown.source) == (True, f"{file}, line 1")
    assert shown.value == ("***" if known.is_secret else "something-hidden")
    assert "something-hidden" not in repr(settings) + repr(settings.for_libraries)


@pytest.mark.parametrize("known", FOR_LIBRARIES, ids=lambda known: known.name)
def test_the_environment_is_never_overridden(known, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text(f"{known.name}=from-file\n")
    settings = load({known.name: "x"}, env_file=file)
    assert settings.warnings == ()
    assert known.name not in handed(settings, {known.name: "x"})


def test_a_key_pair_is_never_mixed_from_two_places(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text(f"AWS_ACCESS_KEY_ID=EXAMPLEKEYID2\nAWS_SESSION_TOKEN={SECRET}\n")
    settings = load({"AWS_ACCESS_KEY_ID": "EXAMPLEKEYID1", "AWS_SECRET_ACCESS_KEY": "x"}, env_file=file)
    (warning,) = settings.warnings
    assert warning == (
        f"AWS_SESSION_TOKEN ({file}, line 2) has no effect there: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
        "of the environment go before it"
    )
    assert handed(settings) == {}
    assert described(settings, "AWS_SESSION_TOKEN").has_effect is False


def test_a_proxy_in_small_letters_in_the_environment_goes_before_one_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("HTTPS_PROXY=http://other.example.com:3128\n")
    settings = load({"https_proxy": "http://proxy.example.com:3128"}, env_file=file)
    assert "https_proxy of the environment goes before it" in settings.warnings[0]
    assert handed(settings, {"https_proxy": "x", "no_proxy": "y"}) == {}


def test_what_no_proxy_can_reach_is_asked_without_it(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("HTTPS_PROXY=http://proxy.example.com:3128\n")
    assert handed(load(env_file=file)) == {
        "HTTPS_PROXY": "http://proxy.example.com:3128",
        "NO_PROXY": "169.254.169.254,169.254.170.2,/var/run/docker.sock",
    }
    with_more = load(
        {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1338",
            "DOCKER_HOST": "tcp://docker.example.com:2375",
        },
        env_file=file,
    )
    assert handed(with_more)["NO_PROXY"] == (
        "169.254.169.254,169.254.170.2,docker.example.com:2375,127.0.0.1"
    )


@pytest.mark.parametrize(
    ("environ", "added"),
    [
        ({}, {}),
        ({"HTTP_PROXY": "p", "NO_PROXY": "n"}, {}),
        ({"http_proxy": "p", "no_proxy": "n"}, {}),
        ({"HTTP_PROXY": "p", "no_proxy": ""}, {"no_proxy": "169.254.169.254,169.254.170.2,/var/run/docker.sock"}),
    ],
)  # fmt: skip
def test_a_word_about_proxies_is_left_as_it_is(environ: dict[str, str], added: dict[str, str]) -> None:
    assert handed(load(), environ) == added


def test_the_sdk_asks_the_metadata_service_that_the_agent_asks(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1338\nAWS_EC2_METADATA_DISABLED=1\n")
    assert handed(load(env_file=file)) == {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1338",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def test_the_environment_of_the_process_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for known in FOR_LIBRARIES:
        for name in (known.name, *known.unit):
            monkeypatch.setenv(name, "x")  # so that monkeypatch restores it
            monkeypatch.delenv(name)
    file = tmp_path / "f"
    file.write_text("AWS_ACCESS_KEY_ID=EXAMPLEKEYID1\nAWS_SECRET_ACCESS_KEY=fake-secret-1\n")
    hand_to_libraries(load(env_file=file))
    assert os.environ["AWS_ACCESS_KEY_ID"] == "EXAMPLEKEYID1"
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert "NO_PROXY" not in os.environ


def test_the_sdk_finds_the_keys_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ecs.config"
    file.write_text("AWS_ACCESS_KEY_ID=EXAMPLEKEYID1\nAWS_SECRET_ACCESS_KEY=fake-secret-1\n")
    program = (
        "from agent.settings import Settings, environment, hand_to_libraries\n"
        "hand_to_libraries(Settings.load(environment()))\n"
        "from botocore.session import Session\n"
        "print(Session().get_credentials().access_key)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"BERTH_ENV_FILE": str(file), "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("EXAMPLEKEYID1\n", "")
