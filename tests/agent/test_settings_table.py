"""The ECS agent's whole table of variables, its JSON file, and what Docker makes of an env file."""

import json
import re
import sys
from pathlib import Path

import pytest

from agent.model.errors import BadSettings
from agent.settings import Settings
from agent.settings.ineffective import INEFFECTIVE, ONLY_IN_JSON
from agent.settings.libraries import FOR_LIBRARIES
from agent.settings.variables import VARIABLES, Machine

TREE = Path(__file__).resolve().parents[2]
NOTHING_EXISTS = Machine(cores=2, exists=lambda _: False)
SECRET = "fake-secret-1"

OF_THE_ECS_AGENT = tuple(
    (Path(__file__).parents[1] / "golden/ecs-agent-variables.txt").read_text(encoding="ascii").split()
)
"""The names of ecs-protocol 8.2, those of the init included."""


def load(environ: dict[str, str] | None = None, **more) -> Settings:
    return Settings.load({"BERTH_ENV_FILE": "/dev/null", **(environ or {})}, machine=NOTHING_EXISTS, **more)


def test_every_variable_of_the_ecs_agent_is_honoured_or_has_a_reason() -> None:
    known = {each.name for table in (VARIABLES, INEFFECTIVE, FOR_LIBRARIES) for each in table}
    assert set(OF_THE_ECS_AGENT) - known == set()
    assert len(OF_THE_ECS_AGENT) == len(set(OF_THE_ECS_AGENT)) > 100


SOURCES = {
    path: path.read_text(encoding="utf-8")
    for path in (TREE / "agent").rglob("*.py")
    # in the package of settings itself, only the policy of tasks is made of them
    if path.parent.name != "settings" or path.name == "__init__.py"
}


@pytest.mark.parametrize("name", OF_THE_ECS_AGENT)
def test_a_variable_of_the_ecs_agent_does_something_or_the_log_and_the_page_say_why_not(name: str) -> None:
    page = (TREE / "docs/settings.md").read_text(encoding="utf-8")
    assert f"`{name}`" in page
    honoured = next((each for each in VARIABLES if each.name == name), None)
    without = next((each for each in INEFFECTIVE if each.name == name), None)
    if honoured is not None:
        assert without is None
        # handed to the parts by the daemon, or asked where it matters
        reads = re.compile(rf"\b(settings|where|chosen|self)\.{honoured.field}\b")
        assert [path for path, text in SOURCES.items() if reads.search(text)], "nobody reads it"
    elif without is not None:
        assert len(without.reason) > 10
        warned = " ".join(load({name: "something-else"}).warnings)
        assert f"{name} (the environment) has no effect: {without.reason}" in warned
    else:
        known = next(each for each in FOR_LIBRARIES if each.name == name)
        assert known.reader in page


def test_no_reason_says_that_the_agent_is_no_container() -> None:
    assert not [each.name for each in INEFFECTIVE if "no container" in each.reason]


# --- the JSON file has the ECS agent's own names


def json_file(tmp_path: Path, document: dict[str, object]) -> dict[str, str]:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))
    return {"ECS_AGENT_CONFIG_FILE_PATH": str(path)}


@pytest.mark.parametrize(
    "known", [each for each in INEFFECTIVE if each.json_keys], ids=lambda each: each.name
)
def test_a_field_of_the_json_file_without_effect_has_the_reason_of_its_variable(
    known, tmp_path: Path
) -> None:
    settings = load(json_file(tmp_path, dict.fromkeys(known.json_keys, "something-else")))
    assert [known.reason in each for each in settings.warnings] == [True] * len(known.json_keys)
    assert [each.name for each in settings.described() if not each.has_effect] == list(known.json_keys)


@pytest.mark.parametrize("key", ONLY_IN_JSON)
def test_a_field_that_only_the_json_file_has_gets_a_reason(key: str, tmp_path: Path) -> None:
    (warning,) = load(json_file(tmp_path, {key: 1})).warnings
    assert warning.startswith(f"{key} (")
    assert warning.endswith(ONLY_IN_JSON[key])


def test_what_holds_anyway_may_stand_in_the_json_file(tmp_path: Path) -> None:
    assert load(json_file(tmp_path, {"TaskENIEnabled": True, "Checkpoint": True})).warnings == ()


def test_keys_of_the_json_file_are_found_in_any_case_as_go_finds_them(tmp_path: Path) -> None:
    settings = load(json_file(tmp_path, {"cluster": "prod", "RESERVEDMEMORY": 7, "ecs_loglevel": "warn"}))
    assert (settings.cluster, settings.reserved_memory, settings.log_level) == ("prod", 7, "warn")
    assert settings.warnings == ()


