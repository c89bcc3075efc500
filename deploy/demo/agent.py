"""The agent of the demonstration as a process of its own: started, killed, started again, stopped."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

from deploy.demo.stage import BIN, ENV_FILE, PLACE, TREE, Untrue, environment, quiet, wait

PID_FILE = PLACE / "agent.pid"
LOG_FILE = PLACE / "agent.log"
INTROSPECTION = "http://127.0.0.1:51678"

CLUSTER = "demo"

SETTINGS = {
    "BERTH_BACKEND": "local",
    "ECS_CLUSTER": CLUSTER,
    "ECS_DATADIR": str(PLACE / "data"),
    "BERTH_RUN_DIRECTORY": str(PLACE / "run"),
    "ECS_CNI_PLUGINS_PATH": str(TREE / "build/cni"),
    "BERTH_PAUSE_PATH": str(TREE / "build/pause"),
    # stopped containers are kept for hours elsewhere; here the audience wants to see them go
    "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION": "3s",
    "ECS_CONTAINER_STOP_TIMEOUT": "10s",
    "BERTH_LOG_CONSOLE": "json",
}


def write_settings() -> None:
    """The environment file that agent and command line read."""
    PLACE.mkdir(parents=True, exist_ok=True)
    ENV_FILE.write_text("".join(f"{name}={value}\n" for name, value in SETTINGS.items()))


def refuse_another() -> None:
    """Raise ``Untrue`` if an agent that is not the demonstration's has tasks here: both use one network."""
    label = "com.amazonaws.ecs.cluster"
    named = quiet("docker", "ps", "--filter", f"label={label}", "--format", f'{{{{.Label "{label}"}}}}')
    strangers = sorted(set(named.split()) - {CLUSTER})
    if strangers:
        raise Untrue(
            "no other agent's tasks run on this machine: there are containers of the cluster "
            f"{', '.join(strangers)}. Stop them with their own agent (berth stop). If that is gone for good: "
            f"docker rm -f $(docker ps -q --filter label={label}={strangers[0]})"
        )
    if running_pid() is None and _is_answered():
        raise Untrue(
            f"no other agent runs on this machine: one answers on {INTROSPECTION}; stop it (Ctrl-C where "
            "make run was typed) and try again"
        )


def start() -> float:
    """Start the agent and wait until it is ready; the seconds that took. Raise ``Untrue`` if it ends."""
    began = time.monotonic()
    with LOG_FILE.open("ab") as log:
        process = subprocess.Popen(
            [BIN / "berth", "agent"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(),
            cwd=TREE,
            start_new_session=True,
        )
    PID_FILE.write_text(str(process.pid))
    wait("the agent is ready", lambda: _answers(process))
    return time.monotonic() - began


def kill() -> int:
    """``kill -9``; the process id. Nothing is finished, nothing is said."""
    pid = running_pid()
    if pid is None:
        raise Untrue("the agent runs")
    os.kill(pid, signal.SIGKILL)
    _reap(pid)
    return pid


def stop() -> None:
    """SIGTERM, and wait for the end; fine if it does not run."""
    pid = running_pid()
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        _reap(pid)
    PID_FILE.unlink(missing_ok=True)


def running_pid() -> int | None:
    """The process id of the demonstration's agent, if it runs."""
    try:
        pid = int(PID_FILE.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"agent" in command and any(word.endswith(b"berth") for word in command) else None


def _answers(process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        tail = LOG_FILE.read_text(errors="replace").splitlines()[-5:]
        raise Untrue("the agent starts; its log ends with:\n" + "\n".join(tail))
    return _is_answered()


def _is_answered() -> bool:
    try:
        with urllib.request.urlopen(f"{INTROSPECTION}/v1/metadata", timeout=2) as answer:  # noqa: S310 - http
            return bool(answer.status == 200)  # noqa: PLR2004 - HTTP
    except OSError:
        return False


def _reap(pid: int) -> None:
    """Until the process is gone, whether it is a child of ours or of an earlier demonstration."""

    def is_gone() -> bool:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return not Path(f"/proc/{pid}").exists()

    wait("the agent ends", is_gone)
