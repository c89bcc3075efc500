"""How a life of the agent ends before it has begun: with a sentence that says what to do, and the right code."""

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from agent import daemon
from agent.daemon.license import license_text
from agent.daemon.life import alone, claimed
from agent.model.errors import CannotStart
from agent.settings import Settings


@dataclass(frozen=True)
class Ended:
    """How a process of ``berth agent`` ended, and what it said last."""

    code: int
    errors: str

    @property
    def reason(self) -> str:
        lines = [json.loads(line) for line in self.errors.splitlines() if line.startswith("{")]
        return str(next(line["reason"] for line in lines if line["event"] == "agent.failed"))


def run_agent(environ: dict[str, str]) -> Ended:
    command = [sys.executable, "-m", "agent", "agent"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)
    return Ended(done.returncode, done.stderr)


def environ(tmp_path: Path, **more: str) -> dict[str, str]:
    env_file = tmp_path / "ecs.config"
    env_file.touch()
    return {
        "BERTH_ENV_FILE": str(env_file),
        "ECS_DATADIR": str(tmp_path / "data"),
        "BERTH_RUN_DIRECTORY": str(tmp_path / "run"),
        "BERTH_PAUSE_PATH": str(tmp_path / "pause"),
        "BERTH_LOG_CONSOLE": "json",
        **more,
    }


def test_every_wrong_setting_is_named_at_once(tmp_path: Path) -> None:
    wrong = environ(tmp_path, ECS_CONTAINER_STOP_TIMEOUT="soon", BERTH_VPC_CIDR="10.0.0.0/99")
    ended = run_agent(wrong)
    assert ended.code == daemon.RETRIABLE
    assert "ECS_CONTAINER_STOP_TIMEOUT" in ended.errors
    assert "soon" in ended.errors
    assert "BERTH_VPC_CIDR" in ended.errors


def test_a_log_file_that_cannot_be_written_ends_the_start_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = run_agent(environ(tmp_path, ECS_LOGFILE=str(tmp_path / "file/agent.log")))
    assert ended.code == daemon.TERMINAL
    assert f"{tmp_path}/file/agent.log of ECS_LOGFILE" in ended.reason
    assert "Traceback" not in ended.errors


def test_in_a_container_what_was_not_given_is_told_before_anything_is_made(tmp_path: Path) -> None:
    given = environ(tmp_path, BERTH_IN_CONTAINER="true", DOCKER_HOST=f"unix://{tmp_path}/docker.sock")
    ended = run_agent(given)
    assert ended.code == daemon.TERMINAL
    assert f"add -v {tmp_path}/docker.sock:{tmp_path}/docker.sock" in ended.reason
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "run").exists()


def test_a_missing_pause_image_is_final_and_says_how_to_build_it(tmp_path: Path) -> None:
    ended = run_agent(environ(tmp_path))
    assert ended.code == daemon.TERMINAL
    assert "make build" in ended.reason
    assert "BERTH_PAUSE_PATH" in ended.reason


def test_memory_that_is_all_reserved_is_refused(tmp_path: Path) -> None:
    pause = tmp_path / "pause"
    pause.mkdir()
    for architecture in ("amd64", "arm64"):
        described = {"image_id": "sha256:0", "name": "pause:1", "archive": "pause.tar"}
        (pause / f"pause-{architecture}.json").write_text(json.dumps(described))
    ended = run_agent(environ(tmp_path, ECS_RESERVED_MEMORY="99999999"))
    assert ended.code == daemon.TERMINAL
    assert "ECS_RESERVED_MEMORY is 99999999 MiB" in ended.reason


def test_a_second_agent_on_the_same_state_is_refused_with_the_process_id_of_the_first(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with (data / "agent.lock").open("w") as lock:
        lock.write("4242")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = run_agent(environ(tmp_path))
    assert ended.code == daemon.RETRIABLE
    assert "process 4242" in ended.reason


def test_the_machines_network_is_held_by_one_agent_whatever_its_state_is() -> None:
    name = f"berth-test-{uuid.uuid4().hex}"
    hold = (
        f"from agent.daemon.life import claimed\nwith claimed({name!r}): print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(CannotStart, match=f"process {first.pid}\\).*another ECS_DATADIR"), claimed(name):
            pass
        first.kill()
        first.wait()
    with claimed(name):
        pass


def test_a_data_directory_of_an_impossible_name_is_refused_in_a_sentence(tmp_path: Path) -> None:
    ended = run_agent(environ(tmp_path, ECS_DATADIR=str(tmp_path / ("x" * 300))))
    assert ended.code == daemon.TERMINAL
    assert "File name too long; run as root, or set ECS_DATADIR" in ended.reason


def test_a_disk_without_room_for_a_number_does_not_keep_the_agent_from_its_tasks(tmp_path: Path) -> None:
    settings = Settings.load(environ(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with structlog.testing.capture_logs() as lines:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        try:
            with alone(settings):
                pass
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [line["event"] for line in lines] == ["lock.not_signed"]
    assert (tmp_path / "data/agent.lock").read_text() == ""


def test_a_full_disk_is_tried_again_and_the_message_says_what_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(path: Path, **_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    settings = Settings.load(environ(tmp_path))
    monkeypatch.setattr(Path, "mkdir", no_room)
    with (
        pytest.raises(CannotStart, match="data: No space left on device; make room") as caught,
        alone(settings),
    ):
        pass
    assert not caught.value.is_final


def test_a_data_directory_that_cannot_be_made_names_the_setting(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    ended = run_agent(environ(tmp_path, ECS_DATADIR=str(in_the_way / "data")))
    assert ended.code == daemon.TERMINAL
    assert "ECS_DATADIR" in ended.reason


def test_the_licence_is_the_one_in_the_tree() -> None:
    assert license_text().lstrip().startswith("Apache License")


_LATE_SIGNALS = """
import os, signal, sys
from agent import daemon

async def live(*_):
    return None

daemon.live = live
code = daemon.main()
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGINT)
sys.exit(code)
"""


def test_a_second_signal_at_the_very_end_does_not_change_the_exit_code(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LATE_SIGNALS]
    done = subprocess.run(
        command, env=environ(tmp_path), capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, "agent.stopped" in done.stderr) == (0, True), done