def test_the_json_file_of_the_ecs_agents_init_is_found_before_that_of_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "ecs.config.json", tmp_path / "config.json"
    # the package has a function of the module's name
    monkeypatch.setattr(sys.modules["agent.settings.load"], "JSON_FILES", (first, second))
    assert load().cluster == "default"
    assert load().sources["cluster"] == "default"
    second.write_text('{"Cluster": "second"}')
    assert load().cluster == "second"
    first.write_text('{"Cluster": "first"}')
    assert load().cluster == "first"


# --- quotes, as Docker's --env-file leaves them


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("ECS_CLUSTER", '"prod"', "cluster", "prod"),
        ("ECS_RESERVED_MEMORY", "'7'", "reserved_memory", 7),
        ("ECS_INSTANCE_ATTRIBUTES", '\'{"rack":"7"}\'', "instance_attributes", (("rack", "7"),)),
        ("AWS_REGION", '"eu-west-1"', "region", "eu-west-1"),
        ("ECS_DATADIR", '" /srv/berth "', "data_directory", Path("/srv/berth")),
    ],
)
def test_quotes_around_a_value_in_the_environment_are_taken_away_with_a_warning(
    name, text, field, value
) -> None:
    settings = load({name: text})
    assert getattr(settings, field) == value
    (warning,) = settings.warnings
    assert warning.startswith(f"{name} (the environment): its value stands in quotes")


def test_the_name_of_the_env_file_may_stand_in_quotes_too(tmp_path: Path) -> None:
    file = tmp_path / "ecs.config"
    file.write_text("ECS_CLUSTER=prod\n")
    assert load({"BERTH_ENV_FILE": f'"{file}"'}).cluster == "prod"


def test_quotes_that_a_library_would_take_for_a_part_of_a_secret_are_refused_without_it() -> None:
    with pytest.raises(BadSettings) as error:
        load({"AWS_SECRET_ACCESS_KEY": f'"{SECRET}"', "AWS_ACCESS_KEY_ID": "'fake-id'"})
    assert len(error.value.problems) == 2
    assert SECRET not in str(error.value)
    assert "AWS_SECRET_ACCESS_KEY (the environment): its value stands in quotes" in str(error.value)


def test_quotes_around_variables_of_other_programs_are_their_own() -> None:
    assert load({"PS1": '"$ "'}).warnings == ()


def test_a_name_alone_in_the_env_file_is_fine_where_the_environment_has_a_value(tmp_path: Path) -> None:
    file = tmp_path / "ecs.config"
    file.write_text("ECS_LOGLEVEL\n")
    assert load({"ECS_LOGLEVEL": "warn"}, env_file=file).log_level == "warn"
    with pytest.raises(BadSettings, match="line 1: expected NAME=VALUE, found 'ECS_LOGLEVEL', and the env"):
        load(env_file=file)


# --- in a container


def test_in_a_container_what_ends_with_the_boot_is_named_by_it_and_outlives_the_container() -> None:
    machine = Machine(cores=2, exists=lambda _: False, boot_id="0b77")
    environ = {"BERTH_ENV_FILE": "/dev/null", "ECS_DATADIR": "/var/lib/ecs/data"}

    def run_directory(**more: str) -> Path:
        return Settings.load({**environ, **more}, machine=machine).run_directory

    assert run_directory() == Path("/run/berth")
    assert run_directory(BERTH_IN_CONTAINER="true") == Path("/var/lib/ecs/data/boots/0b77")
    assert run_directory(BERTH_IN_CONTAINER="true", BERTH_RUN_DIRECTORY="/x") == Path("/x")


@pytest.mark.parametrize(
    ("environ", "outside"),
    [
        ({}, "/var/lib/berth"),
        ({"ECS_HOST_DATA_DIR": "/srv"}, "/var/lib/berth"),
        ({"BERTH_IN_CONTAINER": "true"}, "/var/lib/berth"),
        ({"BERTH_IN_CONTAINER": "true", "ECS_DATADIR": "/var/lib/ecs/data"}, "/var/lib/ecs/data"),
        ({"BERTH_IN_CONTAINER": "true", "ECS_DATADIR": "/data"}, "/var/lib/ecs/data"),
        ({"BERTH_IN_CONTAINER": "true", "ECS_DATADIR": "/data", "ECS_HOST_DATA_DIR": "/srv"}, "/srv/data"),
    ],
)
def test_docker_is_told_of_the_data_directory_as_its_machine_has_it(environ, outside: str) -> None:
    settings = load(environ)
    assert settings.data_directory_outside == Path(outside)
    assert not any("no effect" in warning for warning in settings.warnings)
