"""Runs ``deploy/berth.service`` under the real systemd, inside of ``tests.machine``: a program, for root.

systemd becomes the first process of one more PID namespace. Only this unit and what the program starts run under
it: the units that would touch devices are not pulled in. The unit is the one of the tree; a drop-in names the
program of the tree, shortens the times, and leaves out the dependencies of a whole boot. Tasks cannot run here:
Docker's processes are outside of the namespace.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
UNITS = Path("/run/systemd/system")
BOOTED: list[int] = []
DROP_IN = f"""
[Unit]
DefaultDependencies=no
[Service]
ExecStart=
ExecStart={TREE}/.venv/bin/berth agent
Environment=BERTH_BACKEND=local ECS_CNI_PLUGINS_PATH={TREE}/build/cni BERTH_PAUSE_PATH=%E/pause
Environment=BERTH_LOG_CONSOLE=json
WatchdogSec=6s
RestartSec=500ms
StandardOutput=append:/run/agent.log
StandardError=append:/run/agent.log
"""
BOOT = """
mount -t proc proc /proc
: >/run/console
mount --bind /run/console /dev/console
export container=berth
exec /lib/systemd/systemd --system --unit=only.target --log-target=console
"""


def systemctl(*words: str) -> "subprocess.CompletedProcess[str]":
    """A finished command. It is run inside of systemd's namespace: it answers nobody from outside."""
    systemd = Path(f"/proc/{BOOTED[0]}/task/{BOOTED[0]}/children").read_text().split()
    enter = ["nsenter", f"--target={systemd[0]}", "--pid", "--mount"] if systemd else []
    return subprocess.run(
        [*enter, "systemctl", *words], capture_output=True, text=True, timeout=90, check=False
    )


def show(name: str) -> str:
    """A property of the unit."""
    return systemctl("show", "berth.service", f"--property={name}", "--value").stdout.strip()


def until(what: str, holds: Callable[[], bool], seconds: float = 40.0) -> None:
    """Wait until it is true, or end with what was awaited."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            state = {
                name: show(name) for name in ("ActiveState", "SubState", "Result", "StatusText", "NRestarts")
            }
            log = Path("/run/agent.log")
            said = log.read_text(errors="replace")[-3000:] if log.exists() else ""
            console = Path("/run/console").read_text(errors="replace")[-3000:]
            sys.exit(f"not within {seconds:g} s: {what}; {state}\n{said}\n{console}")
        time.sleep(0.1)


def main() -> None:
    """Boot, and tell on stdout what was seen, one fact a line. Any surprise ends it with a message."""
    UNITS.mkdir(parents=True)
    (UNITS / "only.target").write_text("[Unit]\nDefaultDependencies=no\n")
    for name in ("docker.service", "network-online.target", "cloud-final.service"):
        (UNITS / name).symlink_to("/dev/null")
    (UNITS / "berth.service").write_text((TREE / "deploy/berth.service").read_text())
    (UNITS / "berth.service.d").mkdir()
    (UNITS / "berth.service.d/test.conf").write_text(DROP_IN)
    Path("/etc/pause").symlink_to(TREE / "build/pause")
    booted = subprocess.Popen(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--cgroup", "bash", "-ec", BOOT]
    )
    try:
        BOOTED.append(booted.pid)
        until("systemd answers", lambda: show("Id") == "berth.service")
        tell()
    finally:
        booted.kill()
        booted.wait(10)


def tell() -> None:
    """What the unit does."""
    print("started", systemctl("start", "berth.service").returncode, flush=True)
    print("state", show("ActiveState"), show("SubState"), flush=True)
    until("a status", lambda: "0 of 0 tasks running" in show("StatusText"))
    print("status", show("StatusText"), flush=True)
    time.sleep(15)  # more than twice WatchdogSec
    print("restarts", show("NRestarts"), show("ActiveState"), flush=True)

    pid = pid_here()
    os.kill(pid, signal.SIGSTOP)
    until("a restart by the watchdog", lambda: show("NRestarts") == "1" and show("ActiveState") == "active")
    print("after-hang", show("NRestarts"), pid_here() != pid, flush=True)

    os.kill(pid_here(), signal.SIGKILL)
    until("a restart after kill -9", lambda: show("NRestarts") == "2" and show("ActiveState") == "active")
    print("after-kill", show("NRestarts"), flush=True)
    print("kept", Path("/run/berth").is_dir(), flush=True)

    print(
        "stopped",
        systemctl("stop", "berth.service").returncode,
        show("ActiveState"),
        show("Result"),
        flush=True,
    )
    print("kept", Path("/run/berth").is_dir(), flush=True)

    Path("/etc/pause").unlink()  # now every start ends with 5
    systemctl("start", "berth.service")
    until("the end", lambda: show("ActiveState") == "failed")
    time.sleep(2)
    print("final", show("ActiveState"), show("ExecMainStatus"), flush=True)


def pid_here() -> int:
    """The agent's process, as this namespace numbers it."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if len(words) > 2 and words[1].endswith(b"/berth") and words[2] == b"agent":
            return int(process.name)
    sys.exit("the agent does not run")


if __name__ == "__main__":
    main()
