import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.cli import completion_scripts
from agent.cli.completion import complete
from agent.cli.main import main
from agent.cli.vocabulary import WORDS

ROOT = Path(__file__).parents[3]
FIRST, SECOND = "8f0c" + "0" * 28, "1b9e" + "0" * 28


@pytest.fixture
def berth(tmp_path: Path) -> str:
    """The command under its own name, wherever these tests run."""
    script = tmp_path / "bin" / "berth"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m agent "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def two_tasks(agent):
    def task(identity: str, *containers: str) -> dict:
        return {
            "id": identity, "arn": f"arn:x:task/shop/{identity}", "family": "web", "revision": "1",
            "cluster": "shop", "status": "RUNNING", "containers": [{"name": name} for name in containers],
        }  # fmt: skip

    agent.answers["/berth/v1/tasks"] = (200, {"tasks": [task(FIRST, "web", "api"), task(SECOND, "job")]})
    agent.answers["/v1/metadata"] = (200, {"Cluster": "default"})
    return agent


def offered(berth: str, *words: str) -> list[str]:
    """What a real bash offers for the last word."""
    program = completion_scripts.bash() + (
        '\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _berth; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    shell = ["bash", "--norc", "-c", program, "bash", berth, *words]
    seen = subprocess.run(shell, capture_output=True, text=True, check=True, cwd=ROOT)
    assert seen.stderr == ""
    return seen.stdout.split()


def test_bash_completes_words_and_options_without_an_agent(berth, data_directory, monkeypatch) -> None:
    monkeypatch.setenv("BERTH_INTROSPECTION_ADDRESS", "127.0.0.1:1")
    assert offered(berth, "he") == ["healthcheck", "help"]
    assert offered(berth, "logs", "--t") == ["--tail", "--timestamps", "--task"]
    assert offered(berth, "ps", "--color", "a") == ["auto", "always"]
    assert offered(berth, "ps", "--color", "=", "n") == ["never"]
    assert offered(berth, "ps", "--status", "ST") == ["STOPPING", "STOPPED"]
    assert offered(berth, "help", "ex") == ["explain"]
    assert offered(berth, "doctor", "cl") == ["clock-source"]
    assert offered(berth, "doctor", "--fix", "disk", "live") == ["live-restore"]
    assert offered(berth, "run", "pypro") == ["pyproject.toml"]
    assert offered(berth, "stop", "") == [], "no agent, no ids, and no message either"


def test_bash_completes_what_the_agent_knows(berth, two_tasks) -> None:
    assert offered(berth, "stop", "8") == [FIRST]
    assert offered(berth, "stop", FIRST, "") == [SECOND]
    assert offered(berth, "logs", "--tail", "5", FIRST, "") == ["web", "api"]
    assert offered(berth, "describe", FIRST, "") == []
    assert offered(berth, "ps", "--cluster", "") == ["default", "shop"]
    assert offered(berth, "ps", "--family", "w") == ["web"]
    assert offered(berth, "logs", "--agent", "--task", "1") == [SECOND]


def test_nothing_that_a_shell_would_run_is_offered(two_tasks, capsys) -> None:
    tasks = two_tasks.answers["/berth/v1/tasks"][1]["tasks"]
    for number, family in enumerate(("$(reboot)", "a b", "`id`", "-x", "ok")):
        tasks[number % 2]["family"] = family
        assert complete(["family"]) == 0
    assert capsys.readouterr().out.split() == ["web", "ok"]


def test_an_agent_that_hangs_costs_a_second_and_says_nothing(two_tasks, monkeypatch, capfd) -> None:
    answer = two_tasks.introspect
    monkeypatch.setattr(two_tasks, "introspect", lambda *asked: (time.sleep(4), answer(*asked))[1])
    begun = time.monotonic()
    assert complete(["task"]) == 0
    assert time.monotonic() - begun < 3.5
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("answer", [(200, {}), (200, {"tasks": [{}]}), (200, b"no JSON"), (500, {})])
def test_an_answer_of_another_version_offers_nothing_and_says_nothing(agent, answer, capfd) -> None:
    agent.answers["/berth/v1/tasks"] = answer
    for kind in ("task", "family", "cluster", "nonsense"):
        assert complete([kind]) == 0
    assert complete([]) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_word_and_option_is_in_every_script(shell, capsys) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in WORDS:
        assert word.name in script
        for option in word.options:
            for name in () if option.is_positional else option.names:
                assert (name if shell != "fish" else name.lstrip("-")) in script


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_understands(shell, capsys) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    main(["completion", shell])
    subprocess.run([shell, "-n"], input=capsys.readouterr().out, text=True, check=True)


def test_another_shell_is_refused_by_name(capsys) -> None:
    assert main(["completion", "csh"]) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err
