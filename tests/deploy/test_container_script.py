"""The script that runs the agent's image for systemd, with a Docker and a systemd-notify that only take notes."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "berth-container.sh"

DOCKER = """#!/bin/bash
echo "docker $*" >>"$NOTES"
case $1 in
    run)
        echo "env ${NOTIFY_SOCKET-none}" >>"$NOTES"
        until [ -e "$FOLDER/ended" ]; do sleep 0.05; done
        exit "$(cat "$FOLDER/ended")"
        ;;
    stop)
        [ "${STOPPED_WITH:-0}" != never ] || exit 1
        echo "${STOPPED_WITH:-0}" >"$FOLDER/ended"
        ;;
    rm) exit 0 ;;
    inspect) [ -e "$FOLDER/still-there" ] && echo true ;;
esac
"""
NOTIFY = """#!/bin/bash
echo "notify $*" >>"$NOTES"
"""
WELL = b'{"status":"OK","reasons":[]}'
DOCKER_AWAY = b'{"status":"IMPAIRED","reasons":[{"component":"runtime","reason":"no answer"}]}'
STUCK = b'{"status":"IMPAIRED","reasons":[{"component":"progress","reason":"no progress in task 1"}]}'


class Agent:
    """What answers for the agent: ``body`` with its status, or nothing at all while ``body`` is None."""

    def __init__(self) -> None:
        self.body: bytes | None = None
        agent = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if agent.body is None:
                    return
                self.send_response(200 if b'"OK"' in agent.body else 503)
                self.end_headers()
                self.wfile.write(agent.body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"


class Stage:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        self.notes.touch()
        self.agent = Agent()
        for name, text in (("docker", DOCKER), ("systemd-notify", NOTIFY), ("mkdir", "#!/bin/sh\n")):
            (folder / name).write_text(text, encoding="utf-8")
            (folder / name).chmod(0o755)
        self.environ = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "NOTES": str(self.notes),
            "FOLDER": str(folder),
            "ENV_FILE": str(folder / "ecs.config"),
            "BERTH_INTROSPECTION_ADDRESS": self.agent.address,
            "NOTIFY_SOCKET": "/run/nobody",
            "WATCHDOG_USEC": "2000000",
        }
        self.process: subprocess.Popen[str] | None = None

    def start(self, verb: str = "run") -> "subprocess.Popen[str]":
        self.process = subprocess.Popen(
            ["bash", str(SCRIPT), verb], env=self.environ, stderr=subprocess.PIPE, text=True
        )
        return self.process

    def end_container(self, code: int) -> None:
        (self.folder / "new").write_text(str(code), encoding="utf-8")
        (self.folder / "new").rename(self.folder / "ended")

    def count(self, note: str) -> int:
        return sum(line.startswith(note) for line in self.notes.read_text(encoding="utf-8").splitlines())

    def until(self, holds: Callable[[], bool], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, self.notes.read_text(encoding="utf-8")
            time.sleep(0.05)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    try:
        yield stage
    finally:
        stage.end_container(0)
        if stage.process is not None:
            stage.process.kill()
            stage.process.communicate()
        stage.agent.server.shutdown()
        stage.agent.server.server_close()


def test_systemd_hears_that_it_is_ready_when_it_answers_and_then_signs_of_life(stage: Stage) -> None:
    stage.start()
    stage.until(lambda: stage.count("notify --status=the agent does not answer") == 1)
    assert stage.count("notify --ready") == stage.count("notify WATCHDOG=1") == 0

    stage.agent.body = WELL
    stage.until(lambda: stage.count("notify WATCHDOG=1") >= 3)
    assert stage.count("notify --ready --status=the agent answers") == 1


def test_an_agent_whose_docker_is_away_is_ready_and_alive_and_the_status_says_so(stage: Stage) -> None:
    stage.agent.body = DOCKER_AWAY
    stage.start()
    stage.until(lambda: stage.count("notify WATCHDOG=1") >= 2)
    assert stage.count("notify --ready --status=the agent answers; impaired: runtime") == 1


@pytest.mark.parametrize("body", [STUCK, None])
def test_no_sign_of_life_is_handed_on_for_an_agent_that_is_stuck(stage: Stage, body: bytes | None) -> None:
    stage.agent.body = WELL
    stage.start()
    stage.until(lambda: stage.count("notify WATCHDOG=1") >= 1)

    stage.agent.body = body
    time.sleep(1.5)  # what was asked before may still be told
    before = stage.count("notify WATCHDOG=1")
    time.sleep(3)
    assert stage.count("notify WATCHDOG=1") == before

    stage.agent.body = WELL
    stage.until(lambda: stage.count("notify WATCHDOG=1") > before)


@pytest.mark.parametrize("code", [0, 1, 5, 125, 137])
def test_the_exit_code_of_docker_run_is_that_of_the_script(stage: Stage, code: int) -> None:
    process = stage.start()
    stage.until(lambda: stage.count("docker run") == 1)
    stage.end_container(code)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert ("a new start does not help" in errors) == (code == 5)


def test_a_client_that_lost_its_docker_is_a_failure_for_nobody_watches_the_container(stage: Stage) -> None:
    process = stage.start()
    stage.until(lambda: stage.count("docker run") == 1)
    (stage.folder / "still-there").touch()
    stage.end_container(0)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "Docker was restarted" in errors


@pytest.mark.parametrize("code", [0, 5])
def test_a_stop_of_the_unit_is_docker_stop_with_the_code_of_the_agent(stage: Stage, code: int) -> None:
    stage.environ["STOPPED_WITH"] = str(code)
    stage.agent.body = WELL
    process = stage.start()
    stage.until(lambda: stage.count("notify --ready") == 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == code
    assert stage.count("docker stop --time 20 ecs-agent") == 1
    assert stage.count("notify --stopping") == 1
    assert stage.count("docker kill") == 0


def waits(process: "subprocess.Popen[str]") -> int:
    """How often it has gone to sleep."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_a_docker_that_does_not_stop_the_container_is_waited_for_without_haste(stage: Stage) -> None:
    stage.environ["STOPPED_WITH"] = "never"
    stage.agent.body = WELL
    process = stage.start()
    stage.until(lambda: stage.count("notify --ready") == 1)
    time.sleep(0.5)  # in the pause between two questions
    process.send_signal(signal.SIGTERM)
    stage.until(lambda: stage.count("docker stop") == 1)
    before = waits(process)
    time.sleep(3)
    assert waits(process) - before < 100
    assert process.poll() is None
    stage.end_container(0)
    assert process.wait(10) == 0


