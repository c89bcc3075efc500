import json
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent import __version__
from agent.cli.main import main

ROOT = Path(__file__).parents[3]


def test_config_shows_what_the_agent_uses_or_what_it_would_use(agent, capsys, monkeypatch) -> None:
    agent.answers["/berth/v1/config"] = (
        200,
        {"settings": [{"name": "ECS_CLUSTER", "value": "x", "source": "default"}]},
    )
    assert main(["config"]) == 0
    assert capsys.readouterr().out == "ECS_CLUSTER\tx\tdefault\n"
    monkeypatch.setenv("ECS_CHECKPOINT", "false")
    assert main(["config", "--offline"]) == 0
    told = capsys.readouterr()
    assert "AWS_DEFAULT_REGION\tus-east-1\tthe environment\n" in told.out
    assert "ECS_CHECKPOINT\tfalse\tthe environment (no effect)\n" in told.out
    assert "ECS_CHECKPOINT (the environment) has no effect" in told.err


def test_config_tells_every_mistake(data_directory, capsys, monkeypatch) -> None:
    monkeypatch.setenv("ECS_LOGLEVEL", "loud")
    monkeypatch.setenv("BERTH_PULL_SLOTS", "0")
    assert main(["config", "--offline"]) == 2
    told = capsys.readouterr().err
    assert "ECS_LOGLEVEL='loud'" in told
    assert "BERTH_PULL_SLOTS='0'" in told


def test_env_prints_what_a_shell_and_the_aws_cli_understand(agent, data_directory, capsys) -> None:
    assert main(["env"]) == 0
    lines = capsys.readouterr().out.splitlines()
    exported = dict(shlex.split(line)[1].split("=", 1) for line in lines if line.startswith("export "))
    keys = json.loads((data_directory / "credentials.json").read_text())
    assert set(exported.values()) >= set(keys.values())
    assert exported["AWS_ENDPOINT_URL_ECS"] == f"http://{agent.address}"
    assert exported["AWS_REGION"] == exported["AWS_DEFAULT_REGION"] == "us-east-1"


def test_env_quotes_what_a_shell_would_eat(data_directory, capsys) -> None:
    data_directory.mkdir()
    document = {
        "access_key_id": "FAKE",
        "secret_access_key": "a'b $(c)",
        "endpoint": "http://127.0.0.1:1",
        "region": "eu-west-1",
    }
    (data_directory / "credentials.json").write_text(json.dumps(document))
    assert main(["env"]) == 0
    shown = capsys.readouterr().out
    seen = subprocess.run(
        ["sh", "-c", f'{shown}\nprintf %s "$AWS_SECRET_ACCESS_KEY|$AWS_REGION"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout == "a'b $(c)|eu-west-1"


def test_without_an_agent_every_command_says_so_and_ends_with_four(
    data_directory, capsys, monkeypatch
) -> None:
    for words in (["ps"], ["env"], ["run", "web"], ["stop", "abcd"], ["status"]):
        monkeypatch.setenv("BERTH_INTROSPECTION_ADDRESS", "127.0.0.1:1")
        assert main(words) == 4, words
        assert "berth agent" in capsys.readouterr().err


def test_an_agent_that_went_away_is_not_running(agent, data_directory, capsys, monkeypatch) -> None:
    monkeypatch.setenv("BERTH_API_ADDRESS", "127.0.0.1:1")
    assert main(["ps"]) == 4
    assert "nothing listens on http://127.0.0.1:1" in capsys.readouterr().err


def test_a_key_file_that_may_not_be_read_falls_back_to_the_environment_of_berth_env(
    agent, data_directory, monkeypatch, capsys
) -> None:
    keys = json.loads((data_directory / "credentials.json").read_text())
    read_text = Path.read_text

    def refused(path: Path, *arguments, **options) -> str:
        if path.name == "credentials.json":
            raise PermissionError(13, "Permission denied")
        return read_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refused)
    assert main(["ps"]) == 1
    assert "use sudo" in capsys.readouterr().err
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys["accessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys["secretAccessKey"])
    assert main(["ps"]) == 1, "keys without our endpoint are the keys of a real account"
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", "https://ecs.us-east-1.amazonaws.com")
    assert main(["ps"]) == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL_ECS", f"http://{agent.address}")
    assert main(["ps"]) == 0


def test_the_keys_of_an_agent_with_another_data_directory_are_found(
    agent, data_directory, monkeypatch, tmp_path, capsys
) -> None:
    agent.answers["/berth/v1/config"] = (
        200,
        {"settings": [{"name": "ECS_DATADIR", "value": str(data_directory)}]},
    )
    monkeypatch.setenv("ECS_DATADIR", str(tmp_path / "elsewhere"))
    assert main(["ps"]) == 0
    agent.answers["/berth/v1/config"] = (200, {"settings": []})
    assert main(["ps"]) == 4
    assert f"there is no {tmp_path}/elsewhere/credentials.json" in capsys.readouterr().err


def test_a_broken_key_file_says_what_to_do(data_directory, capsys) -> None:
    data_directory.mkdir()
    (data_directory / "credentials.json").write_text("{}")
    assert main(["ps"]) == 1
    assert "is no key pair" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["fly"],
        ["run"],
        ["ps", "--nonsense"],
        ["run", "x", "--count", "0"],
        ["logs", "abcd", "--tail", "-1"],
        ["run", "x", "--count", "1e3"],
    ],
)
def test_wrong_use_ends_with_two(words, capsys) -> None:
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "usage:" in told or "berth help" in told or "did you mean" in told


def test_help_ends_with_zero_and_names_every_word(capsys) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for word in (
        "agent",
        "env",
        "config",
        "status",
        "leaks",
        "version",
        "run",
        "ps",
        "describe",
        "logs",
        "stop",
        "explain",
    ):
        assert f"\n  {word} " in shown


def test_version_is_quick_and_imports_nothing_heavy() -> None:
    program = "import sys; from agent.cli.main import main; main(['version']); print(sorted(sys.modules))"
    seen = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout.startswith(f"berth {__version__}\n")
    for heavy in ("structlog", "asyncio", "aiohttp", "botocore", "json", "dataclasses", "http.client"):
        assert f"'{heavy}'" not in seen.stdout, heavy


def test_version_as_json(capsys) -> None:
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": __version__}


def test_agent_hands_its_file_to_the_daemon_and_its_code_on(monkeypatch) -> None:
    given = []

    def daemon(env_file: Path | None) -> int:
        given.append(env_file)
        return 5

    monkeypatch.setitem(sys.modules, "agent.daemon", SimpleNamespace(main=daemon))
    assert main(["agent", "--env-file", "/etc/other"]) == 5
    assert main(["agent"]) == 5
    assert given == [Path("/etc/other"), None]


def test_the_package_is_the_command_too() -> None:
    seen = subprocess.run(
        [sys.executable, "-m", "agent", "fly"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert seen.returncode == 2
    assert "there is no word 'fly'" in seen.stderr


def test_a_reader_that_has_seen_enough_is_no_failure(agent) -> None:
    for number in range(200):
        agent.add_task(number)
    for words, first in ((["ps", "--json"], "{"), (["status", "--help"], "usage")):
        shell = f"({sys.executable} -m agent {' '.join(words)}; echo code $? >&2) | head -c {len(first)}"
        seen = subprocess.run(["sh", "-c", shell], cwd=ROOT, capture_output=True, text=True, check=True)
        assert seen.stdout == first
        assert seen.stderr == "code 0\n"