def test_an_old_container_is_removed_first_and_the_mounts_are_those_of_the_documents(stage: Stage) -> None:
    Path(stage.environ["ENV_FILE"]).touch()
    process = stage.start()
    stage.until(lambda: stage.count("docker run") == 1)
    notes = stage.notes.read_text(encoding="utf-8").splitlines()
    run = next(line for line in notes if line.startswith("docker run"))
    assert notes.index("docker rm --force ecs-agent") < notes.index(run)
    for option in (
        "--name ecs-agent --privileged --net=host --pid=host",
        f"--env-file {stage.environ['ENV_FILE']}",
        "-v /var/run/docker.sock:/var/run/docker.sock",
        "-v /var/lib/ecs:/var/lib/ecs",
        "-v /var/log/ecs:/var/log/ecs",
        "-v /run/netns:/run/netns:shared",
        "-v /sys/fs/cgroup:/sys/fs/cgroup",
    ):
        assert option in run
    assert run.endswith(" berth/agent")
    stage.until(lambda: stage.count("env none") == 1)  # systemd's socket is not the container's
    stage.end_container(0)
    assert process.wait(timeout=20) == 0


def test_privileges_are_words_that_may_be_chosen_and_an_absent_env_file_is_no_option(stage: Stage) -> None:
    stage.environ |= {"PRIVILEGES": "--cap-drop=ALL --cap-add=NET_ADMIN", "IMAGE": "berth/agent:other"}
    stage.start()
    stage.until(lambda: stage.count("docker run") == 1)
    notes = stage.notes.read_text(encoding="utf-8")
    assert "--name ecs-agent --cap-drop=ALL --cap-add=NET_ADMIN --net=host" in notes
    assert "--env-file" not in notes
    assert "berth/agent:other\n" in notes


def test_an_old_container_that_cannot_be_removed_is_said_and_tried_again(stage: Stage) -> None:
    (stage.folder / "still-there").touch()
    process = stage.start()
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "cannot be removed" in errors
    assert stage.count("docker run") == 0


def test_without_systemd_it_runs_and_tells_nobody(stage: Stage) -> None:
    del stage.environ["NOTIFY_SOCKET"]
    stage.agent.body = WELL
    process = stage.start()
    stage.until(lambda: stage.count("docker run") == 1)
    time.sleep(1.5)
    stage.end_container(0)
    assert process.wait(timeout=20) == 0
    assert stage.count("notify") == 0


def test_nobody_listening_is_no_answer(stage: Stage) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        stage.environ["BERTH_INTROSPECTION_ADDRESS"] = f"127.0.0.1:{closed.getsockname()[1]}"
        stage.start()
        stage.until(lambda: stage.count("notify --status=the agent does not answer") == 1)


def test_clear_removes_the_container(stage: Stage) -> None:
    assert stage.start("clear").wait(timeout=20) == 0
    assert stage.count("docker rm --force ecs-agent") == 1


def test_an_unknown_verb_is_refused(stage: Stage) -> None:
    process = stage.start("destroy")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 64
    assert "usage" in errors
